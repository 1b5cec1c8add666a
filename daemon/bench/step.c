/* The step of a benchmark: the engine on a pretended device, measured for a given time. The first
 * steps are not counted, then two looks at the timeline frame the measured stretch; both are taken
 * on the trainer's thread as it hands a batch over, so that nothing runs beside it. */
#include "daemon/roles/step.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/bench/figures.h"
#include "daemon/bench/paced.h"
#include "daemon/bench/settings.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "train/source.h"

#include <stdlib.h>

#define COLLECT_EVERY 256 /* steps; the timeline keeps more */

struct step_bench {
    struct vx_ring_source source; /* first: the engine hands it back */
    int (*ring_take)(struct vx_train_source *, uint64_t, struct vx_train_sample *, struct vx_err *);
    struct step *step;
    struct vx_bench_settings settings;
    uint64_t began_ns; /* first step; 0: not yet */
    struct vx_bench_mark before, after;
    struct vx_bench_steps steps;
    struct vx_buf costs; /* text: milliseconds, one a line */
};

static uint64_t ns(double seconds) {
    return (uint64_t)(seconds * 1e9);
}

static void on_run(void *ctx, uint64_t runs) {
    struct step_bench *b = ctx;
    const struct vx_timeline *t = &b->step->timeline;
    uint64_t now = vx_now_ns();
    if (b->began_ns == 0) {
        b->began_ns = now;
    }
    if (b->before.now_ns == 0) {
        if (now - b->began_ns >= ns(b->settings.warm_seconds)) {
            vx_bench_steps_begin(&b->steps, t);
            vx_bench_mark(t, vx_paced_idle_ns(), b->step->brief->workers, &b->before);
        }
        return;
    }
    bool over = now - b->before.now_ns >= ns(b->settings.seconds);
    if (over && b->after.now_ns == 0) {
        vx_bench_mark(t, vx_paced_idle_ns(), b->step->brief->workers, &b->after);
        atomic_store(&vx_step_stop, true);
    }
    if (over || runs % COLLECT_EVERY == 0) {
        vx_bench_steps_collect(&b->steps, t);
    }
}

/* A sample on its way to the engine: what it cost stands in its slot. */
static int take(struct vx_train_source *source, uint64_t timeout_ns, struct vx_train_sample *ret,
                struct vx_err *err) {
    struct step_bench *b = (struct step_bench *)source;
    int rc = b->ring_take(source, timeout_ns, ret, err);
    if (rc == VX_OK && b->before.now_ns && !b->after.now_ns) {
        const struct vx_slot *head = vx_ring_slot(b->source.ring, ret->q);
        vx_buf_printf(&b->costs, "%.6f\n", (double)(head->read_ns + head->augment_ns) * 1e-6);
    }
    return rc;
}

int vx_step_bench_open(struct step *s, struct vx_err *err) {
    struct step_bench *b = calloc(1, sizeof *b);
    if (!b) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the benchmark");
    }
    b->step = s;
    s->bench = b;
    int rc = vx_bench_settings_read(s->brief->bench, &b->settings, err);
    struct vx_paced_options paced = {.step_ns = (uint64_t)(b->settings.step_ms * 1e6),
                                     .spike_every = (uint64_t)b->settings.spike_every,
                                     .spike_ns = (uint64_t)(b->settings.spike_ms * 1e6),
                                     .growth = b->settings.step_growth,
                                     .on_run = on_run,
                                     .ctx = b};
    return rc == VX_OK ? vx_paced_register(&paced, err) : rc;
}

struct vx_train_source *vx_step_bench_source(struct step *s) {
    struct step_bench *b = s->bench;
    vx_ring_source_init(&b->source, &s->ring);
    b->ring_take = b->source.base.take;
    if (b->settings.costs) {
        b->source.base.take = take;
    }
    return &b->source.base;
}

static int write_costs(struct step_bench *b, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/" VX_BENCH_COSTS, b->step->brief->dir);
    if (!path || b->costs.failed) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the costs of the samples");
    }
    return vx_write_file_atomic(path, b->costs.data ? b->costs.data : "", b->costs.len, 0644, err);
}

int vx_step_bench_end(struct step *s, int rc, struct vx_err *err) {
    struct step_bench *b = s->bench;
    if (rc != VX_E_CANCELLED || b->after.now_ns == 0) {
        return rc == VX_OK ? vx_fail(err, VX_E_STATE, NULL, "the benchmark ended too early") : rc;
    }
    json_t *figures = vx_bench_figures(&b->before, &b->after, &b->steps, s->brief->schedule.batch);
    if (!figures) {
        return vx_fail(err, VX_E_STATE, "nothing_measured",
                       "not one step fell into the %.1f s that were measured", b->settings.seconds);
    }
    rc = b->settings.costs ? write_costs(b, err) : VX_OK;
    json_object_set_new(figures, "event", json_string("result"));
    vx_say(figures);
    return rc;
}

void vx_step_bench_release(struct step *s) {
    if (s->bench) {
        vx_bench_steps_release(&s->bench->steps);
        vx_buf_release(&s->bench->costs);
        free(s->bench);
    }
}
