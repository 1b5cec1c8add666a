/* The bench of judges, and the order in which their verdicts are read out. */
#include "tune/verdict.h"
#include "tune/judge/judge.h"

#include <stddef.h>

const char *vx_verdict_word(enum vx_verdict_code code) {
    static const char *const words[] = {
#define VX_X(name, word) word,
        VX_VERDICT_LIST(VX_X)
#undef VX_X
    };
    return (unsigned)code < VX_VERDICTS ? words[code] : "?";
}

const char *vx_severity_word(enum vx_severity severity) {
    static const char *const words[] = {"healthy", "note", "warning", "severe"};
    return (unsigned)severity < 4 ? words[severity] : "?";
}

const char *vx_action_word(enum vx_action action) {
    static const char *const words[] = {"none", "workers", "prefetch", "keep_files_open", "cache",
                                        "wait", "advise",  "restart",  "rebuild"};
    return (unsigned)action < sizeof words / sizeof *words ? words[action] : "?";
}

/* Severity first; then what must be answered before anything else makes sense; then the cost. */
static int urgency(const struct vx_verdict *v) {
    switch (v->code) {
    case VX_VERDICT_HANG:
        return 4;
    case VX_VERDICT_CACHE_CORRUPT:
        return 3;
    case VX_VERDICT_WORKER_LOST:
        return 2;
    case VX_VERDICT_MEMORY_PRESSURE:
        return 1;
    default:
        return 0;
    }
}

static int before(const struct vx_verdict *a, const struct vx_verdict *b) {
    if (urgency(a) != urgency(b)) {
        return urgency(a) > urgency(b);
    }
    if (a->severity != b->severity) {
        return a->severity > b->severity;
    }
    return a->cost > b->cost;
}

/* Spikes that make up most of the waiting are what the waiting is: an even cause is then not to be
 * looked for in it. */
static int spikes_explain(const struct vx_tune_window *w, const struct shares *s) {
    const struct vx_tune_events *e = &w->event;
    return e->period_steps >= 2 && e->period_phase == VX_TUNE_WAIT_LOADER &&
           e->period_share >= 0.6 * s->wait;
}

/* Whether one of them takes so much of the steps that the run is not to be called healthy. Lost
 * workers and the like may stand beside a healthy run. */
static bool costly(const struct vx_verdict *v, int n) {
    for (int i = 0; i < n; i++) {
        bool of_steps = urgency(&v[i]) == 0 || v[i].code == VX_VERDICT_HANG;
        if (of_steps && v[i].severity >= VX_SEVERITY_WARNING) {
            return true;
        }
    }
    return false;
}

int vx_tune_judge(const struct vx_tune_window *w, struct vx_verdict ret[VX_VERDICTS]) {
    typedef bool (*judge)(const struct vx_tune_window *, const struct shares *,
                          struct vx_verdict *);
    static const judge bench[] = {judge_hang,   judge_corrupt,   judge_lost,   judge_memory,
                                  judge_period, judge_loader,    judge_h2d,    judge_launch,
                                  judge_drift,  judge_throttled, judge_healthy};
    struct shares s;
    tune_shares(w, &s);
    int n = 0;
    for (size_t i = 0; i < sizeof bench / sizeof *bench; i++) {
        struct vx_verdict v;
        bool even_cause = bench[i] == judge_loader, praise = bench[i] == judge_healthy;
        if ((even_cause && spikes_explain(w, &s)) || !bench[i](w, &s, &v) ||
            (praise && n > 0 && costly(ret, n))) {
            continue;
        }
        int at = n++;
        for (; at > 0 && before(&v, &ret[at - 1]); at--) {
            ret[at] = ret[at - 1];
        }
        ret[at] = v;
    }
    return n;
}
