/* The knobs of a running session: what the mailbox asks for, within the limits the ring was made
 * for, kept for a resume; and which CPUs the workers keep to. */
#include "daemon/session/internal.h"

#include "base/log.h"
#include "cache/policy.h"
#include "daemon/session/brief.h"
#include "loader/pool.h"

#include <sched.h>
#include <string.h>

/* --- CPUs --- */

static uint32_t trainer_threads(const struct session *s) {
    return (uint32_t)vx_brief_threads(s->o->brief, s->o->device);
}

static void set_cpus(pid_t pid, const struct vx_cpus *cpus) {
    cpu_set_t *set = CPU_ALLOC(VX_CPUS_MAX);
    size_t size = CPU_ALLOC_SIZE(VX_CPUS_MAX);
    if (!set) {
        return;
    }
    CPU_ZERO_S(size, set);
    for (uint32_t c = 0; c < VX_CPUS_MAX; c++) {
        if (vx_cpus_has(cpus, c)) {
            CPU_SET_S(c, size, set);
        }
    }
    /* a wish: where it fails (a cpuset that has just changed) the kernel's choice stays */
    sched_setaffinity(pid, size, set);
    CPU_FREE(set);
}

void knobs_pin(struct session *s, pid_t pid) {
    struct vx_cpus cpus;
    if (vx_pool_cpus(&s->cpus, s->cores, trainer_threads(s), s->knobs.workers_wanted, &cpus)) {
        set_cpus(pid, &cpus);
    }
}

/* Another number of workers may leave more or fewer CPUs than the trainer and they need. */
static void pin_again(struct session *s) {
    struct vx_cpus cpus;
    vx_pool_cpus(&s->cpus, s->cores, trainer_threads(s), s->knobs.workers_wanted, &cpus);
    for (uint32_t w = 0; w < s->pool_size; w++) {
        if (vx_proc_running(&s->pool[w].proc)) {
            set_cpus(s->pool[w].proc.pid, &cpus);
        }
    }
}

/* --- knobs --- */

static uint32_t clamp(const struct session *s, const char *name, int64_t value) {
    const struct vx_brief *b = s->o->brief;
    int64_t lo = 0, hi = INT32_MAX;
    if (strcmp(name, "workers") == 0) {
        lo = 1;
        hi = b->workers_max < VX_WORKERS_MAX ? b->workers_max : VX_WORKERS_MAX;
    } else if (strcmp(name, "window") == 0) {
        hi = b->slots;
    } else if (strcmp(name, "keep_files_open") == 0) {
        hi = 1;
    } else if (strcmp(name, "cache_mode") == 0) {
        hi = VX_CACHE_MODES - 1;
    }
    return (uint32_t)(value < lo ? lo : value > hi ? hi : value);
}

static struct vx_session_knobs knobs_now(const struct session *s) {
    const struct vx_knobs *k = &s->knobs;
    return (struct vx_session_knobs){.workers = (int)k->workers_wanted,
                                     .window = (int)k->window,
                                     .keep_files_open = vx_knobs_keep_open(k),
                                     .cache_mode = (int)k->cache_mode,
                                     .reading = (int)k->reading,
                                     .deciding = nearing_decides(s)};
}

static void tell(struct session *s, const json_t *change) {
    if (s->o->events.knobs) {
        struct vx_session_knobs now = knobs_now(s);
        s->o->events.knobs(s->o->events.ctx, &now, change);
    }
}

static void set(struct session *s, const char *name, uint32_t value) {
    *vx_live_knob(&s->knobs, name) = value;
    json_object_set_new(s->live.knobs, name, json_integer(value));
}

static bool turn(struct session *s, const char *name, int value) {
    bool open = strcmp(name, "keep_files_open") == 0;
    uint32_t to = clamp(s, name, value);
    uint32_t from = open ? vx_knobs_keep_open(&s->knobs) : *vx_live_knob(&s->knobs, name);
    if (value < 0 || to == from) {
        return false;
    }
    set(s, name, to);
    bool files = s->knobs.cache_mode == VX_CACHE_OPEN || s->knobs.cache_mode == VX_CACHE_KEEP;
    if (files && open) {
        set(s, "cache_mode", to ? VX_CACHE_KEEP : VX_CACHE_OPEN); /* which would overrule it */
    } else if (files && strcmp(name, "cache_mode") == 0) {
        set(s, "keep_files_open", to == VX_CACHE_KEEP);
    }
    vx_log_notice("session", "knob job=%lld name=%s from=%u to=%u", (long long)s->o->brief->job_id,
                  name, from, to);
    json_t *change =
        json_pack("{s:s, s:I, s:I}", "knob", name, "from", (json_int_t)from, "to", (json_int_t)to);
    tell(s, change);
    json_decref(change);
    return true;
}

void knobs_tell(struct session *s) {
    tell(s, NULL);
}

void knobs_take(struct session *s) {
    struct vx_session_knobs wish;
    struct vx_err err = {0};
    vx_session_wishes(s->o->mailbox, &wish);
    bool workers = turn(s, "workers", wish.workers);
    bool others = turn(s, "window", wish.window) |
                  turn(s, "keep_files_open", wish.keep_files_open) |
                  turn(s, "cache_mode", wish.cache_mode);
    if (!workers && !others) {
        return;
    }
    nearing_wish(s);
    vx_control_set_knobs(&s->control, &s->knobs);
    vx_ring_kick(&s->ring);
    if (workers) {
        pin_again(s);
    }
    if (vx_live_write(s->o->brief->dir, &s->live, &err) != VX_OK) {
        vx_log_warn("session", "knobs_not_written text=\"%s\"", err.text);
    }
}

void knobs_load(struct session *s) {
    const struct vx_brief *b = s->o->brief;
    s->knobs = (struct vx_knobs){.workers_wanted = b->workers,
                                 .window = b->window,
                                 .keep_files_open = b->keep_files_open,
                                 .cache_mode = vx_brief_cache_mode(b),
                                 .nice = b->nice};
    for (size_t i = 0; vx_live_knobs[i]; i++) {
        const json_t *value = json_object_get(s->live.knobs, vx_live_knobs[i]);
        if (json_is_integer(value)) {
            *vx_live_knob(&s->knobs, vx_live_knobs[i]) =
                clamp(s, vx_live_knobs[i], json_integer_value(value));
        }
    }
    s->knobs.keep_files_open = vx_knobs_keep_open(&s->knobs);
    nearing_wish(s);
    vx_budget_cpus("", &s->cpus);
    s->cores = vx_budget_cores("");
    tell(s, NULL);
}
