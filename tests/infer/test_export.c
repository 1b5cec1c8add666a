/* Export to the original grid, metrics and the summary. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "infer/export.h"
#include "infer/summary.h"
#include "volume/resample.h"
#include "volume/volume.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* Logits on shape 4 x 3 x 5, original crop 6 x 3 x 10 in 8 x 5 x 12, axes 0 and 2 of the file
 * swapped. */
static struct vx_export_grid sample_grid(void) {
    return (struct vx_export_grid){.shape_raw = {8, 5, 12},
                                   .crop_lo = {1, 2, 0},
                                   .crop_hi = {7, 5, 10},
                                   .spacing_raw = {1, 1, 0.5},
                                   .spacing = {1.5, 1, 1},
                                   .transpose_forward = {2, 0, 1}};
}

Test(infer_export, equals_slow_version) {
    static const int64_t shape[3] = {4, 3, 5}, cropped[3] = {6, 3, 10};
    struct vx_export_grid g = sample_grid();
    float logits[3 * 60], resized[3 * 180];
    for (int i = 0; i < 180; i++) {
        logits[i] = (float)(i * 71 % 37) - 18;
    }
    cr_assert_eq(vx_resample_linear(logits, 3, shape, VX_RESAMPLE_JOINT, cropped, resized, NULL),
                 VX_OK);
    struct vx_geometry geo;
    vx_geometry_init(&geo, (const double[3]){1, 0.5, 1});
    geo.qform_code = 1;
    geo.quatern[1] = 0.25f;
    vx_auto_labelmap struct vx_labelmap map = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_export_labels(logits, 3, shape, &g, &geo, &map, &err), VX_OK, "%s", err.text);
    /* array axis i is file axis transpose_forward[i]: file shape = (axis 1, axis 2, axis 0) */
    cr_assert(map.shape[0] == 5 && map.shape[1] == 12 && map.shape[2] == 8);
    cr_assert_eq(memcmp(&map.geo, &geo, sizeof geo), 0);
    int seen[3] = {0};
    for (int z = 0; z < 8; z++) {
        for (int y = 0; y < 5; y++) {
            for (int x = 0; x < 12; x++) {
                int want = 0;
                if (z >= 1 && z < 7 && y >= 2 && x < 10) {
                    int at = ((z - 1) * 3 + y - 2) * 10 + x;
                    for (int k = 1; k < 3; k++) {
                        want = resized[k * 180 + at] > resized[want * 180 + at] ? k : want;
                    }
                }
                seen[want]++;
                cr_assert_eq(map.data[(y * 12 + x) * 8 + z], want, "%d %d %d", z, y, x);
            }
        }
    }
    cr_assert(seen[0] && seen[1] && seen[2]);
}

Test(infer_export, ties_go_to_the_lowest_class) {
    static const int64_t shape[3] = {1, 1, 2};
    struct vx_export_grid g = {.shape_raw = {1, 1, 2},
                               .crop_hi = {1, 1, 2},
                               .spacing_raw = {1, 1, 1},
                               .spacing = {1, 1, 1},
                               .transpose_forward = {0, 1, 2}};
    static const float logits[6] = {1, 0, 1, 3, 0, 3};
    vx_auto_labelmap struct vx_labelmap map = {0};
    cr_assert_eq(vx_export_labels(logits, 3, shape, &g, NULL, &map, NULL), VX_OK);
    cr_assert(map.data[0] == 0 && map.data[1] == 1);
}

Test(infer_export, anisotropic_cases_take_the_nearest_slice) {
    static const int64_t shape[3] = {2, 1, 1};
    struct vx_export_grid g = {.shape_raw = {4, 1, 1},
                               .crop_hi = {4, 1, 1},
                               .spacing_raw = {2.5, 1, 1},
                               .spacing = {5, 1, 1},
                               .transpose_forward = {0, 1, 2}};
    static const float logits[4] = {1, 0, 0.5f, 5};
    vx_auto_labelmap struct vx_labelmap map = {0};
    cr_assert_eq(vx_export_labels(logits, 2, shape, &g, NULL, &map, NULL), VX_OK);
    static const int16_t want[4] = {0, 0, 1, 1}; /* linear would give 0 1 1 1 */
    cr_assert_arr_eq(map.data, want, sizeof want);
}

Test(infer_export, refuses_grids_that_contradict_themselves) {
    static const int64_t shape[3] = {4, 3, 5};
    float logits[60] = {0};
    struct vx_labelmap map = {0};
    struct vx_export_grid g = sample_grid();
    g.crop_hi[1] = 6;
    cr_assert_eq(vx_export_labels(logits, 1, shape, &g, NULL, &map, NULL), VX_E_INVALID);
    g = sample_grid();
    g.transpose_forward[1] = 2;
    cr_assert_eq(vx_export_labels(logits, 1, shape, &g, NULL, &map, NULL), VX_E_INVALID);
    g = sample_grid();
    g.spacing[0] = 0;
    cr_assert_eq(vx_export_labels(logits, 1, shape, &g, NULL, &map, NULL), VX_E_INVALID);
    cr_assert_null(map.data);
}

static const struct vx_metric_class classes[] = {
    {1, {1}}, {1, {2}}, {2, {1, 2}}, {1, {7}}, {1, {0}}};

static void fill(struct vx_labelmap *m, const int16_t *values, int n) {
    cr_assert_eq(vx_labelmap_init(m, (const int64_t[3]){1, 1, n}, NULL, NULL), VX_OK);
    memcpy(m->data, values, (size_t)n * sizeof *values);
}

