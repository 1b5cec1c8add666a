/* Probabilities on the original grid, and the files that nnU-Net's ensembling reads. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "cache/cache.h"
#include "infer/probabilities.h"
#include "volume/resample.h"
#include "volume/volume.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 4, FILE_VOXELS = 5 * 12 * 8 };

/* Logits on shape 4 x 3 x 5, original crop 6 x 3 x 10 in 8 x 5 x 12, axes 0 and 2 of the file
 * swapped (as in test_export.c). */
static const int64_t shape[3] = {4, 3, 5}, cropped[3] = {6, 3, 10};

static struct vx_cache_info sample_info(void) {
    return (struct vx_cache_info){.name = "case",
                                  .shape = {4, 3, 5},
                                  .shape_raw = {8, 5, 12},
                                  .crop_lo = {1, 2, 0},
                                  .crop_hi = {7, 5, 10},
                                  .shape_cropped = {6, 3, 10},
                                  .spacing_raw = {1, 1, 0.5},
                                  .spacing = {1.5, 1, 1}};
}

static const int forward[3] = {2, 0, 1};

static struct vx_geometry sample_geometry(void) {
    struct vx_geometry geo;
    vx_geometry_init(&geo, (const double[3]){1, 0.5, 1});
    geo.sform_code = 1;
    geo.srow[0][0] = -1, geo.srow[1][1] = 0.5f, geo.srow[2][2] = 1;
    geo.srow[0][3] = 12.5f, geo.srow[1][3] = -7, geo.srow[2][3] = 3;
    return geo;
}

static void fill(float *logits, float scale) {
    for (int i = 0; i < CLASSES * 60; i++) {
        logits[i] = ((float)(i * 71 % 37) - 18) * scale;
    }
}

struct taken {
    int next;
    float p[CLASSES][FILE_VOXELS];
};

static int take(void *context, int cls, const float *volume, size_t n, struct vx_err *err) {
    (void)err;
    struct taken *t = context;
    cr_assert_eq(cls, t->next++);
    cr_assert_eq(n, (size_t)FILE_VOXELS);
    memcpy(t->p[cls], volume, n * sizeof *volume);
    return VX_OK;
}

/* scale: of the logits; 100 makes exp overflow where the largest is not taken off first. */
static void check(float scale) {
    struct vx_cache_info info = sample_info();
    struct vx_geometry geo = sample_geometry();
    struct vx_export_grid grid;
    vx_export_grid_of_case(&info, forward, &grid);
    float logits[CLASSES * 60], resized[CLASSES * 180];
    fill(logits, scale);
    cr_assert_eq(
        vx_resample_linear(logits, CLASSES, shape, VX_RESAMPLE_JOINT, cropped, resized, NULL),
        VX_OK);
    struct taken *t = calloc(1, sizeof *t);
    vx_auto_labelmap struct vx_labelmap map = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_export_probabilities(logits, CLASSES, shape, &grid, &geo, take, t, &map, &err),
                 VX_OK, "%s", err.text);
    cr_assert_eq(t->next, CLASSES);
    for (int v = 0; v < FILE_VOXELS; v++) {
        int z = v % 8, y = v / 8 / 12, x = v / 8 % 12; /* array axes; the file is [y][x][z] */
        bool in = z >= 1 && z < 7 && y >= 2 && x < 10;
        int at = in ? ((z - 1) * 3 + y - 2) * 10 + x : 0, best = 0;
        double top = -INFINITY, below = 0, sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            top = fmax(top, (double)resized[c * 180 + at]);
        }
        for (int c = 0; c < CLASSES; c++) {
            below += exp((double)resized[c * 180 + at] - top);
        }
        for (int c = 0; c < CLASSES; c++) {
            double want = in ? exp((double)resized[c * 180 + at] - top) / below : c == 0;
            cr_assert_float_eq(t->p[c][v], want, 2e-7, "class %d voxel %d: %g, not %g", c, v,
                               (double)t->p[c][v], want);
            sum += (double)t->p[c][v];
            best = t->p[c][v] > t->p[best][v] ? c : best;
        }
        cr_assert_float_eq(sum, 1, 1e-6);
        cr_assert_eq(map.data[v], best, "voxel %d", v);
    }
    cr_assert_eq(memcmp(&map.geo, &geo, sizeof geo), 0);
    free(t);
}

