#include "daemon/telemetry/observe.h"

#include "base/own.h"
#include "daemon/evidence/host.h"
#include "daemon/evidence/residency.h"
#include "daemon/telemetry/gpus.h"
#include "daemon/telemetry/stuck.h"
#include "daemon/telemetry/watched.h"

#include <string.h>

#define NS 1000000000ull

#define RESIDENCY_EVERY 5 /* looks: some files are mapped for it */

static const int sample_steps[] = {1, 10, 60};

/* A verdict with its words, as events carry it. New reference. */
static json_t *verdict_of(const struct vx_diagnosis *d, enum vx_verdict_code code) {
    json_t *all = vx_diagnosis_json(d, VX_ENGLISH), *found = NULL;
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(all, "verdicts"), i, v) {
        const char *word = json_string_value(json_object_get(v, "code"));
        if (word && strcmp(word, vx_verdict_word(code)) == 0) {
            found = json_incref(v);
        }
    }
    json_decref(all);
    return found ? found : json_pack("{s:s}", "code", vx_verdict_word(code));
}

/* What is to be told, gathered under the lock and told without it. */
struct tale {
    struct vx_diagnosis_news news;
    json_t *verdict[VX_VERDICTS];             /* owned; of those that began or ended */
    json_t *sample[VX_COUNTOF(sample_steps)]; /* owned; NULL: none is due */
};

static void gather(struct observation *o, struct watched *w, const struct vx_host *host,
                   uint64_t now_ns, struct tale *tale) {
    struct vx_device_look device;
    gpus_window(o->gpus, w->device, w->step_pid, &device);
    vx_diagnosis_device(w->diagnosis, &device);
    vx_tuner_filling(&w->diagnosis->tuner,
                     w->diagnosis->deciding || w->keeper.state == VX_NEARING_WORKING,
                     (double)now_ns * 1e-9);
    vx_diagnosis_look(w->diagnosis, host, now_ns, &tale->news);
    const struct vx_decision *d = &tale->news.decision;
    if (d->kind != VX_DECISION_NONE) {
        w->tuned[d->knob][d->kind]++;
    }
    for (int c = 0; c < VX_VERDICTS; c++) {
        if ((tale->news.began | tale->news.ended) >> c & 1u) {
            tale->verdict[c] = verdict_of(w->diagnosis, (enum vx_verdict_code)c);
            if (c == VX_VERDICT_HANG && tale->news.began >> c & 1u) {
                json_object_set_new(tale->verdict[c], "processes", stuck_json("", w, now_ns));
            }
        }
    }
    for (size_t i = 0; i < VX_COUNTOF(sample_steps); i++) {
        uint64_t step = (uint64_t)sample_steps[i];
        struct vx_tune_window window;
        if (o->seconds % step == 0 && now_ns >= w->diagnosis->began_ns + step * NS / 2 &&
            vx_diagnosis_window(w->diagnosis, now_ns - step * NS, now_ns, &window)) {
            tale->sample[i] = vx_window_json(&window);
        }
    }
}

static void tell(const struct watched *w, int64_t wall_ms, struct tale *tale) {
    const struct vx_telemetry_events *e = &w->events;
    for (int c = 0; c < VX_VERDICTS; c++) {
        if (tale->verdict[c] && e->verdict) {
            e->verdict(e->ctx, (enum vx_verdict_code)c, tale->news.began >> c & 1u,
                       tale->verdict[c]);
        }
        json_decref(tale->verdict[c]);
    }
    if (e->decided && tale->news.decision.kind != VX_DECISION_NONE) {
        e->decided(e->ctx, &tale->news.decision);
    }
    for (size_t i = 0; i < VX_COUNTOF(sample_steps); i++) {
        if (tale->sample[i] && e->sample) {
            e->sample(e->ctx, sample_steps[i], wall_ms, tale->sample[i]);
        }
        json_decref(tale->sample[i]);
    }
}

static void observe_session(struct observation *o, struct watched *w, const struct vx_host *host,
                            uint64_t now_ns, int64_t wall_ms) {
    struct tale tale = {0};
    uint64_t cold;
    bool known =
        w->residency && o->seconds % RESIDENCY_EVERY == 0 && vx_residency_cold(w->residency, &cold);
    w->diagnosis->pool.trainer = w->step_pid;
    vx_poollog_look(&w->diagnosis->pool, &w->timeline, "", now_ns); /* this thread's alone */
    pthread_mutex_lock(o->lock);
    if (known) {
        vx_diagnosis_cold(w->diagnosis, cold);
    }
    gather(o, w, host, now_ns, &tale);
    pthread_mutex_unlock(o->lock);
    tell(w, wall_ms, &tale);
}

/* Sessions side by side share the cores that their trainers leave; one alone has what was planned
 * for it. */
static void share_cores(struct observation *o, double cores) {
    double n = 0, left = cores;
    for (const struct watched *w = o->list; w; w = w->next) {
        n++;
        left -= w->diagnosis->facts.trainer_cores;
    }
    pthread_mutex_lock(o->lock);
    for (struct watched *w = o->list; w; w = w->next) {
        uint32_t share = left > n ? (uint32_t)(left / n) : 1;
        uint32_t most = n > 1 && share < w->workers_most ? share : w->workers_most;
        struct vx_tuner_limits limits = w->diagnosis->tuner.limits;
        if (limits.hi[VX_KNOB_WORKERS] != most) {
            limits.hi[VX_KNOB_WORKERS] = most;
            vx_tuner_limit(&w->diagnosis->tuner, &limits);
        }
    }
    pthread_mutex_unlock(o->lock);
}

void observe(struct observation *o, uint64_t now_ns, int64_t wall_ms) {
    struct vx_host host;
    o->seconds++;
    if (!o->list) {
        return; /* nobody asks: /proc is left alone */
    }
    vx_host_look(o->watch, now_ns, &host);
    share_cores(o, o->cores ? o->cores : host.cores);
    for (struct watched *w = o->list; w; w = w->next) {
        observe_session(o, w, &host, now_ns, wall_ms);
    }
}
