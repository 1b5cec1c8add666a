/* Signs of life of a trainer, and how long it was ever silent in each of its states: from that a
 * deadline is learnt, beyond which silence is a hang. Thread: one at a time. */
#ifndef VX_DAEMON_TELEMETRY_PULSE_H
#define VX_DAEMON_TELEMETRY_PULSE_H

#include "session/timeline.h"

struct vx_pulse {
    uint64_t last_ns;    /* heartbeat; 0: none yet */
    uint64_t excused_ns; /* of the silence since then */
    uint32_t state;      /* enum vx_step_state at the last one */
    struct {
        uint64_t beats, longest_ns;
    } seen[VX_STEP_STATES];
};

/* The heartbeat and state of the progress record; a heartbeat that did not change is none. */
void vx_pulse_take(struct vx_pulse *p, uint32_t state, uint64_t heartbeat_ns);
/* So much of the silence is not the trainer's: the machine, or all of the daemon, stood still. */
void vx_pulse_excuse(struct vx_pulse *p, uint64_t ns);
/* Seconds since the last heartbeat, without what is excused; 0 before the first. */
double vx_pulse_silence(const struct vx_pulse *p, uint64_t now_ns);
/* Seconds: ten times the longest silence of the present state, at least half a minute while
 * training and five minutes where a whole case or a checkpoint lies between two beats; 0 while too
 * little was seen of the state, or it is one in which nothing needs to happen. */
double vx_pulse_deadline(const struct vx_pulse *p);

#endif
