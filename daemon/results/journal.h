/* What the thread of a device writes into the store about its job: phases, progress, events,
 * checkpoints, crashes, the end. Notes are submitted and forgotten; crashes and the end wait for
 * the disk. Thread: the one that runs the job, never the loop thread. */
#ifndef VX_DAEMON_RESULTS_JOURNAL_H
#define VX_DAEMON_RESULTS_JOURNAL_H

#include "daemon/session/supervisor.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_store;

struct vx_journal {
    struct vx_store *store; /* borrowed */
    int64_t job;
};

/* NULL and false leave out what is not meant; strings are heap memory and taken over. */
struct vx_note {
    bool checkpointed;
    int64_t checkpoint; /* steps that the newest checkpoint holds */
    char *phase;
    char *progress; /* JSON */
    char *event;    /* type, with data: JSON */
    char *data;
};

void vx_journal_note(const struct vx_journal *j, struct vx_note note);
/* The row of a finished epoch, from the line of step that tells of it. */
void vx_journal_epoch(const struct vx_journal *j, const json_t *line);
/* Has the job an event of that type, all notes before included? */
bool vx_journal_has(const struct vx_journal *j, const char *event);
/* An event of that type: the evidence with the device's name and UUID, and why it is lost. */
void vx_journal_device_lost(const struct vx_journal *j, const json_t *evidence, const char *device,
                            const char *uuid, const struct vx_err *why);
/* The store counts the crash (db/job.h). True where the job may go on; it is in state running
 * then. */
bool vx_journal_crash(const struct vx_journal *j, const json_t *evidence, bool had_new_checkpoint);

/* The job's last state: what it ended with, unless a cancel came before. A store that refuses for a
 * reason that may pass is asked until it accepts, or until `stopping` is set: the next start takes
 * care of the job then. wake_fd: an eventfd that is written to when stopping may have changed.
 * result: JSON text or NULL. */
void vx_journal_end(const struct vx_journal *j, enum vx_session_end end, const char *result,
                    const struct vx_err *err, int wake_fd, const atomic_bool *stopping);

#endif