Test(infer_probabilities, equal_the_slow_version) {
    check(0.1f);
    check(1);
    check(100);
}

static int full(void *context, int cls, const float *volume, size_t n, struct vx_err *err) {
    (void)context;
    (void)volume;
    (void)n;
    return cls == 1 ? vx_fail(err, VX_E_FULL, NULL, "full") : VX_OK;
}

Test(infer_probabilities, end_where_nobody_takes_them) {
    struct vx_cache_info info = sample_info();
    struct vx_export_grid grid;
    vx_export_grid_of_case(&info, forward, &grid);
    float logits[CLASSES * 60];
    fill(logits, 1);
    struct vx_labelmap map = {0};
    struct vx_err err = {0};
    cr_assert_eq(
        vx_export_probabilities(logits, CLASSES, shape, &grid, NULL, full, NULL, &map, &err),
        VX_E_FULL);
    cr_assert_null(map.data);
    grid.crop_hi[0] = 9;
    cr_assert_eq(
        vx_export_probabilities(logits, CLASSES, shape, &grid, NULL, full, NULL, &map, &err),
        VX_E_INVALID);
}

/* Read back by Python's standard library alone: zlib, pickle, and the npy text by hand. */
static const char reader[] =
    "import ast, pickle, struct, sys, zipfile\n"
    "prefix = sys.argv[1]\n"
    "raw = zipfile.ZipFile(prefix + '.npz').read('probabilities.npy')\n"
    "assert raw[:8] == b'\\x93NUMPY\\x01\\x00', raw[:8]\n"
    "n = struct.unpack('<H', raw[8:10])[0]\n"
    "assert (10 + n) % 64 == 0 and raw[9 + n:10 + n] == b'\\n'\n"
    "head = ast.literal_eval(raw[10:10 + n].decode())\n"
    "assert head == {'descr': '<f4', 'fortran_order': False, 'shape': (4, 5, 12, 8)}, head\n"
    "p = struct.unpack('<%df' % (4 * 480), raw[10 + n:])\n"
    "assert p[0] == 1 and p[480] == p[960] == p[1440] == 0\n"
    "assert all(abs(sum(p[v + 480 * c] for c in range(4)) - 1) < 1e-6 for v in range(480))\n"
    "props = pickle.load(open(prefix + '.pkl', 'rb'))\n"
    "assert props == {'sitk_stuff': {'spacing': (1.0, 0.5, 1.0), 'origin': (-12.5, 7.0, 3.0),\n"
    "    'direction': (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)},\n"
    "    'nibabel_stuff': {'original_affine': [[-1.0, 0.0, 0.0, 12.5], [0.0, 0.5, 0.0, -7.0],\n"
    "    [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]]}, 'spacing': (1.0, 0.5, 1.0),\n"
    "    'shape_before_cropping': (8, 5, 12), 'bbox_used_for_cropping': [(1, 7), (2, 5), (0, "
    "10)],\n"
    "    'shape_after_cropping_and_before_resampling': (6, 3, 10)}, props\n";

Test(infer_probabilities, files_hold_them_as_numpy_and_pickle_read_them) {
    const char *tmp = getenv("TMPDIR");
    vx_auto_free char *dir = vx_strf("%s/vx-npz-%d", tmp ? tmp : "/tmp", (int)getpid());
    vx_auto_free char *prefix = vx_strf("%s/case", dir), *script = vx_strf("%s/read.py", dir);
    struct vx_err err = {0};
    cr_assert_eq(vx_mkdirs(dir, 0755, &err), VX_OK);
    struct vx_cache_info info = sample_info();
    struct vx_geometry geo = sample_geometry();
    float logits[CLASSES * 60];
    fill(logits, 1);
    vx_auto_labelmap struct vx_labelmap map = {0};
    cr_assert_eq(vx_probability_files(prefix, logits, CLASSES, &info, forward, &geo, &map, &err),
                 VX_OK, "%s", err.text);
    cr_assert_eq(vx_write_file_atomic(script, reader, sizeof reader - 1, 0644, &err), VX_OK);
    vx_auto_free char *command = vx_strf("python3 %s %s", script, prefix);
    cr_assert_eq(system(command), 0, "%s", command);
    vx_remove_tree(dir, NULL);
}
