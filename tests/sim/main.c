/* One simulation from the command line: voxeld_sim KEY=VALUE ..., one JSON object on stdout.
 *
 *   workers batch slots window cores trainer_threads seed steps warm     numbers
 *   step_ms sample_ms sleep_ms latency_ms overhead_ms                    milliseconds
 *   heavy_share heavy_ratio      bimodal costs with mean sample_ms
 *   costs=FILE                   measured costs, milliseconds, one a line
 *   exponential=1                exponential costs with mean sample_ms
 *   unit=batch                   a worker makes whole batches
 *   copies=1                     samples are given back when the device has them
 *   kib disk_mib hits cases      read a sample: KiB, MiB/s of the disk, cached share, cold cases
 *   neighbour                    busy threads beside
 *   windows_s                    also a series of windows that long */
#include "sim/model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    struct sim_config c;
    double *list;
    double neighbour, window_seconds;
    uint64_t steps, warm;
};

static bool read_list(struct run *r, const char *path) {
    FILE *f = fopen(path, "re");
    size_t n = 0, cap = 0;
    double ms;
    while (f && fscanf(f, "%lf", &ms) == 1) {
        if (n == cap) {
            cap = cap ? 2 * cap : 1024;
            double *grown = realloc(r->list, cap * sizeof *grown);
            if (!grown) {
                break;
            }
            r->list = grown;
        }
        r->list[n++] = ms * 1e-3;
    }
    if (f) {
        fclose(f);
    }
    r->c.cpu = (struct sim_cost){.kind = SIM_LIST, .list = r->list, .n = n};
    return n > 0;
}

static bool take_number(struct run *r, const char *key, double x) {
    struct sim_config *c = &r->c;
    const struct {
        const char *key;
        double *at;
        double scale;
    } reals[] = {{"step_ms", &c->step.mean, 1e-3},
                 {"sample_ms", &c->cpu.mean, 1e-3},
                 {"sleep_ms", &c->sleep, 1e-3},
                 {"latency_ms", &c->disk_latency, 1e-3},
                 {"overhead_ms", &c->overhead, 1e-3},
                 {"heavy_share", &c->cpu.heavy_share, 1},
                 {"heavy_ratio", &c->cpu.heavy_ratio, 1},
                 {"cores", &c->cores, 1},
                 {"kib", &c->bytes, 1024},
                 {"disk_mib", &c->disk_bandwidth, 1 << 20},
                 {"hits", &c->cache_hits, 1},
                 {"neighbour", &r->neighbour, 1},
                 {"windows_s", &r->window_seconds, 1}};
    const struct {
        const char *key;
        unsigned *at;
    } counts[] = {{"workers", &c->workers},  {"batch", &c->batch},
                  {"slots", &c->slots},      {"window", &c->window},
                  {"cases", &c->cold_cases}, {"trainer_threads", &c->trainer_threads}};
    const struct {
        const char *key;
        uint64_t *at;
    } longs[] = {{"seed", &c->seed}, {"steps", &r->steps}, {"warm", &r->warm}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (strcmp(key, reals[i].key) == 0) {
            *reals[i].at = x * reals[i].scale;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (strcmp(key, counts[i].key) == 0) {
            *counts[i].at = (unsigned)x;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) {
        if (strcmp(key, longs[i].key) == 0) {
            *longs[i].at = (uint64_t)x;
            return true;
        }
    }
    return false;
}

static bool take_argument(struct run *r, char *arg) {
    char *value = strchr(arg, '='), *end;
    if (!value) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(arg, "costs") == 0) {
        return read_list(r, value);
    }
    if (strcmp(arg, "unit") == 0) {
        r->c.batch_is_unit = strcmp(value, "batch") == 0;
        return r->c.batch_is_unit || strcmp(value, "sample") == 0;
    }
    double x = strtod(value, &end);
    if (end == value || *end) {
        return false;
    }
    if (strcmp(arg, "copies") == 0) {
        r->c.copies = x != 0;
        return true;
    }
    if (strcmp(arg, "exponential") == 0) {
        r->c.cpu.kind = x ? SIM_EXPONENTIAL : SIM_CONSTANT;
        return true;
    }
    if (strcmp(arg, "heavy_share") == 0) {
        r->c.cpu.kind = SIM_BIMODAL;
    }
    return take_number(r, arg, x);
}

static json_t *to_json(const struct sim_window *w) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "seconds", w->seconds, "step_ms",
                     w->seconds_per_step * 1e3, "wait_share", w->wait_share, "depth", w->depth,
                     "utilisation", w->utilisation, "sample_ms", w->sample_seconds * 1e3,
                     "samples_per_second", w->samples_per_second);
}

static json_t *series(struct run *r, struct sim *s) {
    json_t *list = json_array();
    struct sim_totals before, after;
    sim_totals(s, &before);
    uint64_t last = before.steps + r->steps;
    while (before.steps < last) {
        struct sim_window w;
        sim_advance(s, r->window_seconds);
        sim_totals(s, &after);
        sim_window(&before, &after, r->c.workers, &w);
        json_array_append_new(list, to_json(&w));
        before = after;
    }
    return list;
}

static json_t *simulate(struct run *r) {
    struct sim *s = sim_create(&r->c);
    struct sim_totals before, after;
    struct sim_window w;
    if (!s) {
        return NULL;
    }
    sim_set_neighbour(s, r->neighbour);
    sim_steps(s, r->warm);
    sim_totals(s, &before);
    json_t *windows = NULL;
    if (r->window_seconds > 0) {
        windows = series(r, s);
    } else {
        sim_steps(s, r->steps);
    }
    sim_totals(s, &after);
    sim_window(&before, &after, r->c.workers, &w);
    json_t *json = to_json(&w), *workers = json_array();
    for (unsigned i = 0; i < r->c.workers; i++) {
        double idle = after.worker[i].slot_wait - before.worker[i].slot_wait;
        json_array_append_new(workers, json_real(1 - idle / w.seconds));
    }
    json_object_set_new(json, "worker_utilisation", workers);
    if (windows) {
        json_object_set_new(json, "windows", windows);
    }
    sim_free(s);
    return json;
}

int main(int argc, char **argv) {
    struct run r = {.c = {.workers = 1, .batch = 2, .slots = 8, .seed = 1, .cpu.heavy_ratio = 14},
                    .steps = 20000,
                    .warm = 100};
    for (int i = 1; i < argc; i++) {
        if (!take_argument(&r, argv[i])) {
            fprintf(stderr, "voxeld_sim: %s is not understood; the file's head lists the keys\n",
                    argv[i]);
            return 2;
        }
    }
    json_t *json = simulate(&r);
    if (!json) {
        fputs("voxeld_sim: needs workers, a batch, and more slots than the batch\n", stderr);
        return 2;
    }
    json_dumpf(json, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
    free(r.list);
    return 0;
}
