/* What one act of measuring costs the process that does it: nanoseconds of a mark in the timeline,
 * a look at the clock, at the own CPU time, at the own memory. Each is timed with caches that were
 * emptied by other work just before, as they are in a trainer or worker, and is a median less that
 * of doing nothing. Prints one JSON object; tests/bench/telemetry.py multiplies. */
#include "base/clock.h"
#include "base/err.h"
#include "session/timeline.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { TIMES = 1001, ELSEWHERE = 4 << 20 };

static struct vx_timeline timeline;
static char *elsewhere;

static void nothing(void) {
}

static void clock_read(void) {
    vx_now_ns();
}

static void step(void) {
    static const struct vx_step_record r;
    vx_timeline_add_step(&timeline, &r);
}

static void progress(void) {
    static const struct vx_progress p;
    vx_timeline_set_progress(&timeline, &p);
}

static void worker(void) {
    static const struct vx_worker_record r;
    vx_timeline_set_worker(&timeline, 3, &r);
}

static void cpu_time(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
}

/* As a worker looks for RssAnon. */
static void memory(void) {
    char line[256];
    unsigned long long kib;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %llu kB", &kib) != 1) {
    }
    if (f) {
        fclose(f);
    }
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median_ns(void (*act)(void)) {
    static uint64_t ns[TIMES];
    for (int i = 0; i < TIMES; i++) {
        for (size_t at = 0; at < ELSEWHERE; at += 64) {
            elsewhere[at]++;
        }
        uint64_t start = vx_now_ns();
        act();
        ns[i] = vx_now_ns() - start;
    }
    qsort(ns, TIMES, sizeof *ns, ascending);
    return (double)ns[TIMES / 2];
}

int main(void) {
    static const struct {
        const char *name;
        void (*act)(void);
    } acts[] = {{"clock", clock_read}, {"step", step},         {"progress", progress},
                {"worker", worker},    {"cpu_time", cpu_time}, {"memory", memory}};
    struct vx_err err = {0};
    elsewhere = calloc(1, ELSEWHERE);
    if (!elsewhere || vx_timeline_create(&timeline, &err) != VX_OK) {
        fprintf(stderr, "telemetry: %s\n", err.text);
        return 1;
    }
    json_t *costs = json_object();
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        double cost = median_ns(acts[i].act) - median_ns(nothing);
        json_object_set_new(costs, acts[i].name, json_real(cost > 1 ? cost : 1));
    }
    json_dumpf(costs, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    puts("");
    json_decref(costs);
    vx_timeline_close(&timeline);
    free(elsewhere);
    return 0;
}
