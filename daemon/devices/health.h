/* May a GPU be given a job? It becomes unhealthy by what a process that held it said, or by what
 * NVIDIA's library says of it, and is tried again after a pause that doubles, or as soon as the
 * library says that it is back. Pure; times are of vx_now_ns. Thread: one at a time. */
#ifndef VX_DAEMON_DEVICES_HEALTH_H
#define VX_DAEMON_DEVICES_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct vx_gpu;

struct vx_health {
    bool unhealthy;
    char code[48];      /* of the reason: "device_lost", "xid_79", "gpu_lost", ... */
    char text[320];     /* for people */
    uint64_t again_ns;  /* not tried before */
    bool lost;          /* the library says so now */
    uint32_t in_row;    /* faults since it last did well */
    uint32_t faults;    /* since the start */
    uint32_t xids_seen; /* faults of struct vx_gpu that were taken note of */
};

/* pause_ns: the first pause; it doubles with every fault in a row, up to 32 times as long. */
void vx_health_fault(struct vx_health *h, const char *code, const char *text, uint64_t now_ns,
                     uint64_t pause_ns);
/* Takes note of a look at it. True where that is a new fault. */
bool vx_health_look(struct vx_health *h, const struct vx_gpu *look, uint64_t now_ns,
                    uint64_t pause_ns);
/* Unhealthy, and to be tried now. */
bool vx_health_due(const struct vx_health *h, uint64_t now_ns);
/* A try went well: it may be given jobs. */
void vx_health_tried(struct vx_health *h);
/* A job ended on it in peace: the next fault is the first in a row. */
void vx_health_did_well(struct vx_health *h);

#endif
