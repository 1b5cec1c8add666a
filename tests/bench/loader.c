/* Augmented samples of one real worker process, through the ring, as in training, with the cost of
 * each. tests/bench/loader.py drives it and takes turns with the peer.
 *
 *   bench_loader STORE D,H,W BATCH
 *
 * Every line of standard input is a number of samples to take. The answer is one line per sample,
 * "SPATIAL WALL_NS CPU_NS" (1 where it was rotated or scaled; the time from the sample before to
 * this one; the worker's CPU time in between), and then one line of JSON with what the worker
 * counted since it started. Between turns the worker is stopped (SIGSTOP), so that it makes no
 * sample that nobody times. */
#include "augment/policy.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/cache.h"
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
#include <time.h>
#include <unistd.h>

#define TIMEOUT_NS 60000000000ull

struct bench {
    const char *dir;
    uint32_t batch;
    int32_t patch[3];
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
    struct vx_recipe *recipe;
    pid_t worker;
    clockid_t worker_cpu;
    uint64_t wall_ns, cpu_ns; /* at the sample before */
};

/* The store's cases, all for training. */
static int make_recipe(struct bench *b, uint32_t *ret_channels, struct vx_err *err) {
    vx_auto_cache struct vx_cache *cache = NULL;
    vx_auto_cache_case struct vx_cache_case *first = NULL;
    int rc = vx_cache_open(b->dir, &cache, err);
    size_t n = rc == VX_OK ? vx_cache_n_cases(cache) : 0;
    if (rc != VX_OK ||
        (rc = vx_cache_case_open(cache, vx_cache_case_name(cache, 0), &first, err)) != VX_OK) {
        return rc;
    }
    vx_auto_free const char **names = calloc(n, sizeof *names);
    vx_auto_free uint32_t *all = calloc(n, sizeof *all);
    for (uint32_t i = 0; i < n; i++) {
        names[i] = vx_cache_case_name(cache, i);
        all[i] = i;
    }
    *ret_channels = (uint32_t)vx_cache_case_info(first)->n_channels;
    struct vx_recipe_params p = {.dataset = "Dataset999_Bench",
                                 .cache_key = "bench",
                                 .seed = 1,
                                 .cases = names,
                                 .n_cases = n,
                                 .train = all,
                                 .n_train = n,
                                 .dims = 3,
                                 .channels = *ret_channels,
                                 .batch = b->batch,
                                 .patch = {b->patch[0], b->patch[1], b->patch[2]}};
    return vx_recipe_create(&p, &b->recipe, err);
}

static pid_t spawn(const struct bench *b) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct bench mine = *b;
        struct vx_worker_config c = {.control = &mine.control,
                                     .timeline = &mine.timeline,
                                     .ring = &mine.ring,
                                     .recipe = mine.recipe,
                                     .cache_dir = mine.dir};
        struct vx_err err = {0};
        if (vx_worker_run(&c, NULL, &err) != VX_OK) {
            fprintf(stderr, "bench_loader: %s (%s)\n", err.text, err.where);
            _exit(1);
        }
        _exit(0);
    }
    return pid;
}

