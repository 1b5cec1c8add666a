/* Reads training samples' boxes from a prepared store when told to; the voxeld side of cache.py.
 *
 *   bench_cache STORE D,H,W SAMPLES
 *
 * First line out: the samples' boxes. Then a line in, a line out: "warm FROM TO", "cold FROM TO"
 * (the case's files are dropped from the page cache before each sample), "open FROM TO" (warm,
 * files opened anew for each read); out come milliseconds per sample and bytes. A sample's reading
 * is what a worker does before it augments: the case's table, a location where foreground is
 * forced, image and labels of the box that the drawn transform samples. */
#include "cache_boxes.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/cache.h"
#include "cache/held.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>

struct bench {
    struct bench_boxes boxes;
    const char *store;
    uint64_t samples;
    float *image;
    int16_t *label;
    size_t channels;
    struct vx_held *held;
};

static json_t *triple(const int64_t v[3]) {
    return json_pack("[I,I,I]", (json_int_t)v[0], (json_int_t)v[1], (json_int_t)v[2]);
}

/* Says the boxes, and makes room for the largest. */
static int say_boxes(struct bench *b, struct vx_err *err) {
    vx_auto_json json_t *list = json_array();
    size_t largest = 0;
    for (uint64_t q = 0; q < b->samples; q++) {
        struct bench_box box;
        int rc = bench_box_draw(&b->boxes, q, &box, err);
        if (rc != VX_OK) {
            return rc;
        }
        size_t voxels = 1;
        for (int a = 0; a < 3; a++) {
            voxels *= (size_t)(box.hi[a] - box.lo[a]);
        }
        largest = voxels > largest ? voxels : largest;
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o}", "case",
                                              vx_cache_case_name(b->boxes.cache, box.case_index),
                                              "lo", triple(box.lo), "hi", triple(box.hi),
                                              "initial_lo", triple(box.initial_lo), "initial_hi",
                                              triple(box.initial_hi)));
        b->channels = (size_t)vx_cache_case_info(box.opened->handle)->n_channels;
    }
    b->image = malloc(largest * b->channels * sizeof *b->image);
    b->label = malloc(largest * sizeof *b->label);
    vx_auto_free char *text = json_dumps(list, JSON_COMPACT);
    puts(text);
    fflush(stdout);
    return b->image && b->label ? VX_OK : VX_E_NOMEM;
}

/* Drops the files of a case from the page cache; they were synced when they were written. */
static void drop_case(const struct bench *b, uint32_t case_index) {
    char pattern[1024];
    const char *name = vx_cache_case_name(b->boxes.cache, case_index);
    snprintf(pattern, sizeof pattern, "%s/cases", b->store);
    char *const roots[] = {pattern, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    size_t len = strlen(name);
    for (FTSENT *e; walk && (e = fts_read(walk));) {
        bool other = e->fts_level == 1 && e->fts_info == FTS_D &&
                     (strncmp(e->fts_name, name, len) != 0 || e->fts_name[len] != '~');
        if (other) {
            fts_set(walk, e, FTS_SKIP);
        }
        if (e->fts_info == FTS_F) {
            vx_auto_close int fd = open(e->fts_path, O_RDONLY | O_CLOEXEC);
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        }
    }
    fts_close(walk);
}

static uint64_t device_bytes(void) {
    char line[128];
    unsigned long long n = 0;
    vx_auto_fclose FILE *f = fopen("/proc/self/io", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "read_bytes: %llu", &n) == 1) {
            break;
        }
    }
    return n;
}

static int read_sample(struct bench *b, uint64_t q, struct vx_err *err) {
    struct bench_box box;
    int rc = bench_box_draw(&b->boxes, q, &box, err);
    if (rc == VX_OK) {
        rc = vx_cache_read_box(box.opened->handle, VX_CACHE_IMAGE, box.lo, box.hi, b->image, NULL,
                               err);
    }
    return rc == VX_OK ? vx_cache_read_box(box.opened->handle, VX_CACHE_SEG, box.lo, box.hi,
                                           b->label, NULL, err)
                       : rc;
}

/* Every case into memory, once, and read from there. */
static int hold(struct bench *b, struct vx_err *err) {
    struct vx_cache *cache = b->boxes.cache;
    int fd;
    int rc = b->held ? VX_OK : vx_held_create(&fd, err);
    if (rc == VX_OK && !b->held) {
        rc = vx_held_fill(fd, cache, &b->held, err);
    }
    for (size_t i = 0; rc == VX_OK && i < vx_cache_n_cases(cache); i++) {
        rc = vx_held_load(b->held, i, err);
    }
    vx_cache_read_held(cache, b->held);
    return rc;
}

static int measure(struct bench *b, const char *mode, uint64_t from, uint64_t to,
                   struct vx_err *err) {
    bool cold = strcmp(mode, "cold") == 0;
    int rc = strcmp(mode, "held") == 0 ? hold(b, err) : VX_OK;
    if (rc != VX_OK) {
        return rc;
    }
    vx_cache_keep_open(b->boxes.cache, strcmp(mode, "open") == 0 ? 0 : 512);
    struct vx_cache_counters before = *vx_cache_counters(b->boxes.cache);
    uint64_t ns = 0, device = device_bytes();
    for (uint64_t q = from; q < to && rc == VX_OK; q++) {
        struct bench_box box;
        if (cold && (rc = bench_box_draw(&b->boxes, q, &box, err)) == VX_OK) {
            drop_case(b, box.case_index);
        }
        uint64_t start = vx_now_ns();
        rc = rc == VX_OK ? read_sample(b, q, err) : rc;
        ns += vx_now_ns() - start;
    }
    vx_cache_read_held(b->boxes.cache, NULL);
    const struct vx_cache_counters *after = vx_cache_counters(b->boxes.cache);
    double n = (double)(to - from);
    printf("{\"ms\": %.5f, \"read\": %.0f, \"decoded\": %.0f, \"device\": %.0f, \"reads\": %.2f}\n",
           (double)ns * 1e-6 / n, (double)(after->bytes_read - before.bytes_read) / n,
           (double)(after->bytes_decoded - before.bytes_decoded) / n,
           (double)(device_bytes() - device) / n, (double)(after->reads - before.reads) / n);
    fflush(stdout);
    return rc;
}

int main(int argc, char **argv) {
    struct bench b = {0};
    struct vx_err err = {0};
    int32_t patch[3];
    char line[256], mode[16];
    if (argc != 4 || sscanf(argv[2], "%d,%d,%d", &patch[0], &patch[1], &patch[2]) != 3) {
        fputs("usage: bench_cache STORE D,H,W SAMPLES\n", stderr);
        return 2;
    }
    b.store = argv[1];
    b.samples = strtoull(argv[3], NULL, 10);
    int rc = bench_boxes_open(argv[1], patch, &b.boxes, &err);
    if (rc == VX_OK) {
        rc = say_boxes(&b, &err);
    }
    while (rc == VX_OK && fgets(line, sizeof line, stdin)) {
        unsigned long long from, to;
        if (sscanf(line, "%15s %llu %llu", mode, &from, &to) == 3) {
            rc = measure(&b, mode, from, to, &err);
        }
    }
    if (rc != VX_OK) {
        fprintf(stderr, "bench_cache: %s (%s)\n", err.text, err.where);
    }
    bench_boxes_close(&b.boxes);
    free(b.image);
    free(b.label);
    return rc == VX_OK ? 0 : 1;
}
