#include "daemon/telemetry/pulse.h"

enum { LEARNT_STEPS = 20, LEARNT_CASES = 2 };
#define TIMES      10.0
#define LEAST      30.0
#define LEAST_LONG 300.0

void vx_pulse_take(struct vx_pulse *p, uint32_t state, uint64_t heartbeat_ns) {
    if (heartbeat_ns == p->last_ns || state >= VX_STEP_STATES) {
        return;
    }
    /* the silence belonged to the state that it began in; the first of a state may be slow */
    if (p->last_ns && heartbeat_ns > p->last_ns && state == p->state) {
        uint64_t silence = heartbeat_ns - p->last_ns;
        silence -= silence > p->excused_ns ? p->excused_ns : silence;
        p->seen[state].beats++;
        p->seen[state].longest_ns =
            silence > p->seen[state].longest_ns ? silence : p->seen[state].longest_ns;
    }
    p->last_ns = heartbeat_ns;
    p->excused_ns = 0;
    p->state = state;
}

void vx_pulse_excuse(struct vx_pulse *p, uint64_t ns) {
    p->excused_ns += ns;
}

double vx_pulse_silence(const struct vx_pulse *p, uint64_t now_ns) {
    uint64_t until = now_ns > p->excused_ns ? now_ns - p->excused_ns : 0;
    return p->last_ns && until > p->last_ns ? (double)(until - p->last_ns) * 1e-9 : 0;
}

double vx_pulse_deadline(const struct vx_pulse *p) {
    bool batches = p->state == VX_STEP_TRAINING || p->state == VX_STEP_VALIDATING;
    bool cases = p->state == VX_STEP_TOTAL || p->state == VX_STEP_CHECKPOINTING;
    if (!batches && !cases) {
        return 0;
    }
    uint64_t needed = batches ? LEARNT_STEPS : LEARNT_CASES;
    if (p->seen[p->state].beats < needed) {
        return 0;
    }
    double learnt = TIMES * (double)p->seen[p->state].longest_ns * 1e-9;
    double least = batches ? LEAST : LEAST_LONG;
    return learnt > least ? learnt : least;
}
