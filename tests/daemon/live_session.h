/* A session whose steps are made up as time goes by, watched by a real telemetry thread with the
 * recorded-trace player for NVML. */
#ifndef VX_TESTS_LIVE_SESSION_H
#define VX_TESTS_LIVE_SESSION_H

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "daemon/telemetry/telemetry.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

enum { TRAINER = 4000001 };

struct session {
    struct vx_timeline timeline;
    struct vx_ring ring;
    struct vx_telemetry *telemetry;
    uint64_t end_ns; /* of the last step */
};

static inline void open_session(struct session *s, const char *device) {
    const struct vx_sample_schedule schedule = {2, 1000, 0, 1000};
    const uint32_t size[3] = {4, 4, 4};
    struct vx_err err = {0};
    cr_assert_eq(vx_timeline_create(&s->timeline, &err), VX_OK);
    cr_assert_eq(vx_ring_create(1, size, &schedule, 8, 0, &s->ring, &err), VX_OK, "%s", err.text);
    s->telemetry = vx_telemetry_create(VX_NVML_PLAYER, false, 0, &err);
    cr_assert_not_null(s->telemetry, "%s", err.text);
    struct vx_telemetry_job job = {
        .job_id = 1,
        .device = device,
        .epochs = 1000,
        .iterations = 1000,
        .workers = 1,
        .facts = {.batch = 2, .slots = 8, .trainer_cores = 1, .sample_bytes = 1e9},
        .limits = {{1, 1, 0, 0}, {8, 8, 1, 3}},
        .setting = {1, 8, 0, 0},
        .mode = VX_TUNE_ADVISE};
    cr_assert_eq(vx_telemetry_attach(s->telemetry, &job, s->timeline.shm.fd, s->ring.shm.fd, &err),
                 VX_OK, "%s", err.text);
    s->end_ns = vx_now_ns();
}

static inline void close_session(struct session *s) {
    vx_telemetry_free(s->telemetry);
    vx_ring_close(&s->ring);
    vx_timeline_close(&s->timeline);
}

/* Steps of 18 ms computing and 2 ms of other things, up to now. */
static inline void train(struct session *s) {
    while (s->end_ns + 20000000 <= vx_now_ns()) {
        struct vx_step_record r = {.start_ns = s->end_ns};
        r.phase_ns[VX_PHASE_COMPUTE] = 18000000;
        r.phase_ns[VX_PHASE_OTHER] = 2000000;
        vx_timeline_add_step(&s->timeline, &r);
        struct vx_progress p = {.pid = TRAINER, .state = VX_STEP_TRAINING};
        vx_timeline_set_progress(&s->timeline, &p);
        s->end_ns += 20000000;
    }
    nanosleep(&(struct timespec){0, 50000000}, NULL);
}

/* A figure of a verdict, below 0 while it is not said. */
static inline double figure_of(struct session *s, const char *code, const char *name) {
    vx_auto_json json_t *all = vx_telemetry_bottleneck(s->telemetry, 1, VX_ENGLISH);
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(all, "verdicts"), i, v) {
        const json_t *figure = json_object_get(json_object_get(v, "evidence"), name);
        if (figure && strcmp(json_string_value(json_object_get(v, "code")), code) == 0) {
            return json_number_value(figure);
        }
    }
    return -1;
}

/* The same, waited for. */
static inline double figure(struct session *s, const char *code, const char *name) {
    double value = -1;
    for (uint64_t end = vx_now_ns() + 60000000000; value < 0 && vx_now_ns() < end;) {
        train(s);
        value = figure_of(s, code, name);
    }
    return value;
}

#endif
