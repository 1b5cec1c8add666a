/* What a job leaves behind for people while it runs: log.txt in nnU-Net's line forms; of trainings
 * epochs.jsonl (one line of step per epoch; a later line of the same epoch replaces an earlier
 * one), progress.png. All in the job's folder. Thread: the supervisor's. */
#ifndef VX_DAEMON_RESULTS_RECORDER_H
#define VX_DAEMON_RESULTS_RECORDER_H

#include <jansson.h>
#include <stddef.h>

struct vx_err;
struct vx_recorder;

/* dir exists. Goes on after what is there. */
int vx_recorder_open(const char *dir, struct vx_recorder **ret, struct vx_err *err);
/* Takes one line of step: "epoch", "checkpoint", "case", "phase", "result" and errors are written
 * down. */
void vx_recorder_line(struct vx_recorder *r, const json_t *line);
/* One line of text into the log, with the time in front. */
void vx_recorder_say(struct vx_recorder *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Draws progress.png from the epochs so far. */
int vx_recorder_draw(struct vx_recorder *r, struct vx_err *err);
/* Accepts NULL. */
void vx_recorder_close(struct vx_recorder *r);

#endif
