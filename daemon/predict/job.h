/* A job of type predict on a device's thread: its process supervised, its progress and events
 * stored, its log written. Thread: that of the device. */
#ifndef VX_DAEMON_PREDICT_JOB_H
#define VX_DAEMON_PREDICT_JOB_H

#include "daemon/session/supervisor.h"

struct vx_journal;

struct vx_predict_job {
    const char *brief_path;
    const struct vx_journal *journal;
    struct vx_session_mailbox *mailbox;
    const char *device, *gpu; /* struct vx_session_options */
    uint64_t memory_limit;    /* of the process; 0: none */
    /* struct vx_session_events */
    void (*device_lost)(void *ctx, const json_t *evidence);
    void *ctx; /* of device_lost */
};

/* As vx_session_run. */
int vx_predict_job(const struct vx_predict_job *job, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err);

#endif
