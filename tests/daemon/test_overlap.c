/* The engine on the pretended device: batches that come in time are handed over before the one
 * before has ended, and what counts as waiting for the loader is what the device idles. */
#include "daemon/bench/paced.h"
#include "session/timeline.h"
#include "train/toy_job.h"

#include <criterion/criterion.h>
#include <time.h>

enum { STEPS = 10 };
#define STEP_MS 80.0 /* long beside what a busy machine keeps a process from its core */
#define IN_TIME (0.7 * STEP_MS)
#define LATE    (1.5 * STEP_MS)
/* All that the device waits for late ones. */
#define LATE_MS ((STEPS - 1) * (LATE - STEP_MS))

/* Batch i is whole `pace_ms` after the first sample of batch i - 1 was taken. */
struct timed_source {
    struct toy_source toy;
    double pace_ms;
    uint64_t ready_ns; /* of the batch that comes next */
};

static uint32_t timed_depth(struct vx_train_source *source) {
    const struct timed_source *s = (struct timed_source *)source;
    return vx_now_ns() >= s->ready_ns ? TOY_BATCH : 0;
}

static int timed_take(struct vx_train_source *source, uint64_t timeout_ns,
                      struct vx_train_sample *ret, struct vx_err *err) {
    struct timed_source *s = (struct timed_source *)source;
    struct timespec t = {(time_t)(s->ready_ns / 1000000000u), (long)(s->ready_ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    bool first = s->toy.next % TOY_BATCH == 0;
    int rc = toy_take(&s->toy.base, timeout_ns, ret, err);
    if (s->toy.next % TOY_BATCH == 0) {
        s->ready_ns += (uint64_t)(s->pace_ms * 1e6);
    } else if (first) {
        s->ready_ns = vx_now_ns();
    }
    return rc;
}

struct outcome {
    double wait_ms, compute_ms, wall_ms, idle_ms; /* of all steps but the first */
    int gaps; /* runs handed over after the end of the one before */
};

/* What the device has idled when a run is handed over, since the first run of a life. */
struct watched {
    uint64_t runs, idle_ns, before_ns;
    int gaps;
};

static void on_run(void *ctx, uint64_t runs) {
    struct watched *w = ctx;
    (void)runs;
    uint64_t idle = vx_paced_idle_ns();
    w->before_ns = w->runs == 0 ? idle : w->before_ns;
    w->gaps += w->runs > 0 && idle > w->idle_ns;
    w->idle_ns = idle;
    w->runs++;
}

static struct watched watched;

static struct outcome live(double pace_ms, uint32_t capacity) {
    char *dir = toy_dir();
    struct toy_job job;
    static struct timed_source source;
    struct vx_timeline timeline;
    struct vx_step_record r[STEPS + 1];
    struct vx_train_outcome out = {0};
    struct vx_err err = {0};
    struct vx_device *device = NULL;
    watched = (struct watched){.runs = 0};
    toy_job_init(&job, dir);
    toy_source_init(&source.toy, 0);
    source.toy.base.depth = timed_depth;
    source.toy.base.take = timed_take;
    source.toy.base.capacity = capacity;
    source.pace_ms = pace_ms;
    cr_assert_eq(vx_device_open(VX_PACED_DEVICE, NULL, &device, &err), VX_OK);
    cr_assert_eq(vx_timeline_create(&timeline, &err), VX_OK);
    job.config.device = device;
    job.config.timeline = &timeline;
    job.config.source = &source.toy.base;
    job.config.epochs = 1;
    job.config.iterations = STEPS;
    job.config.val_iterations = 0;
    cr_assert_eq(toy_job_live(&job, &out, &err), VX_OK, "%s", err.text);
    cr_assert_eq(source.toy.held, 0);
    cr_assert_eq(vx_timeline_steps(&timeline, 0, r, STEPS + 1), STEPS);
    cr_assert_eq(watched.runs, STEPS);
    struct outcome sum = {.idle_ms = (double)(watched.idle_ns - watched.before_ns) * 1e-6,
                          .gaps = watched.gaps};
    for (int i = 1; i < STEPS; i++) {
        sum.wait_ms += (double)r[i].phase_ns[VX_PHASE_WAIT_LOADER] * 1e-6;
        sum.compute_ms += (double)r[i].phase_ns[VX_PHASE_COMPUTE] * 1e-6;
        for (int p = 0; p < VX_PHASE_COUNT; p++) {
            sum.wall_ms += (double)r[i].phase_ns[p] * 1e-6;
        }
    }
    vx_timeline_close(&timeline);
    vx_device_close(device);
    vx_remove_tree(dir, NULL);
    free(dir);
    return sum;
}

/* A machine that keeps this process from its core for longer than a batch is early makes the device
 * idle: what the engine does shows in the quietest of a few lives. */
static struct outcome quietest(double pace_ms, uint32_t capacity,
                               bool (*good)(const struct outcome *)) {
    enum { LIVES = 5 };
    struct vx_err err = {0};
    struct vx_paced_options o = {
        .step_ns = (uint64_t)(STEP_MS * 1e6), .on_run = on_run, .ctx = &watched};
    struct outcome sum;
    cr_assert_eq(vx_paced_register(&o, &err), VX_OK, "%s", err.text);
    for (int i = 0; i < LIVES; i++) {
        sum = live(pace_ms, capacity);
        if (good(&sum)) {
            break;
        }
        fprintf(stderr, "%d gaps, idle %.2f, wait %.2f, compute %.2f of %.2f ms\n", sum.gaps,
                sum.idle_ms, sum.wait_ms, sum.compute_ms, sum.wall_ms);
    }
    return sum;
}

/* Whole batches come 0.7 of a step after the one before, not ready when the trainer asks for them,
 * but before the device is done: it never idles. */
static bool no_gap(const struct outcome *o) {
    return o->gaps < STEPS / 2 && o->wait_ms < STEP_MS / 2 && o->compute_ms > 0.75 * o->wall_ms;
}

Test(daemon_overlap, a_batch_in_time_leaves_no_gap) {
    struct outcome o = quietest(IN_TIME, 100, no_gap);
    cr_expect(no_gap(&o), "%d gaps, wait %.2f, compute %.2f of %.2f ms", o.gaps, o.wait_ms,
              o.compute_ms, o.wall_ms);
}

/* Half a step late each time: the device idles that long, and that is what the loader is charged.
 */
static bool charged(const struct outcome *o) {
    return o->idle_ms > 0.8 * LATE_MS && fabs(o->wait_ms - o->idle_ms) < LATE_MS / 4;
}

Test(daemon_overlap, a_late_batch_is_charged_what_the_device_idles) {
    struct outcome o = quietest(LATE, 100, charged);
    cr_expect(charged(&o), "wait %.2f, idle %.2f ms", o.wait_ms, o.idle_ms);
}

/* A source that holds no second batch: the run before is given back first, at the cost of a gap. */
static bool not_charged(const struct outcome *o) {
    return o->gaps == STEPS - 1 && o->wait_ms < STEP_MS / 2;
}

Test(daemon_overlap, a_small_source_is_not_asked_for_two_batches) {
    struct outcome o = quietest(IN_TIME, TOY_BATCH + 1, not_charged);
    cr_expect(not_charged(&o), "wait %.2f ms", o.wait_ms);
}

Test(daemon_overlap, a_small_source_is_charged_too) {
    struct outcome o = quietest(LATE, TOY_BATCH + 1, charged);
    cr_expect(charged(&o), "wait %.2f, idle %.2f ms", o.wait_ms, o.idle_ms);
}
