/* Fingerprints of cases and their merging against numpy's draws and statistics. */
#include "prepare/extract.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "plan/fingerprint.h"
#include "volume/volume.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 50000

/* Two channels by formula; the first slice is zero and falls to the crop. */
static struct vx_case_print made_up(int seed, int64_t z, int64_t y, int64_t x) {
    const int64_t shape[3] = {z, y, x};
    const double spacing[3] = {2, 0.5, 0.75};
    struct vx_geometry geo;
    vx_auto_volume struct vx_volume v = {0};
    vx_auto_labelmap struct vx_labelmap m = {0};
    vx_geometry_init(&geo, spacing);
    cr_assert_eq(vx_volume_init(&v, 2, shape, &geo, NULL), VX_OK);
    cr_assert_eq(vx_labelmap_init(&m, shape, &geo, NULL), VX_OK);
    int64_t n = z * y * x;
    for (int64_t i = 0; i < n; i++) {
        v.data[i] = i < y * x ? 0 : (float)(i * (7 + seed) % 101 - 20) / 4;
        v.data[n + i] = i < y * x ? 0 : (float)((i * i + seed) % 53) + 1;
        m.data[i] = i % (5 + seed) == 0;
    }
    struct vx_case_print p;
    cr_assert_eq(vx_extract_case(&v, &m, DRAWS, &p, NULL), VX_OK);
    return p;
}

static void near(double got, double want) {
    cr_assert(fabs(got - want) <= 1e-9 * fmax(1, fabs(want)), "%.12g, not %.12g", got, want);
}

static double mean_of(const struct vx_draws *d) {
    double sum = 0;
    for (size_t i = 0; i < d->n; i++) {
        sum += (double)d->values[i] * (d->cumulative[i] - (i ? d->cumulative[i - 1] : 0));
    }
    return sum / d->cumulative[d->n - 1];
}

Test(prepare_extract, draws_of_one_case_are_numpys) {
    vx_auto_case_print struct vx_case_print p = made_up(0, 4, 6, 7);
    cr_assert_eq(p.shape_crop[0], 3);
    cr_assert_eq(p.shape_crop[1], 6);
    near(p.relative_size, 0.75);
    near(p.spacing[0], 2);
    cr_assert_eq(p.draws[0].cumulative[p.draws[0].n - 1], DRAWS);
    /* RandomState(1234).choice of each channel's foreground, one after the other; float32 means */
    cr_assert(fabs(mean_of(&p.draws[0]) - 7.092939853668213) < 1e-5);
    cr_assert(fabs(mean_of(&p.draws[1]) - 27.84071922302246) < 1e-5);
}

Test(prepare_extract, merged_statistics_are_numpys) {
    struct vx_case_print a = made_up(0, 4, 6, 7), b = made_up(1, 5, 5, 9);
    const struct vx_case_print *prints[2] = {&a, &b};
    struct vx_fingerprint f;
    cr_assert_eq(vx_extract_merge(prints, 2, &f, NULL), VX_OK);
    const double want[2][7] = {{7.274845, 7.75, 7.181239898233104, -4.75, 19.75, 19.75, -4.75},
                               {26.96159, 29, 15.293667796571887, 2, 51, 51, 2}};
    for (int c = 0; c < 2; c++) {
        near(f.intensity[c].mean, want[c][0]);
        near(f.intensity[c].median, want[c][1]);
        near(f.intensity[c].std, want[c][2]);
        near(f.intensity[c].min, want[c][3]);
        near(f.intensity[c].max, want[c][4]);
        near(f.intensity[c].percentile_99_5, want[c][5]);
        near(f.intensity[c].percentile_00_5, want[c][6]);
    }
    cr_assert_eq(f.n_cases, 2);
    cr_assert_eq(f.shapes[1][0], 4);
    cr_assert_eq(f.shapes[1][2], 9);
    near(f.median_relative_size_after_cropping, (0.75 + 0.8) / 2);
    vx_fingerprint_release(&f);
    vx_case_print_release(&a);
    vx_case_print_release(&b);
}

/* The truth for percentiles: all draws written out, sorted, interpolated. */
Test(prepare_extract, percentiles_of_uneven_cases) {
    float va[3] = {-7.5f, 0, 2}, vb[2] = {1, 1000};
    uint32_t ca[3] = {1, 4, 5}, cb[2] = {1, 5};
    struct vx_draws da = {3, va, ca}, db = {2, vb, cb};
    struct vx_case_print a = {.n_channels = 1, .draws = &da, .relative_size = 1},
                         b = {.n_channels = 1, .draws = &db, .relative_size = 0.5};
    const struct vx_case_print *prints[2] = {&a, &b};
    struct vx_fingerprint f;
    cr_assert_eq(vx_extract_merge(prints, 2, &f, NULL), VX_OK);
    /* sorted: -7.5 0 0 0 1 2 1000 1000 1000 1000 */
    near(f.intensity[0].median, 1.5);
    near(f.intensity[0].percentile_00_5, -7.5 + 7.5 * 0.045);
    near(f.intensity[0].percentile_99_5, 1000);
    near(f.intensity[0].mean, 399.55);
    vx_fingerprint_release(&f);
}