static uint64_t worker_cpu_ns(const struct bench *b) {
    struct timespec t = {0};
    clock_gettime(b->worker_cpu, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int start(struct bench *b, struct vx_err *err) {
    struct vx_sample_schedule schedule = {b->batch, 1u << 20, 0, 1};
    struct vx_knobs knobs = {.workers_wanted = 1, .keep_files_open = 1};
    uint32_t channels = 0, size[3];
    for (int i = 0; i < 3; i++) {
        size[i] = (uint32_t)b->patch[i];
    }
    int rc = make_recipe(b, &channels, err);
    uint32_t slots = vx_ring_plan(vx_ring_slot_bytes(channels, size), 1, b->batch, 0);
    if (rc != VX_OK || (rc = vx_control_create(&knobs, &b->control, err)) != VX_OK ||
        (rc = vx_timeline_create(&b->timeline, err)) != VX_OK ||
        (rc = vx_ring_create(channels, size, &schedule, slots, 0, &b->ring, err)) != VX_OK) {
        return rc;
    }
    b->worker = spawn(b);
    if (b->worker < 0 || clock_getcpuclockid(b->worker, &b->worker_cpu) != 0) {
        return vx_fail(err, VX_E_IO, NULL, "cannot start a worker");
    }
    return VX_OK;
}

static int take(struct bench *b, uint64_t n, struct vx_err *err) {
    struct vx_sample s;
    uint64_t q;
    kill(b->worker, SIGCONT);
    b->wall_ns = vx_now_ns();
    b->cpu_ns = worker_cpu_ns(b);
    for (uint64_t i = 0; i < n; i++) {
        int rc = vx_ring_take(&b->ring, TIMEOUT_NS, &q, &s);
        if (rc != VX_OK) {
            return vx_fail(err, rc, NULL, "the worker made no sample");
        }
        uint64_t wall = vx_now_ns(), cpu = worker_cpu_ns(b);
        printf("%d %llu %llu\n", s.head->flags & VX_SLOT_SPATIAL ? 1 : 0,
               (unsigned long long)(wall - b->wall_ns), (unsigned long long)(cpu - b->cpu_ns));
        b->wall_ns = wall;
        b->cpu_ns = cpu;
        vx_ring_release(&b->ring, q);
    }
    kill(b->worker, SIGSTOP);
    return VX_OK;
}

static int report(const struct bench *b, struct vx_err *err) {
    struct vx_worker_record w;
    if (!vx_timeline_worker(&b->timeline, 0, &w)) {
        return vx_fail(err, VX_E_STATE, NULL, "the worker left no record");
    }
    double per_sample = 1e-6 / (double)(w.samples ? w.samples : 1);
    json_t *ms = json_object();
    json_object_set_new(ms, "read", json_real((double)w.read_ns * per_sample));
    json_object_set_new(ms, "decompress", json_real((double)w.decompress_ns * per_sample));
    for (uint32_t t = 0; t < VX_T_COUNT; t++) {
        json_object_set_new(ms, vx_transform_name(t),
                            json_real((double)w.augment_ns[t] * per_sample));
    }
    vx_auto_json json_t *doc = json_pack(
        "{s:I, s:o, s:I, s:f, s:f}", "samples", (json_int_t)w.samples, "ms", ms, "rss_anon",
        (json_int_t)w.rss_anon, "minor_faults_per_sample",
        (double)w.minor_faults / (double)(w.samples ? w.samples : 1), "bytes_read_per_sample",
        (double)w.bytes_read / (double)(w.samples ? w.samples : 1));
    vx_auto_free char *text = json_dumps(doc, JSON_REAL_PRECISION(5) | JSON_COMPACT);
    puts(text);
    fflush(stdout);
    return VX_OK;
}

int main(int argc, char **argv) {
    struct bench b = {0};
    struct vx_err err = {0};
    if (argc != 4 || sscanf(argv[2], "%d,%d,%d", &b.patch[0], &b.patch[1], &b.patch[2]) != 3) {
        fputs("usage: bench_loader STORE D,H,W BATCH\n", stderr);
        return 2;
    }
    b.dir = argv[1];
    b.batch = (uint32_t)strtoul(argv[3], NULL, 10);
    int rc = start(&b, &err);
    char line[64];
    while (rc == VX_OK && fgets(line, sizeof line, stdin)) {
        rc = take(&b, strtoull(line, NULL, 10), &err);
        if (rc == VX_OK) {
            rc = report(&b, &err);
        }
    }
    if (rc != VX_OK) {
        fprintf(stderr, "bench_loader: %s (%s)\n", err.text, err.where);
    }
    if (b.worker > 0) {
        kill(b.worker, SIGKILL);
        waitpid(b.worker, NULL, 0);
    }
    vx_ring_close(&b.ring);
    vx_timeline_close(&b.timeline);
    vx_control_close(&b.control);
    vx_recipe_free(b.recipe);
    return rc == VX_OK ? 0 : 1;
}
