#include "infer/sliding.h"
#include "base/err.h"
#include "base/own.h"
#include "device/device.h"
#include "device/oplist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_STEP 0.5

int64_t vx_sliding_count(int64_t size, int64_t patch, double step) {
    if (size <= patch) {
        return 1;
    }
    return patch == 1 ? size : (int64_t)ceil((double)(size - patch) / (step * (double)patch)) + 1;
}

int64_t vx_sliding_start(int64_t size, int64_t patch, double step, int64_t k) {
    if (size <= patch) {
        return -((patch - size) / 2);
    }
    int64_t n = vx_sliding_count(size, patch, step);
    return (int64_t)nearbyint((double)k * ((double)(size - patch) / (double)(n - 1)));
}

void vx_sliding_importance(int64_t patch, float *ret) {
    double sigma = (double)patch / 8;
    for (int64_t i = 0; i < patch; i++) {
        double d = (double)(i - patch / 2) / sigma;
        ret[i] = (float)exp(-0.5 * d * d);
    }
}

struct vx_predictor {
    struct vx_program *program; /* borrowed */
    int batch, channels, classes;
    int64_t patch[3];
    double step;
    int n_flips;
    bool flips[8][3];
    struct vx_tile *jobs; /* batch */
    struct vx_sums *sums; /* owned; of the volume under way, where the device adds up */
    float *tiles;         /* [batch][channels][patch] */
    float *logits;        /* [batch][classes][patch] */
    const float **images; /* batch pointers into tiles */
    float *importance[3]; /* [patch[i]] */
};

static void drop_sums(struct vx_predictor *p) {
    vx_sums_free(p->sums);
    p->sums = NULL;
}

struct vx_predictor *vx_predictor_free(struct vx_predictor *p) {
    if (p) {
        drop_sums(p);
        free(p->jobs);
        free(p->tiles);
        free(p->logits);
        free(p->images);
        for (int i = 0; i < 3; i++) {
            free(p->importance[i]);
        }
        free(p);
    }
    return NULL;
}

int vx_predictor_classes(const struct vx_predictor *p) {
    return p->classes;
}

int vx_predictor_channels(const struct vx_predictor *p) {
    return p->channels;
}

static int64_t volume_of(const int64_t s[3]) {
    return s[0] * s[1] * s[2];
}

static bool allocate(struct vx_predictor *p) {
    size_t n = (size_t)p->batch, tile = (size_t)volume_of(p->patch);
    p->jobs = calloc(n, sizeof *p->jobs);
    p->tiles = calloc(n * (size_t)p->channels * tile, sizeof *p->tiles);
    p->logits = calloc(n * (size_t)p->classes * tile, sizeof *p->logits);
    p->images = calloc(n, sizeof *p->images);
    if (!p->jobs || !p->tiles || !p->logits || !p->images) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        p->images[i] = p->tiles + i * (size_t)p->channels * tile;
    }
    for (int i = 0; i < 3; i++) {
        p->importance[i] = malloc((size_t)p->patch[i] * sizeof(float));
        if (!p->importance[i]) {
            return false;
        }
        vx_sliding_importance(p->patch[i], p->importance[i]);
    }
    return true;
}

int vx_predictor_create(struct vx_program *program, const struct vx_oplist *net,
                        const struct vx_sliding_options *o, struct vx_predictor **ret,
                        struct vx_err *err) {
    const int *shape = net->tensors[net->input].shape;
    double step = o->step == 0 ? DEFAULT_STEP : o->step;
    if (!(step > 0 && step <= 1)) {
        return vx_fail(err, VX_E_INVALID, "bad_step", "sliding window step %g is not in (0, 1]",
                       step);
    }
    vx_auto_predictor struct vx_predictor *p = calloc(1, sizeof *p);
    if (p) {
        *p = (struct vx_predictor){.program = program,
                                   .batch = shape[0],
                                   .channels = shape[1],
                                   .classes = net->classes,
                                   .step = step};
        for (int i = 0; i < 3; i++) {
            p->patch[i] = shape[2 + i];
        }
        for (int bits = 0; bits < 8; bits++) {
            bool wanted = true;
            for (int i = 0; i < 3; i++) {
                p->flips[p->n_flips][i] = bits >> i & 1;
                wanted = wanted && (!(bits >> i & 1) || o->mirror[i]);
            }
            p->n_flips += wanted;
        }
    }
    if (!p || !allocate(p)) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the tiles of the sliding window");
    }
    *ret = vx_steal(p);
    return VX_OK;
}

/* dst[x] = src[n - 1 - x] */
static void copy_reversed(float *dst, const float *src, int64_t n) {
    for (int64_t x = 0; x < n; x++) {
        dst[x] = src[n - 1 - x];
    }
}

/* The part of a tile's axis that lies inside the volume, in tile coordinates. */
static void inside(int64_t start, int64_t patch, int64_t size, int64_t *ret_lo, int64_t *ret_hi) {
    *ret_lo = start < 0 ? -start : 0;
    *ret_hi = start + patch > size ? size - start : patch;
}

