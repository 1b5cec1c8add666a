/* What a process computes in, by what was asked for and what its device can. Thread: any. */
#ifndef VX_DAEMON_DEVICES_PRECISION_H
#define VX_DAEMON_DEVICES_PRECISION_H

struct vx_device_info;
struct vx_err;

/* asked: "auto" (GPUs: bf16, they do nothing else; the CPU: fp32), "fp32" or "bf16". *ret: enum
 * vx_precision. VX_E_UNSUPPORTED "precision_unsupported" where the device has it not. */
int vx_precision_choose(const char *asked, const struct vx_device_info *device, int *ret,
                        struct vx_err *err);
const char *vx_precision_word(int precision);

#endif