Test(infer_metrics, counts_voxels) {
    static const int16_t pred[8] = {0, 1, 1, 2, 2, 0, 5, 1}, ref[8] = {0, 1, 2, 2, 0, 1, 5, 9};
    vx_auto_labelmap struct vx_labelmap p = {0}, r = {0};
    fill(&p, pred, 8);
    fill(&r, ref, 8);
    struct vx_confusion c[5];
    cr_assert_eq(vx_metrics_count(&p, &r, classes, 5, VX_METRIC_NO_IGNORE, c, NULL), VX_OK);
    static const int64_t want[5][4] = {
        {1, 2, 1, 4}, {1, 1, 1, 5}, {3, 2, 1, 2}, {0, 0, 0, 8}, {1, 1, 1, 5}};
    for (int k = 0; k < 5; k++) {
        cr_assert(c[k].tp == want[k][0] && c[k].fp == want[k][1] && c[k].fn == want[k][2] &&
                      c[k].tn == want[k][3],
                  "class %d: %d %d %d %d", k, (int)c[k].tp, (int)c[k].fp, (int)c[k].fn,
                  (int)c[k].tn);
    }
    cr_assert_float_eq(vx_metrics_dice(&c[0]), 2.0 / 5, 1e-15);
    cr_assert_float_eq(vx_metrics_iou(&c[2]), 0.5, 1e-15);
    cr_assert(isnan(vx_metrics_dice(&c[3])) && isnan(vx_metrics_iou(&c[3])));
    cr_assert_eq(vx_metrics_count(&p, &r, classes, 5, 9, c, NULL), VX_OK); /* last voxel ignored */
    cr_assert(c[0].fp == 1 && c[3].tn == 7);
    vx_auto_labelmap struct vx_labelmap q = {0};
    fill(&q, pred, 7);
    struct vx_err err = {0};
    cr_assert_eq(vx_metrics_count(&q, &r, classes, 5, 9, c, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "shape_mismatch");
}

static double real_at(const json_t *doc, const char *a, const char *b, const char *c) {
    const json_t *v = json_object_get(doc, a);
    v = b ? json_object_get(v, b) : v;
    v = json_object_get(v, c);
    cr_assert(json_is_number(v), "%s %s %s", a, b ? b : "", c);
    return json_number_value(v);
}

Test(infer_summary, has_nnunets_form) {
    static const struct vx_confusion counts[2][5] = {
        {{8, 2, 2, 88}, {5, 5, 5, 85}, {13, 7, 7, 73}, {0, 0, 0, 100}, {60, 10, 10, 20}},
        {{6, 4, 4, 86}, {0, 0, 0, 100}, {6, 4, 4, 86}, {0, 0, 0, 100}, {80, 0, 20, 0}}};
    vx_auto_summary struct vx_summary *s = vx_summary_create(classes, 5);
    cr_assert_not_null(s);
    cr_assert_eq(vx_summary_add(s, "out/a.nii.gz", "raw/a.nii.gz", counts[0], NULL), VX_OK);
    cr_assert_eq(vx_summary_add(s, "out/b.nii.gz", "raw/b.nii.gz", counts[1], NULL), VX_OK);
    cr_assert_float_eq(vx_summary_dice(s, 0), 0.7, 1e-12);
    cr_assert_float_eq(vx_summary_dice(s, 1), 0.5, 1e-12); /* absent in b */
    cr_assert(isnan(vx_summary_dice(s, 3)));
    cr_assert(isnan(vx_summary_foreground_dice(s))); /* as numpy's mean has it */
    char path[300];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/vx-summary-XXXXXX", base ? base : "/tmp");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(vx_summary_write(s, path, NULL), VX_OK);
    vx_auto_json json_t *doc = NULL;
    cr_assert_eq(vx_json_load_file(path, 1 << 20, &doc, NULL), VX_OK);
    unlink(path);
    cr_assert(json_is_null(json_object_get(json_object_get(doc, "foreground_mean"), "Dice")));
    cr_assert_float_eq(real_at(doc, "mean", "1", "Dice"), 0.7, 1e-12);
    cr_assert_float_eq(real_at(doc, "mean", "(1, 2)", "n_pred"), 15, 1e-12);
    cr_assert_float_eq(real_at(doc, "mean", "2", "TN"), 92.5, 1e-12);
    const json_t *cases = json_object_get(doc, "metric_per_case");
    cr_assert_eq(json_array_size(cases), 2);
    const json_t *a = json_array_get(cases, 0);
    cr_assert_str_eq(json_string_value(json_object_get(a, "prediction_file")), "out/a.nii.gz");
    cr_assert_str_eq(json_string_value(json_object_get(a, "reference_file")), "raw/a.nii.gz");
    const json_t *one = json_object_get(json_object_get(a, "metrics"), "1");
    cr_assert_eq(json_integer_value(json_object_get(one, "n_ref")), 10);
    cr_assert_float_eq(json_real_value(json_object_get(one, "IoU")), 8.0 / 12, 1e-12);
}

Test(infer_summary, foreground_mean_leaves_out_background) {
    static const struct vx_metric_class two[] = {{1, {0}}, {1, {1}}, {1, {2}}};
    static const struct vx_confusion counts[3] = {{1, 9, 9, 0}, {8, 2, 2, 0}, {6, 4, 4, 0}};
    vx_auto_summary struct vx_summary *s = vx_summary_create(two, 3);
    cr_assert_eq(vx_summary_add(s, "p", "r", counts, NULL), VX_OK);
    cr_assert_float_eq(vx_summary_foreground_dice(s), 0.7, 1e-12);
}
