/* The list of devices at the daemon's start: devices/list.h over what telemetry knows of GPUs, with
 * each GPU opened once by a child, since the daemon itself never touches CUDA. Thread: loop thread,
 * before the loop runs. */
#ifndef VX_DAEMON_DEVICES_FIND_H
#define VX_DAEMON_DEVICES_FIND_H

#include <stdint.h>

struct uv_loop_s;
struct vx_child;
struct vx_children;
struct vx_config;
struct vx_device_list;
struct vx_err;
struct vx_found_devices;
struct vx_host_device;
struct vx_telemetry;

#define VX_PROBE_S 60 /* a GPU that takes longer to open is of no use */

/* Runs the loop until the children have ended. Says what it found in a line of the log, and what it
 * left out in another. *ret: release after the loop has ended for good; on success only. */
int vx_devices_find(struct uv_loop_s *loop, const struct vx_config *config,
                    struct vx_telemetry *telemetry, struct vx_children *children,
                    struct vx_found_devices **ret, struct vx_err *err);
/* Borrowed, constant from now on. */
const struct vx_device_list *vx_found_devices(const struct vx_found_devices *f);
void vx_found_devices_free(struct vx_found_devices *f); /* accepts NULL */

/* Starts `voxeld probe` for a GPU. done, once: NULL where it can be used. */
int vx_device_probe(struct vx_children *children, const struct vx_host_device *device,
                    void (*done)(void *ctx, const struct vx_err *err), void *ctx,
                    struct vx_child **ret, struct vx_err *err);

#endif
