/* What reading training samples costs for each way of coding and cutting the arrays: the table of
 * core/cache/README.md.
 *
 *   bench_cache_shapes STORE D,H,W SAMPLES [CASES]     a prepared store, the patch; JSON lines
 *
 * Each line: bytes read and decoded, CPU milliseconds from the page cache, and the stored size, per
 * training sample or case. float16 is what converting the image would give; it is not lossless. */
#include "cache_boxes.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/build.h"
#include "cache/cache.h"
#include "cache/shard/shard.h"

#include <fcntl.h>
#include <immintrin.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_CASES = 64, ROUNDS = 5 };

/* One way to store a case. */
struct variant {
    struct vx_shard_codec codec; /* without a name: what vx_shard_choose_codec says */
    bool half;                   /* float16 */
    int edge;                    /* of the chunks; 0: what vx_cache_chunk_shape says */
};

struct stored { /* one array of one case, as the variant stores it */
    struct vx_shard shard;
    struct vx_shard_entry *entries;
    int fd;
    uint64_t bytes;
};

struct bench {
    struct bench_boxes boxes;
    int32_t patch[3];
    uint64_t samples;
    size_t n_cases;
    float *image[MAX_CASES]; /* [C][Z][Y][X] */
    _Float16 *half[MAX_CASES];
    int16_t *seg[MAX_CASES];
    const struct vx_cache_info *info[MAX_CASES];
    struct vx_cache_case *cases[MAX_CASES];
    struct bench_box *drawn; /* [samples] of the first n_cases cases */
    struct stored stored[MAX_CASES][2];
    char dir[64];
    float *out; /* of the largest box */
    int16_t *out16;
    struct vx_shard_scratch scratch;
};

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int load_case(struct bench *b, size_t i, struct vx_err *err) {
    int rc = vx_cache_case_open(b->boxes.cache, vx_cache_case_name(b->boxes.cache, i), &b->cases[i],
                                err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_cache_info *in = b->info[i] = vx_cache_case_info(b->cases[i]);
    size_t n = (size_t)(in->shape[0] * in->shape[1] * in->shape[2]), c = (size_t)in->n_channels;
    const int64_t lo[3] = {0, 0, 0};
    b->image[i] = malloc(c * n * sizeof(float));
    b->half[i] = malloc(c * n * sizeof(_Float16));
    b->seg[i] = malloc(n * sizeof(int16_t));
    rc = vx_cache_read_box(b->cases[i], VX_CACHE_IMAGE, lo, in->shape, b->image[i], NULL, err);
    if (rc == VX_OK) {
        rc = vx_cache_read_box(b->cases[i], VX_CACHE_SEG, lo, in->shape, b->seg[i], NULL, err);
    }
    for (size_t v = 0; rc == VX_OK && v < c * n; v++) {
        b->half[i][v] = (_Float16)b->image[i][v];
    }
    return rc;
}

static int draw_boxes(struct bench *b, struct vx_err *err) {
    size_t largest = 0;
    b->drawn = calloc(b->samples, sizeof *b->drawn);
    for (uint64_t q = 0, n = 0; n < b->samples; q++) {
        struct bench_box *box = &b->drawn[n];
        int rc = bench_box_draw(&b->boxes, q, box, err);
        if (rc != VX_OK) {
            return rc;
        }
        size_t voxels = 1;
        for (int a = 0; a < 3; a++) {
            voxels *= (size_t)(box->hi[a] - box->lo[a]);
        }
        largest = voxels > largest ? voxels : largest;
        n += box->case_index < b->n_cases;
    }
    size_t channels = (size_t)b->info[0]->n_channels;
    b->out = malloc(largest * channels * sizeof *b->out);
    b->out16 = malloc(largest * channels * sizeof *b->out16);
    return VX_OK;
}

/* The array's shard for a variant, with its codec chosen. */
static int shape_array(struct bench *b, size_t i, int which, const struct variant *v, bool smooth,
                       const void *data, struct vx_err *err) {
    const struct vx_cache_info *in = b->info[i];
    struct stored *s = &b->stored[i][which];
    int64_t patch[3], chunk[3];
    for (int a = 0; a < 3; a++) {
        patch[a] = b->patch[a];
        chunk[a] = v->edge < in->shape[a] ? v->edge : in->shape[a];
    }
    if (v->edge == 0) {
        vx_cache_chunk_shape(in->shape, patch, smooth, chunk);
    }
    int64_t shape[4] = {which == 0 ? in->n_channels : 1, in->shape[0], in->shape[1], in->shape[2]};
    int64_t chunk4[4] = {1, chunk[0], chunk[1], chunk[2]};
    bool half = which == 0 && v->half;
    int rc = vx_shard_init(&s->shard, which == 1 || half ? VX_SHARD_INT16 : VX_SHARD_FLOAT32, 4,
                           shape, chunk4, err);
    if (rc == VX_OK && !v->codec.name) {
        return vx_shard_choose_codec(&s->shard, data, err);
    }
    s->shard.codec = v->codec;
    return rc;
}

static int store_array(struct bench *b, size_t i, int which, const struct variant *v,
                       struct vx_err *err) {
    struct stored *s = &b->stored[i][which];
    bool half = which == 0 && v->half;
    vx_auto_free char *path = vx_strf("%s/%zu-%d", b->dir, i, which);
    const void *data = which == 1 ? (void *)b->seg[i] : half ? (void *)b->half[i] : b->image[i];
    int rc = shape_array(b, i, which, v, false, data, err);
    /* as core/cache does it: the image says how both are cut, and is stored first */
    if (rc == VX_OK && b->stored[i][0].shard.codec.shuffle) {
        rc = shape_array(b, i, which, v, true, data, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_shard_file file;
    unlink(path);
    rc = vx_shard_write(&s->shard, data, path, &file, err);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    s->bytes = file.bytes;
    s->entries = calloc(s->shard.n_chunks, sizeof *s->entries);
    return rc == VX_OK ? vx_shard_read_index(&s->shard, s->fd, file.bytes, s->entries, err) : rc;
}

static void drop(struct bench *b) {
    for (size_t i = 0; i < b->n_cases; i++) {
        for (int w = 0; w < 2; w++) {
            close(b->stored[i][w].fd);
            free(b->stored[i][w].entries);
        }
    }
}

/* float16 to float32 with the instruction most CPUs have for it. */
__attribute__((target("avx2,f16c"))) static void widen(const int16_t *from, float *to, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = _cvtsh_ss((unsigned short)from[i]);
    }
}

static int read_sample(struct bench *b, const struct bench_box *box, const struct variant *v,
                       struct vx_cache_counters *counters, struct vx_err *err) {
    int64_t row = box->hi[2] - box->lo[2], plane = row * (box->hi[1] - box->lo[1]);
    int64_t channels = b->info[0]->n_channels, voxels = plane * (box->hi[0] - box->lo[0]);
    int64_t stride[3] = {voxels, plane, row};
    int rc = VX_OK;
    for (int w = 0; w < 2 && rc == VX_OK; w++) {
        struct stored *s = &b->stored[box->case_index][w];
        int64_t lo[4] = {0, box->lo[0], box->lo[1], box->lo[2]};
        int64_t hi[4] = {w == 0 ? channels : 1, box->hi[0], box->hi[1], box->hi[2]};
        void *out = w == 1 || v->half ? (void *)b->out16 : b->out;
        rc = vx_shard_read_box(&s->shard, s->entries, s->fd, lo, hi, NULL, out, stride, &b->scratch,
                               counters, err);
        if (w == 0 && v->half) {
            widen(b->out16, b->out, (size_t)(channels * voxels));
        }
    }
    return rc;
}

/* Bytes of the boxes themselves, image and labels. */
static double needed(const struct bench *b) {
    double sum = 0;
    for (uint64_t q = 0; q < b->samples; q++) {
        double voxels = 1;
        for (int a = 0; a < 3; a++) {
            voxels *= (double)(b->drawn[q].hi[a] - b->drawn[q].lo[a]);
        }
        sum += voxels * (4.0 * b->info[0]->n_channels + 2.0);
    }
    return sum / (double)b->samples;
}

static void say(const struct bench *b, const struct variant *v, const struct vx_cache_counters *c,
                double bytes, double ms, double write_ms) {
    static const char *const shuffles[] = {"none", "shuffle", "bitshuffle"};
    const int64_t *chunk = b->stored[0][0].shard.chunk;
    const struct vx_shard_codec *codec = &b->stored[0][0].shard.codec;
    const char *set = getenv("VXB_SET"), *machine = getenv("VXB_MACHINE"),
               *commit = getenv("VXB_COMMIT");
    double n = (double)b->samples;
    printf("{\"name\": \"cache_shapes\", \"set\": \"%s\", \"codec\": \"%s\", \"level\": %d, "
           "\"shuffle\": \"%s\", \"chosen\": %s, \"type\": \"%s\", \"chunk\": \"%dx%dx%d\", "
           "\"by_rule\": %s, \"box_kb\": %.1f, \"read_kb\": %.1f, \"decoded_kb\": %.1f, \"reads\": "
           "%.1f, \"cpu_ms\": %.4f, \"case_mb\": %.3f, \"write_cpu_ms\": %.1f, \"samples\": %d, "
           "\"machine\": \"%s\", \"commit\": \"%s\"}\n",
           set ? set : "", codec->name, codec->level, shuffles[codec->shuffle],
           v->codec.name ? "false" : "true", v->half ? "float16" : "float32", (int)chunk[1],
           (int)chunk[2], (int)chunk[3], v->edge ? "false" : "true", needed(b) * 1e-3,
           (double)c->bytes_read / n * 1e-3, (double)c->bytes_decoded / n * 1e-3,
           (double)c->reads / n, ms, bytes * 1e-6 / (double)b->n_cases, write_ms, (int)b->samples,
           machine ? machine : "", commit ? commit : "");
    fflush(stdout);
}

static int measure(struct bench *b, const struct variant *v, struct vx_err *err) {
    struct vx_cache_counters counters = {0};
    double start = cpu_ms(), bytes = 0, n = (double)b->samples;
    int rc = VX_OK;
    for (size_t i = 0; rc == VX_OK && i < 2 * b->n_cases; i++) {
        rc = store_array(b, i / 2, i % 2, v, err);
        bytes += (double)b->stored[i / 2][i % 2].bytes;
    }
    double write_ms = (cpu_ms() - start) / (double)b->n_cases, best = 1e30;
    for (int round = 0; rc == VX_OK && round < ROUNDS; round++) {
        memset(&counters, 0, sizeof counters);
        start = cpu_ms();
        for (uint64_t q = 0; rc == VX_OK && q < b->samples; q++) {
            rc = read_sample(b, &b->drawn[q], v, &counters, err);
        }
        double ms = (cpu_ms() - start) / n;
        best = ms < best ? ms : best;
    }
    say(b, v, &counters, bytes, best, write_ms);
    drop(b);
    return rc;
}

static int measure_all(struct bench *b, struct vx_err *err) {
    static const struct variant codecs[] = {
        {{NULL, 0, 0, 0}, false, 0},    {{"lz4", 5, 1, 0}, false, 0},
        {{"lz4", 5, 0, 0}, false, 0},   {{"lz4", 5, 2, 0}, false, 0},
        {{"lz4hc", 5, 1, 0}, false, 0}, {{"lz4hc", 5, 0, 0}, false, 0},
        {{"lz4hc", 5, 2, 0}, false, 0}, {{"zstd", 3, 1, 0}, false, 0},
        {{"zstd", 3, 0, 0}, false, 0},  {{"zstd", 3, 2, 0}, false, 0},
        {{"lz4", 5, 1, 0}, true, 0},    {{"lz4hc", 5, 0, 0}, true, 0},
        {{"zstd", 3, 1, 0}, true, 0},
    };
    static const int edges[] = {16, 24, 32, 48, 64, 96};
    int rc = VX_OK;
    for (size_t c = 0; rc == VX_OK && c < VX_COUNTOF(codecs); c++) {
        rc = measure(b, &codecs[c], err);
    }
    for (size_t e = 0; rc == VX_OK && e < VX_COUNTOF(edges); e++) {
        rc = measure(b, &(struct variant){{NULL, 0, 0, 0}, false, edges[e]}, err);
    }
    return rc;
}

int main(int argc, char **argv) {
    struct bench *b = calloc(1, sizeof *b);
    struct vx_err err = {0};
    if (argc < 4 || sscanf(argv[2], "%d,%d,%d", &b->patch[0], &b->patch[1], &b->patch[2]) != 3) {
        fputs("usage: bench_cache_shapes STORE D,H,W SAMPLES [CASES]\n", stderr);
        return 2;
    }
    b->samples = strtoull(argv[3], NULL, 10);
    snprintf(b->dir, sizeof b->dir, "%s/vx-shapes-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    int rc = mkdtemp(b->dir) ? bench_boxes_open(argv[1], b->patch, &b->boxes, &err) : VX_E_IO;
    if (rc == VX_OK) {
        size_t most = argc > 4 ? strtoull(argv[4], NULL, 10) : MAX_CASES;
        size_t there = vx_cache_n_cases(b->boxes.cache);
        b->n_cases = there < most ? there : most;
        b->n_cases = b->n_cases < MAX_CASES ? b->n_cases : MAX_CASES;
    }
    for (size_t i = 0; rc == VX_OK && i < b->n_cases; i++) {
        rc = load_case(b, i, &err);
    }
    if (rc == VX_OK) {
        rc = draw_boxes(b, &err);
    }
    if (rc == VX_OK) {
        rc = measure_all(b, &err);
    }
    if (rc != VX_OK) {
        fprintf(stderr, "bench_cache_shapes: %s (%s)\n", err.text, err.where);
    }
    vx_remove_tree(b->dir, NULL);
    return rc == VX_OK ? 0 : 1;
}
