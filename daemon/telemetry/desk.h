/* What is done about what telemetry finds out of one session: verdicts become events, decisions
 * turn knobs and are written into the tuning log, samples into the time series, a hang is broken.
 *
 * Thread: vx_desk_telemetry on the thread that runs the job; the rest is called by telemetry on its
 * thread, between attach and detach. */
#ifndef VX_DAEMON_TELEMETRY_DESK_H
#define VX_DAEMON_TELEMETRY_DESK_H

#include "daemon/telemetry/telemetry.h"

#include <stdatomic.h>
#include <stdint.h>

struct vx_brief;
struct vx_session_knobs;
struct vx_session_mailbox;
struct vx_store;

struct vx_desk {
    struct vx_store *store; /* all borrowed, outlive the session */
    struct vx_session_mailbox *mailbox;
    int64_t job;
    uint64_t hang_ns;           /* when a hang began; 0: there is none */
    bool hang_trainer;          /* the trainer was restarted for it */
    atomic_int asked[VX_KNOBS]; /* what the tuner asked for and the session has not done yet; -1 */
};

/* Fills facts, limits, settings, mode and events of a telemetry job whose desk is `desk`; the other
 * members are the caller's. */
void vx_desk_telemetry(struct vx_desk *desk, const struct vx_brief *brief,
                       const struct vx_session_knobs *now, struct vx_telemetry_job *ret);
/* The session turned a knob (the change of its `knobs` event); where the tuner did not ask for it,
 * somebody did, and that is a row of the log too. Returns the knob that somebody turned, VX_KNOBS
 * where nobody did. On the thread that runs the job. */
enum vx_tune_knob vx_desk_changed(struct vx_desk *desk, const json_t *change);
/* The tuner asked for another value of a knob, and the session has not turned it yet. */
bool vx_desk_asks(const struct vx_desk *desk, enum vx_tune_knob knob);
/* A session's knobs as the tuner counts them: samples ahead, and the tier that is read from. */
void vx_desk_setting(const struct vx_brief *brief, const struct vx_session_knobs *now,
                     uint32_t ret[VX_KNOBS]);
/* The value of a knob in the words of the tuning log and the API: "3", "true", "memory". */
void vx_desk_value(enum vx_tune_knob knob, uint32_t value, char *buf, size_t size);

#endif
