/* Sliding window against a slow version that keeps every tile and a dense importance map in double.
 */
#include "base/err.h"
#include "fake_device.h"
#include "infer/sliding.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Test(infer_sliding, tiles_start_where_nnunet_has_them) {
    /* sizes, patch, starts; worked out by hand from the rule */
    cr_assert_eq(vx_sliding_count(128, 128, 0.5), 1);
    cr_assert_eq(vx_sliding_count(129, 128, 0.5), 2);
    cr_assert_eq(vx_sliding_start(129, 128, 0.5, 1), 1);
    cr_assert_eq(vx_sliding_count(320, 128, 0.5), 4);
    static const int64_t want[4] = {0, 64, 128, 192};
    for (int k = 0; k < 4; k++) {
        cr_assert_eq(vx_sliding_start(320, 128, 0.5, k), want[k]);
    }
    cr_assert_eq(vx_sliding_count(110, 64, 0.5), 3);
    static const int64_t third[3] = {0, 23, 46};
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(vx_sliding_start(110, 64, 0.5, k), third[k]);
    }
    cr_assert_eq(vx_sliding_start(9, 6, 0.5, 1), 3);
    cr_assert_eq(vx_sliding_count(11, 6, 0.5), 3);
    cr_assert_eq(vx_sliding_start(11, 6, 0.5, 1), 2);   /* 2.5 to even */
    cr_assert_eq(vx_sliding_start(35, 40, 0.5, 0), -2); /* 5 voxels short: 2 before, 3 behind */
    cr_assert_eq(vx_sliding_count(7, 1, 0.5), 7);       /* 2d: every slice */
    cr_assert_eq(vx_sliding_start(7, 1, 0.5, 4), 4);
}

Test(infer_sliding, tiles_cover_everything) {
    for (int64_t patch = 1; patch < 20; patch++) {
        for (int64_t size = 1; size < 70; size++) {
            int64_t n = vx_sliding_count(size, patch, 0.5), end = 0;
            for (int64_t k = 0; k < n; k++) {
                int64_t s = vx_sliding_start(size, patch, 0.5, k);
                cr_assert(s <= end, "a gap at %d for %d in %d", (int)end, (int)patch, (int)size);
                cr_assert(s + patch > end);
                end = s + patch;
            }
            cr_assert(end >= size && (size < patch || end == size));
        }
    }
}

Test(infer_sliding, importance_is_a_gaussian) {
    float g[16];
    vx_sliding_importance(16, g); /* sigma 2, centre 8 */
    cr_assert_eq(g[8], 1.0f);
    cr_assert_float_eq(g[6], exp(-0.5), 1e-7);
    cr_assert_float_eq(g[10], exp(-0.5), 1e-7);
    cr_assert_float_eq(g[0], exp(-8), 1e-9);
}

/* Depends on the place in the tile, so that wrong starts, weights or mirrorings show. */
static double placed(const struct fake *f, const float *image, int cls, const int64_t p[3]) {
    double sum = 0;
    for (int c = 0; c < f->tensor.shape[1]; c++) {
        sum += (c + 1) * (double)image[fake_index(f, c, p)];
    }
    return (cls + 1) * sum +
           sin(0.7 * (double)p[0] + 1.3 * (double)p[1] + 2.1 * (double)p[2] + cls);
}

struct setup {
    int patch[3];
    int64_t shape[3];
    bool mirror[3];
    int batch, channels, classes;
};

static double pad_value(const struct setup *s, const float *image, int c, const int64_t p[3]) {
    for (int i = 0; i < 3; i++) {
        if (p[i] < 0 || p[i] >= s->shape[i]) {
            return 0;
        }
    }
    return image[((c * s->shape[0] + p[0]) * s->shape[1] + p[1]) * s->shape[2] + p[2]];
}

/* The logit of tile voxel p when the tile at start is mirrored by flip, given to the network, and
 * mirrored back. */
static double slow_tile(const struct setup *s, const float *image, const int64_t start[3],
                        const bool flip[3], int cls, const int64_t p[3]) {
    double sum = 0, phase = cls;
    static const double wave[3] = {0.7, 1.3, 2.1};
    int64_t at[3];
    for (int i = 0; i < 3; i++) {
        at[i] = start[i] + p[i];
        phase += wave[i] * (double)(flip[i] ? s->patch[i] - 1 - p[i] : p[i]);
    }
    for (int c = 0; c < s->channels; c++) {
        sum += (c + 1) * pad_value(s, image, c, at);
    }
    return (cls + 1) * sum + sin(phase);
}