/* Copies a tile, mirrored, zeros outside the volume. */
static void cut_tile(const struct vx_predictor *p, const float *image, const int64_t shape[3],
                     const struct vx_tile *job, float *dst) {
    int64_t lo[3], hi[3];
    for (int i = 0; i < 3; i++) {
        inside(job->start[i], p->patch[i], shape[i], &lo[i], &hi[i]);
    }
    int64_t n = hi[2] - lo[2], px = p->patch[2];
    memset(dst, 0, (size_t)(p->channels * volume_of(p->patch)) * sizeof *dst);
    for (int c = 0; c < p->channels; c++) {
        for (int64_t z = lo[0]; z < hi[0]; z++) {
            int64_t tz = job->flip[0] ? p->patch[0] - 1 - z : z;
            for (int64_t y = lo[1]; y < hi[1]; y++) {
                int64_t ty = job->flip[1] ? p->patch[1] - 1 - y : y;
                const float *from =
                    image +
                    ((c * shape[0] + job->start[0] + z) * shape[1] + job->start[1] + y) * shape[2] +
                    job->start[2] + lo[2];
                float *to = dst + ((c * p->patch[0] + tz) * p->patch[1] + ty) * px;
                if (job->flip[2]) {
                    copy_reversed(to + px - hi[2], from, n);
                } else {
                    memcpy(to + lo[2], from, (size_t)n * sizeof *to);
                }
            }
        }
    }
}

/* sum[x] += scale * weight[x] * value[x], value read backwards where mirrored. */
static void add_row(float *sum, const float *value, const float *weight, float scale, int64_t n,
                    bool backwards) {
    if (backwards) {
        for (int64_t x = 0; x < n; x++) {
            sum[x] += scale * weight[x] * value[-x];
        }
    } else {
        for (int64_t x = 0; x < n; x++) {
            sum[x] += scale * weight[x] * value[x];
        }
    }
}

/* Adds one tile's logits, mirrored back and weighted, to the volume's. */
static void add_tile(const struct vx_predictor *p, const float *tile, const struct vx_tile *job,
                     const int64_t shape[3], float *logits) {
    int64_t lo[3], hi[3];
    for (int i = 0; i < 3; i++) {
        inside(job->start[i], p->patch[i], shape[i], &lo[i], &hi[i]);
    }
    int64_t px = p->patch[2];
    for (int c = 0; c < p->classes; c++) {
        for (int64_t z = lo[0]; z < hi[0]; z++) {
            int64_t tz = job->flip[0] ? p->patch[0] - 1 - z : z;
            for (int64_t y = lo[1]; y < hi[1]; y++) {
                int64_t ty = job->flip[1] ? p->patch[1] - 1 - y : y;
                const float *row = tile + ((c * p->patch[0] + tz) * p->patch[1] + ty) * px;
                float *sum =
                    logits +
                    ((c * shape[0] + job->start[0] + z) * shape[1] + job->start[1] + y) * shape[2] +
                    job->start[2] + lo[2];
                add_row(sum, row + (job->flip[2] ? px - 1 - lo[2] : lo[2]),
                        p->importance[2] + lo[2], p->importance[0][z] * p->importance[1][y],
                        hi[2] - lo[2], job->flip[2]);
            }
        }
    }
}

/* Runs the first n jobs of the batch and adds their logits. */
static int run_batch(struct vx_predictor *p, int n, const float *image, const int64_t shape[3],
                     float *logits, struct vx_err *err) {
    if (p->sums) {
        return vx_sums_add(p->sums, p->jobs, n, err);
    }
    int64_t tile = volume_of(p->patch);
    for (int i = 0; i < p->batch; i++) {
        cut_tile(p, image, shape, &p->jobs[i < n ? i : 0], p->tiles + i * p->channels * tile);
    }
    struct vx_run_input in = {.images = p->images};
    uint64_t ticket;
    int rc = vx_program_run(p->program, &in, &ticket, err);
    rc = rc == VX_OK ? vx_program_wait(p->program, ticket, NULL, err) : rc;
    rc = rc == VX_OK ? vx_program_read_logits(p->program, p->logits, err) : rc;
    for (int i = 0; rc == VX_OK && i < n; i++) {
        add_tile(p, p->logits + i * p->classes * tile, &p->jobs[i], shape, logits);
    }
    return rc;
}

/* Sum over an axis' tiles of the importance at every voxel. */
static float *axis_weight(const struct vx_predictor *p, int axis, int64_t size) {
    float *w = calloc((size_t)size, sizeof *w);
    int64_t n = vx_sliding_count(size, p->patch[axis], p->step);
    for (int64_t k = 0; w && k < n; k++) {
        int64_t start = vx_sliding_start(size, p->patch[axis], p->step, k), lo, hi;
        inside(start, p->patch[axis], size, &lo, &hi);
        for (int64_t i = lo; i < hi; i++) {
            w[start + i] += p->importance[axis][i];
        }
    }
    return w;
}

