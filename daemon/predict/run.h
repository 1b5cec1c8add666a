/* The supervisor of one prediction: a `voxeld predict --continue` under a memory limit, restarted
 * with growing pauses after a crash. Every finished case counts as a checkpoint: the restarted
 * process keeps it. Thread: blocks the calling one, that of the device. */
#ifndef VX_DAEMON_PREDICT_RUN_H
#define VX_DAEMON_PREDICT_RUN_H

#include "daemon/session/supervisor.h"

struct vx_predict_run {
    const json_t *brief;                /* plan.h; borrowed */
    struct vx_session_mailbox *mailbox; /* stop and cancel */
    const char *device, *gpu;           /* struct vx_session_options */
    uint64_t memory_limit;              /* of the process, bytes; 0: none */
    /* One JSON line of the process. Borrowed. */
    void (*line)(void *ctx, const json_t *line);
    /* It crashed; evidence as session/supervisor.h has it, with the case in the network. False
     * where the job must not go on. */
    bool (*crashed)(void *ctx, const json_t *evidence, bool had_new_case);
    /* struct vx_session_events */
    void (*device_lost)(void *ctx, const json_t *evidence);
    void *ctx;
};

/* As vx_session_run. *ret_result: of the process' "result" line; new reference or NULL. */
int vx_predict_run(const struct vx_predict_run *run, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err);

#endif
