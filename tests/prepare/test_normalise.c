/* The five normalisations with numbers worked out by hand. */
#include "prepare/normalise.h"

#include "base/err.h"
#include "plan/plans.h"

#include <criterion/criterion.h>
#include <math.h>

static void expect(const float *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cr_assert(fabs((double)got[i] - want[i]) < 1e-6, "%zu: %.9g, not %.9g", i, (double)got[i],
                  want[i]);
    }
}

Test(prepare_normalise, zscore) {
    float x[4] = {2, 4, 4, 6}; /* mean 4, population std sqrt(2) */
    const double want[4] = {-1.4142135624, 0, 0, 1.4142135624};
    cr_assert_eq(vx_normalise(VX_NORM_ZSCORE, false, NULL, NULL, x, 4, NULL), VX_OK);
    expect(x, want, 4);
}

Test(prepare_normalise, zscore_of_a_constant_is_zero) {
    float x[3] = {5, 5, 5};
    const double want[3] = {0, 0, 0};
    cr_assert_eq(vx_normalise(VX_NORM_ZSCORE, false, NULL, NULL, x, 3, NULL), VX_OK);
    expect(x, want, 3);
}

Test(prepare_normalise, zscore_inside_the_mask_leaves_the_rest_alone) {
    float x[5] = {2, 100, 4, 6, 4};
    const int16_t seg[5] = {0, -1, 1, 2, 0};
    const double want[5] = {-1.4142135624, 100, 0, 1.4142135624, 0};
    cr_assert_eq(vx_normalise(VX_NORM_ZSCORE, true, NULL, seg, x, 5, NULL), VX_OK);
    expect(x, want, 5);
}

Test(prepare_normalise, mask_is_ignored_where_the_plan_does_not_want_it) {
    float x[4] = {2, 4, 4, 6};
    const int16_t seg[4] = {-1, 0, 0, 0};
    const double want[4] = {-1.4142135624, 0, 0, 1.4142135624};
    cr_assert_eq(vx_normalise(VX_NORM_ZSCORE, false, NULL, seg, x, 4, NULL), VX_OK);
    expect(x, want, 4);
}

Test(prepare_normalise, ct_clips_then_scales) {
    const struct vx_intensity p = {
        .mean = 50, .std = 25, .percentile_00_5 = -100, .percentile_99_5 = 300};
    float x[5] = {-1000, -100, 50, 75, 3000};
    const double want[5] = {-6, -6, 0, 1, 10};
    cr_assert_eq(vx_normalise(VX_NORM_CT, false, &p, NULL, x, 5, NULL), VX_OK);
    expect(x, want, 5);
}

Test(prepare_normalise, none_rescale_and_rgb) {
    float x[3] = {-1, 1, 3};
    const double same[3] = {-1, 1, 3}, unit[3] = {0, 0.5, 1};
    cr_assert_eq(vx_normalise(VX_NORM_NONE, false, NULL, NULL, x, 3, NULL), VX_OK);
    expect(x, same, 3);
    cr_assert_eq(vx_normalise(VX_NORM_RESCALE_0_1, false, NULL, NULL, x, 3, NULL), VX_OK);
    expect(x, unit, 3);
    float rgb[3] = {0, 51, 255};
    const double want[3] = {0, 0.2, 1};
    cr_assert_eq(vx_normalise(VX_NORM_RGB_0_1, false, NULL, NULL, rgb, 3, NULL), VX_OK);
    expect(rgb, want, 3);
}

Test(prepare_normalise, rgb_out_of_range_is_refused) {
    float x[2] = {0, 256};
    struct vx_err e = {0};
    cr_assert_eq(vx_normalise(VX_NORM_RGB_0_1, false, NULL, NULL, x, 2, &e), VX_E_INVALID);
    cr_assert_str_eq(e.reason, "rgb_range");
}