Test(prepare_extract, cases_without_foreground_do_not_count) {
    struct vx_case_print a = made_up(0, 4, 6, 7);
    struct vx_draws none[2] = {{0}};
    struct vx_case_print b = {.n_channels = 2, .draws = none, .relative_size = 1};
    const struct vx_case_print *both[2] = {&b, &a}, *empty[1] = {&b};
    struct vx_fingerprint f;
    struct vx_err e = {0};
    cr_assert_eq(vx_extract_merge(both, 2, &f, NULL), VX_OK);
    cr_assert(fabs(f.intensity[0].mean - 7.092939853668213) < 1e-5);
    vx_fingerprint_release(&f);
    cr_assert_eq(vx_extract_merge(empty, 1, &f, &e), VX_E_INVALID);
    cr_assert_str_eq(e.reason, "no_foreground");
    vx_case_print_release(&a);
}

Test(prepare_extract, files_come_back_whole_or_not_at_all) {
    const char *tmp = getenv("TMPDIR");
    vx_auto_free char *path = vx_strf("%s/vx-print-%d", tmp ? tmp : "/tmp", (int)getpid());
    struct vx_case_print a = made_up(1, 5, 5, 9), b;
    struct vx_err e = {0};
    cr_assert_eq(vx_case_print_save(path, &a, &e), VX_OK, "%s", e.text);
    cr_assert_eq(vx_case_print_load(path, &b, &e), VX_OK, "%s", e.text);
    cr_assert_eq(b.draws[1].n, a.draws[1].n);
    cr_assert_eq(memcmp(b.draws[1].values, a.draws[1].values, a.draws[1].n * sizeof(float)), 0);
    cr_assert_eq(b.n_foreground, a.n_foreground);
    near(b.relative_size, a.relative_size);
    vx_case_print_release(&b);
    vx_auto_free char *data = NULL;
    size_t len = 0;
    cr_assert_eq(vx_read_file(path, 1 << 20, &data, &len, NULL), VX_OK);
    for (size_t cut = 0; cut < len; cut += 1 + len / 97) {
        cr_assert_eq(vx_write_file_atomic(path, data, cut, 0600, NULL), VX_OK);
        cr_assert_eq(vx_case_print_load(path, &b, &e), VX_E_CORRUPT, "%zu of %zu bytes", cut, len);
    }
    unlink(path);
    vx_case_print_release(&a);
}

Test(prepare_extract, draws_per_case) {
    cr_assert_eq(vx_extract_draws_per_case(260), 384615);
    cr_assert_eq(vx_extract_draws_per_case(1), 100000000);
}

/* One draw of each value. numpy.percentile of float32 values, and of float64 ones, which nnU-Net
 * has where a case draws nothing. */
Test(prepare_extract, percentiles_are_numpys_to_the_last_bit) {
    float values[] = {0.1f, 0.3f, 0.7f, 1.9f, 2.3f, 1e8f};
    uint32_t cumulative[] = {1, 2, 3, 4, 5, 6};
    struct vx_draws none = {0}, draws = {4, values, cumulative};
    struct vx_case_print drawn = {.n_channels = 1, .draws = &draws};
    struct vx_case_print empty = {.n_channels = 1, .draws = &none};
    const struct vx_case_print *prints[2] = {&drawn, &empty};
    static const struct {
        size_t values, prints;
        double low, median, high;
    } rows[] = {
        {4, 1, 0.10300000175833703, 0.5, 1.8819999754428862},
        {5, 1, 0.104000001847744, 0.699999988079071, 2.2919999527931214},
        {6, 1, 0.10500000193715095, 1.2999999523162842, 97499999.99999997},
        {4, 2, 0.10300000164657831, 0.5, 1.881999976336956},
        {6, 2, 0.10500000175088645, 1.2999999821186066, 97500000.05749996},
    };
    for (size_t i = 0; i < VX_COUNTOF(rows); i++) {
        struct vx_fingerprint f;
        draws.n = rows[i].values;
        cr_assert_eq(vx_extract_merge(prints, rows[i].prints, &f, NULL), VX_OK);
        cr_expect_eq(f.intensity[0].percentile_00_5, rows[i].low, "row %zu", i);
        cr_expect_eq(f.intensity[0].median, rows[i].median, "row %zu", i);
        cr_expect_eq(f.intensity[0].percentile_99_5, rows[i].high, "row %zu", i);
        vx_fingerprint_release(&f);
    }
}