/* Divides by the weights and the number of mirrorings and passes; whether all are numbers. */
static bool divide(const struct vx_predictor *p, const int64_t shape[3],
                   const float *const weights[3], int passes, float *logits) {
    bool finite = true;
    for (int c = 0; c < p->classes; c++) {
        for (int64_t z = 0; z < shape[0]; z++) {
            for (int64_t y = 0; y < shape[1]; y++) {
                float w = weights[0][z] * weights[1][y] * (float)(p->n_flips * passes);
                for (int64_t x = 0; x < shape[2]; x++) {
                    logits[x] /= w * weights[2][x];
                    finite = finite && isfinite(logits[x]);
                }
                logits += shape[2];
            }
        }
    }
    return finite;
}

int vx_predictor_finish(struct vx_predictor *p, const int64_t shape[3], int passes, float *logits,
                        struct vx_err *err) {
    vx_auto_free float *wz = axis_weight(p, 0, shape[0]);
    vx_auto_free float *wy = axis_weight(p, 1, shape[1]);
    vx_auto_free float *wx = axis_weight(p, 2, shape[2]);
    if (!wz || !wy || !wx) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the weights of the sliding window");
    }
    const float *const weights[3] = {wz, wy, wx};
    bool finite = true;
    if (p->sums) {
        int rc = vx_sums_read(p->sums, weights, (float)(p->n_flips * passes), logits, &finite, err);
        drop_sums(p);
        if (rc != VX_OK) {
            return rc;
        }
    } else {
        finite = divide(p, shape, weights, passes, logits);
    }
    if (!finite) {
        return vx_fail(err, VX_E_DEVICE, "logits_not_finite",
                       "the network gives numbers that are not finite; the training diverged or "
                       "the checkpoint is damaged");
    }
    return VX_OK;
}

/* Job i of the prediction: tile by tile in z, y, x, all mirrorings of one tile before the next. */
static void set_job(const struct vx_predictor *p, const int64_t shape[3], const int64_t n[3],
                    int64_t i, struct vx_tile *job) {
    int64_t tile = i / p->n_flips;
    const int64_t at[3] = {tile / (n[1] * n[2]), tile / n[2] % n[1], tile % n[2]};
    memcpy(job->flip, p->flips[i % p->n_flips], sizeof job->flip);
    for (int a = 0; a < 3; a++) {
        job->start[a] = vx_sliding_start(shape[a], p->patch[a], p->step, at[a]);
    }
}

int vx_predictor_begin(struct vx_predictor *p, const int64_t shape[3], float *logits,
                       struct vx_err *err) {
    const float *const importance[3] = {p->importance[0], p->importance[1], p->importance[2]};
    struct vx_err why = {0};
    drop_sums(p);
    int rc = vx_sums_begin(p->program, shape, importance, &p->sums, &why);
    if (rc == VX_E_UNSUPPORTED || rc == VX_E_NOMEM) {
        memset(logits, 0, (size_t)(p->classes * volume_of(shape)) * sizeof *logits);
        return VX_OK;
    }
    if (rc != VX_OK && err) {
        *err = why;
    }
    return rc;
}

/* Everything of one pass, batch by batch. */
static int add_tiles(struct vx_predictor *p, const float *image, const int64_t shape[3],
                     float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err) {
    int64_t n[3], total = p->n_flips;
    for (int a = 0; a < 3; a++) {
        n[a] = vx_sliding_count(shape[a], p->patch[a], p->step);
        total *= n[a];
    }
    for (int64_t done = 0; done < total;) {
        int filled = 0;
        while (filled < p->batch && done + filled < total) {
            set_job(p, shape, n, done + filled, &p->jobs[filled]);
            filled++;
        }
        int rc = run_batch(p, filled, image, shape, logits, err);
        if (rc != VX_OK) {
            return rc;
        }
        done += filled;
        if (tick && tick(context, done, total) != 0) {
            return vx_fail(err, VX_E_CANCELLED, NULL, "the prediction was cancelled");
        }
    }
    return VX_OK;
}

int vx_predictor_add(struct vx_predictor *p, const float *image, const int64_t shape[3],
                     float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err) {
    int rc = p->sums ? vx_sums_image(p->sums, image, err) : VX_OK;
    rc = rc == VX_OK ? add_tiles(p, image, shape, logits, tick, context, err) : rc;
    if (rc != VX_OK) {
        drop_sums(p);
    }
    return rc;
}

int vx_predictor_run(struct vx_predictor *p, const float *image, const int64_t shape[3],
                     float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err) {
    int rc = vx_predictor_begin(p, shape, logits, err);
    rc = rc == VX_OK ? vx_predictor_add(p, image, shape, logits, tick, context, err) : rc;
    return rc == VX_OK ? vx_predictor_finish(p, shape, 1, logits, err) : rc;
}
