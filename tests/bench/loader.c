/* How many augmented samples one core makes, reading included, with nnU-Net's Hippocampus plan (40
 * x 56 x 40, batch 9), through one worker process and the ring, as in training; and what the worker
 * holds in memory.
 *
 *   bench_loader [SAMPLES [RAW_DATASET]]     prints one JSON object; exit status 1 where the target
 * is missed
 *
 * The peer's figure is batchgeneratorsv2 0.3.5 doing the same transforms with one thread: 7.8 ms a
 * sample on a fast core, without reading. */
#include "loader_store.h"

#include "augment/policy.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "loader/recipe.h"
#include "loader/worker.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATCH_D = 40, PATCH_H = 56, PATCH_W = 40, BATCH = 9 };
#define PEER_SECONDS 0.0078
#define TARGET_RATIO 10.0

struct run {
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
    struct vx_recipe *recipe;
};

static int make_recipe(const struct bench_store *s, struct vx_recipe **ret, struct vx_err *err) {
    vx_auto_free uint32_t *all = malloc(s->n_cases * sizeof *all);
    for (uint32_t i = 0; i < s->n_cases; i++) {
        all[i] = i;
    }
    struct vx_recipe_params p = {.dataset = "Dataset004_Hippocampus",
                                 .cache_key = "bench",
                                 .seed = 1,
                                 .cases = (const char *const *)s->names,
                                 .n_cases = s->n_cases,
                                 .train = all,
                                 .n_train = s->n_cases,
                                 .val = all,
                                 .n_val = s->n_cases,
                                 .dims = 3,
                                 .channels = 1,
                                 .batch = BATCH,
                                 .patch = {PATCH_D, PATCH_H, PATCH_W}};
    return vx_recipe_create(&p, ret, err);
}

static pid_t spawn(const struct run *r, const char *dir) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct run mine = *r;
        struct vx_worker_config c = {.control = &mine.control,
                                     .timeline = &mine.timeline,
                                     .ring = &mine.ring,
                                     .recipe = mine.recipe,
                                     .cache_dir = dir};
        struct vx_err err = {0};
        if (vx_worker_run(&c, NULL, &err) != VX_OK) {
            fprintf(stderr, "%s\n", err.text);
            _exit(1);
        }
        _exit(0);
    }
    return pid;
}

/* Takes n samples and gives the seconds that took. */
static int drain(struct vx_ring *ring, uint64_t n, double *ret_seconds) {
    uint64_t start = vx_now_ns(), q;
    struct vx_sample s;
    for (uint64_t i = 0; i < n; i++) {
        int rc = vx_ring_take(ring, 60000000000ull, &q, &s);
        if (rc != VX_OK) {
            return rc;
        }
        vx_ring_release(ring, q);
    }
    *ret_seconds = (double)(vx_now_ns() - start) * 1e-9;
    return VX_OK;
}

static json_t *report(const struct run *r, const struct vx_worker_record *w, double seconds,
                      uint64_t n, bool real) {
    double per_second = (double)n / seconds, all = (double)w->samples;
    json_t *transforms = json_object();
    for (uint32_t t = 0; t < VX_T_COUNT; t++) {
        json_object_set_new(transforms, vx_transform_name(t),
                            json_real((double)w->augment_ns[t] * 1e-6 / all));
    }
    (void)r;
    return json_pack(
        "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:s, s:I, s:f, s:f, s:f, s:o, s:f, s:f, s:s, s:s}",
        "name", "loader", "unit", "samples/s on one core", "value", per_second, "per_cpu_second",
        all / ((double)w->cpu_ns * 1e-9), "peer", 1 / PEER_SECONDS, "ratio",
        per_second * PEER_SECONDS, "target_ratio", TARGET_RATIO, "data",
        real ? "Dataset004_Hippocampus" : "made up", "samples", (json_int_t)n, "read_ms",
        (double)w->read_ns * 1e-6 / all, "decompress_ms", (double)w->decompress_ns * 1e-6 / all,
        "cpu_ms", (double)w->cpu_ns * 1e-6 / all, "transform_ms", transforms, "rss_anon_mb",
        (double)w->rss_anon * 1e-6, "wait_ms", (double)w->wait_ns * 1e-6 / all, "machine",
        getenv("VXB_MACHINE") ? getenv("VXB_MACHINE") : "", "commit",
        getenv("VXB_COMMIT") ? getenv("VXB_COMMIT") : "");
}

static int measure(const struct bench_store *s, uint64_t n, struct vx_err *err) {
    struct run r = {0};
    const uint32_t size[3] = {PATCH_D, PATCH_H, PATCH_W};
    struct vx_sample_schedule schedule = {BATCH, 1u << 20, 0, 1};
    struct vx_knobs knobs = {.workers_wanted = 1, .keep_files_open = 1};
    struct vx_worker_record w = {0};
    double seconds = 0;
    int rc = make_recipe(s, &r.recipe, err);
    if (rc != VX_OK || (rc = vx_control_create(&knobs, &r.control, err)) != VX_OK ||
        (rc = vx_timeline_create(&r.timeline, err)) != VX_OK ||
        (rc = vx_ring_create(1, size, &schedule, 32, 0, &r.ring, err)) != VX_OK) {
        return rc;
    }
    pid_t pid = spawn(&r, s->dir);
    rc = drain(&r.ring, 200, &seconds); /* opens every case once, more or less */
    if (rc == VX_OK) {
        rc = drain(&r.ring, n, &seconds);
    }
    usleep(1100000); /* the worker looks at its memory once a second */
    vx_session_gate(&r.control, &r.ring, VX_GATE_STOPPED);
    waitpid(pid, NULL, 0);
    if (rc != VX_OK || !vx_timeline_worker(&r.timeline, 0, &w) || !w.samples) {
        return vx_fail(err, VX_E_STATE, NULL, "the worker made no samples");
    }
    vx_auto_json json_t *json = report(&r, &w, seconds, n, s->real);
    vx_auto_free char *text = json_dumps(json, JSON_REAL_PRECISION(5));
    puts(text);
    vx_ring_close(&r.ring);
    vx_timeline_close(&r.timeline);
    vx_control_close(&r.control);
    vx_recipe_free(r.recipe);
    return (double)n / seconds * PEER_SECONDS >= TARGET_RATIO && w.rss_anon <= 150000000 ? 0 : 1;
}

int main(int argc, char **argv) {
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000;
    char root[] = "/tmp/vx-bench-loader-XXXXXX";
    struct vx_err err = {0};
    struct bench_store s = {0};
    if (!mkdtemp(root)) {
        perror("bench_loader");
        return 1;
    }
    int rc = bench_store_make(root, argc > 2 ? argv[2] : NULL, 200, &s, &err);
    if (rc == VX_OK) {
        rc = measure(&s, n, &err);
    }
    if (err.code) {
        fprintf(stderr, "bench_loader: %s (%s)\n", err.text, err.where);
    }
    bench_store_release(&s);
    vx_remove_tree(root, NULL);
    return rc == VX_OK ? 0 : 1;
}
