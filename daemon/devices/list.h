/* Which devices this daemon trains on: from its setting `devices`, the GPUs that NVIDIA's library
 * lists, and the variables that restrict them for CUDA's programs. Pure functions; no process is
 * started and CUDA is not touched. Thread: any. */
#ifndef VX_DAEMON_DEVICES_LIST_H
#define VX_DAEMON_DEVICES_LIST_H

#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_gpu_card;

#define VX_DEVICES_MAX     31                     /* one bit each in a mask */
#define VX_DEVICES_NOWHERE (1u << VX_DEVICES_MAX) /* the mask of what wants a device not there */

enum vx_device_kind { VX_KIND_CPU, VX_KIND_CUDA };

struct vx_host_device {
    char name[16]; /* "cpu:0", "cuda:1": the number of a GPU is nvidia-smi's, not CUDA's */
    enum vx_device_kind kind;
    uint32_t gpu;                   /* index among the cards; GPUs only */
    const struct vx_gpu_card *card; /* borrowed; NULL: a CPU */
};

struct vx_device_list {
    struct vx_host_device v[VX_DEVICES_MAX];
    uint32_t n;      /* at least 1 */
    char note[1024]; /* what was left out and why, for people; may be empty */
};

struct vx_devices_input {
    const char *setting; /* NULL: "auto" */
    unsigned cpu_jobs;   /* devices that the CPU counts as; 0: one */
    const struct vx_gpu_card *const *cards;
    uint32_t n_cards;
    const char *visible; /* CUDA_VISIBLE_DEVICES; NULL: not set */
    const char *order;   /* CUDA_DEVICE_ORDER; NULL: not set */
};

/* "auto": every GPU that can be used, without one the CPU. Otherwise words of "cpu" (cpu_jobs of
 * them), "cpu:N", "cuda" (every GPU that can be used), "cuda:N", separated by commas; GPUs named
 * that cannot be used are left out with a note, unless nothing is left then. VX_E_INVALID
 * "config_invalid". */
int vx_devices_list(const struct vx_devices_input *in, struct vx_device_list *ret,
                    struct vx_err *err);

/* GPU v[i] cannot be used after all; what takes its place where it was the last device of a
 * list made by "auto" is the CPU. False where a list that names devices is empty now. */
bool vx_devices_drop(const struct vx_devices_input *in, struct vx_device_list *l, uint32_t i,
                     const char *why);

/* Bits of the devices that a job with this resources.device may run on: "auto" (a GPU where there
 * are any, else the CPU), "cuda", "cpu", or a name. 0: none here. */
uint32_t vx_devices_match(const struct vx_device_list *l, const char *want);
/* True where every device of the mask is a GPU. */
bool vx_devices_gpus(const struct vx_device_list *l, uint32_t mask);
/* VX_E_INVALID "unknown_device" at /resources/device: what is not there, and what is. */
int vx_devices_refuse(const struct vx_device_list *l, const char *want, struct vx_err *err);

#endif