static double slow_logit(const struct setup *s, const float *image, int cls, const int64_t v[3]) {
    double sum = 0, weights = 0;
    int64_t n[3];
    for (int i = 0; i < 3; i++) {
        n[i] = vx_sliding_count(s->shape[i], s->patch[i], 0.5);
    }
    for (int64_t t = 0; t < n[0] * n[1] * n[2]; t++) {
        const int64_t k[3] = {t / (n[1] * n[2]), t / n[2] % n[1], t % n[2]};
        int64_t start[3], p[3];
        double w = 1, mean = 0;
        int flips = 0;
        for (int i = 0; i < 3; i++) {
            start[i] = vx_sliding_start(s->shape[i], s->patch[i], 0.5, k[i]);
            p[i] = v[i] - start[i];
            double d = (double)(p[i] - s->patch[i] / 2) / (s->patch[i] / 8.0);
            w *= p[i] < 0 || p[i] >= s->patch[i] ? 0 : exp(-0.5 * d * d);
        }
        for (int bits = 0; w > 0 && bits < 8; bits++) {
            const bool flip[3] = {bits & 1, bits >> 1 & 1, bits >> 2 & 1};
            if ((flip[0] && !s->mirror[0]) || (flip[1] && !s->mirror[1]) ||
                (flip[2] && !s->mirror[2])) {
                continue;
            }
            mean += slow_tile(s, image, start, flip, cls, p);
            flips++;
        }
        sum += w > 0 ? w * mean / flips : 0;
        weights += w;
    }
    return sum / weights;
}

static void check(const struct setup *s) {
    int64_t n = s->shape[0] * s->shape[1] * s->shape[2];
    float *image = calloc((size_t)(n * s->channels), sizeof *image);
    float *logits = calloc((size_t)(n * s->classes), sizeof *logits);
    for (int64_t i = 0; i < n * s->channels; i++) {
        image[i] = (float)(i * 37 % 101) / 50 - 1;
    }
    struct fake f;
    fake_init(&f, s->batch, s->channels, s->classes, s->patch, placed);
    struct vx_sliding_options o = {.mirror = {s->mirror[0], s->mirror[1], s->mirror[2]}};
    struct vx_predictor *p = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_predictor_create(&f.program, &f.net, &o, &p, &err), VX_OK, "%s", err.text);
    for (int twice = 0; twice < 2; twice++) {
        cr_assert_eq(vx_predictor_run(p, image, s->shape, logits, NULL, NULL, &err), VX_OK, "%s",
                     err.text);
        for (int64_t i = 0; i < n * s->classes; i++) {
            int64_t v = i % n;
            const int64_t at[3] = {v / (s->shape[1] * s->shape[2]), v / s->shape[2] % s->shape[1],
                                   v % s->shape[2]};
            double want = slow_logit(s, image, (int)(i / n), at);
            cr_assert_float_eq(logits[i], want, 2e-5, "class %d at %d %d %d: %g, not %g",
                               (int)(i / n), (int)at[0], (int)at[1], (int)at[2], (double)logits[i],
                               want);
        }
    }
    vx_predictor_free(p);
    free(image);
    free(logits);
}

Test(infer_sliding, equals_slow_version) {
    static const struct setup setups[] = {
        {{4, 6, 8}, {9, 11, 8}, {true, true, true}, 2, 1, 2},   /* several tiles, full mirroring */
        {{4, 6, 8}, {3, 7, 5}, {true, false, true}, 3, 2, 3},   /* padded, odd batch */
        {{8, 8, 8}, {5, 6, 7}, {false, false, false}, 4, 1, 2}, /* one tile in a batch of four */
        {{1, 6, 4}, {3, 7, 4}, {false, true, true}, 5, 1, 2},   /* 2d */
        {{2, 2, 2}, {1, 5, 1}, {true, true, true}, 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        check(&setups[i]);
    }
}

static int64_t ticks;

static int stop_at_three(void *context, int64_t done, int64_t total) {
    cr_assert_eq(total, *(int64_t *)context);
    cr_assert(done <= total);
    return ++ticks == 3;
}

static double not_a_number(const struct fake *f, const float *image, int cls, const int64_t p[3]) {
    (void)f;
    (void)image;
    return cls && p[0] == 1 ? NAN : 1;
}

Test(infer_sliding, stops_when_told_and_refuses_nan) {
    static const int patch[3] = {2, 2, 2};
    static const int64_t shape[3] = {2, 2, 8};
    float image[32] = {0}, logits[64];
    struct fake f;
    fake_init(&f, 2, 1, 2, patch, placed);
    struct vx_sliding_options o = {.mirror = {true, true, true}};
    struct vx_predictor *p = NULL;
    cr_assert_eq(vx_predictor_create(&f.program, &f.net, &o, &p, NULL), VX_OK);
    int64_t total = 7 * 8;
    cr_assert_eq(vx_predictor_run(p, image, shape, logits, stop_at_three, &total, NULL),
                 VX_E_CANCELLED);
    cr_assert_eq(f.runs, 3);
    f.logit = not_a_number;
    struct vx_err err = {0};
    cr_assert_eq(vx_predictor_run(p, image, shape, logits, NULL, NULL, &err), VX_E_DEVICE);
    cr_assert_str_eq(err.reason, "logits_not_finite");
    vx_predictor_free(p);
    o.step = 1.5;
    cr_assert_eq(vx_predictor_create(&f.program, &f.net, &o, &p, NULL), VX_E_INVALID);
}
