/* Sharded epochs: which cases a stretch shows, against what is promised of it; and that samples
 * keep to it. */
#include "base/err.h"
#include "loader/made_up_store.h"
#include "loader/sampler.h"
#include "loader/window.h"
#include "session/schedule.h"

#include <math.h>
#include <stdio.h>

/* A recipe of n cases, the last quarter of them for validation. */
static struct vx_recipe *recipe(uint32_t n, uint32_t window, uint32_t batches, uint64_t seed,
                                const struct vx_quarantine *q, size_t n_q) {
    char(*names)[16] = calloc(n, sizeof *names);
    const char **list = calloc(n, sizeof *list);
    uint32_t *train = calloc(n, sizeof *train), n_train = n - n / 4;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "case_%04u", i);
        list[i] = names[i];
        train[i] = i;
    }
    struct vx_recipe_params p = {.dataset = "Dataset999_X",
                                 .cache_key = "0123",
                                 .seed = seed,
                                 .cases = list,
                                 .n_cases = n,
                                 .train = train,
                                 .n_train = n_train,
                                 .val = train + n_train,
                                 .n_val = n / 4,
                                 .dims = 3,
                                 .channels = 1,
                                 .batch = 2,
                                 .patch = {16, 16, 16},
                                 .window_cases = window,
                                 .window_batches = batches,
                                 .quarantines = q,
                                 .n_quarantines = n_q};
    struct vx_recipe *r = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK, "%s", err.text);
    free(names);
    free(list);
    free(train);
    return r;
}

Test(loader_window, the_permutation_is_one) {
    for (uint32_t n = 1; n <= 600; n += n < 40 ? 1 : 37) {
        bool *seen = calloc(n, sizeof *seen);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t to = vx_window_permute(5, n, n, i);
            cr_assert(to < n && !seen[to], "%u of %u goes to %u", i, n, to);
            seen[to] = true;
        }
        free(seen);
    }
}

/* Over many keys every value comes to every place about equally often: chi-squared of the table,
 * (n - 1)^2 degrees of freedom, within five standard deviations. */
Test(loader_window, the_permutation_has_no_favourites) {
    enum { N = 12, KEYS = 6000 };
    static unsigned count[N][N];
    for (uint64_t key = 0; key < KEYS; key++) {
        for (uint32_t i = 0; i < N; i++) {
            count[i][vx_window_permute(99, key, N, i)]++;
        }
    }
    double chi = 0, expected = (double)KEYS / N, freedom = (N - 1) * (N - 1);
    for (int i = 0; i < N * N; i++) {
        double d = count[i / N][i % N] - expected;
        chi += d * d / expected;
    }
    cr_assert_lt(fabs(chi - freedom), 5 * sqrt(2 * freedom), "chi squared %.1f", chi);
}

static void check_visits(uint32_t cases, uint32_t window) {
    struct vx_recipe *r = recipe(cases, window, 10, 7, NULL, 0);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    uint32_t n = (uint32_t)v->n_train, m = (n + window - 1) / window;
    unsigned *visits = calloc(cases, sizeof *visits);
    for (uint64_t s = 0; s < 5 * m; s++) {
        uint32_t size = vx_window_size(v, s);
        bool *here = calloc(cases, sizeof *here);
        cr_assert(size >= 1 && size <= window, "a window of %u", size);
        cr_assert_leq(abs((int)size - (int)(n / m)), 1, "sizes differ by more than one");
        for (uint32_t i = 0; i < size; i++) {
            uint32_t c = vx_window_case(v, s, i);
            cr_assert(c < n && !here[c], "stretch %d shows case %u twice", (int)s, c);
            here[c] = true;
            visits[c]++;
        }
        free(here);
        for (uint32_t c = 0; (s + 1) % m == 0 && c < n; c++) {
            cr_assert_eq(visits[c], (s + 1) / m, "case %u after %d cycles", c, (int)((s + 1) / m));
        }
    }
    free(visits);
    vx_recipe_free(r);
}

Test(loader_window, every_case_equally_often) {
    check_visits(12, 3);
    check_visits(13, 4);
    check_visits(40, 29);
    check_visits(40, 1);
    check_visits(401, 64);
}

/* Cycles are ordered anew: the windows of two cycles are not the same groups again. */
Test(loader_window, groups_change) {
    struct vx_recipe *r = recipe(80, 15, 10, 7, NULL, 0);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    unsigned together = 0;
    for (uint64_t cycle = 1; cycle < 20; cycle++) {
        for (uint32_t i = 0; i < 15; i++) {
            for (uint32_t j = 0; j < 15; j++) {
                together += vx_window_case(v, 0, i) == vx_window_case(v, 4 * cycle, j);
            }
        }
    }
    /* by chance 15 * 15 / 60 of each pair of windows: 3.75 */
    cr_assert(together > 19 * 2 && together < 19 * 6, "%u shared cases in 19 pairs", together);
    vx_recipe_free(r);
}

/* Every training sample is of a case of its stretch's window, all of them come up, and validation
 * knows no windows. */
Test(loader_window, samples_keep_to_the_window) {
    enum { CASES = 20, BATCHES = 300 };
    struct vx_recipe *r = recipe(CASES, 4, BATCHES, 11, NULL, 0);
    const struct vx_recipe_view *v = vx_recipe_view(r);
    for (uint64_t stretch = 0; stretch < 9; stretch++) {
        unsigned drawn[CASES] = {0};
        for (uint64_t k = stretch * BATCHES; k < (stretch + 1) * BATCHES; k++) {
            cr_assert_eq(vx_window_stretch(v, k), stretch);
            for (uint32_t j = 0; j < 2; j++) {
                uint32_t c, again;
                cr_assert_eq(vx_sample_case(v, VX_STREAM_TRAIN, k, j, &c), VX_OK);
                cr_assert_eq(vx_sample_case(v, VX_STREAM_TRAIN, k, j, &again), VX_OK);
                cr_assert_eq(c, again);
                drawn[c]++;
            }
        }
        uint32_t size = vx_window_size(v, stretch), seen = 0;
        for (uint32_t i = 0; i < size; i++) {
            /* 2 * 300 / 4 of each, and five standard deviations */
            unsigned n = drawn[vx_window_case(v, stretch, i)];
            cr_assert(n > 90 && n < 270, "%u of 600 in a window of %u", n, size);
            seen += n;
        }
        cr_assert_eq(seen, 2 * BATCHES, "samples of cases that are not in the window");
    }
    bool val[CASES] = {false};
    for (uint64_t k = 0; k < 200; k++) {
        uint32_t c;
        cr_assert_eq(vx_sample_case(v, VX_STREAM_VAL, k, 0, &c), VX_OK);
        val[c] = true;
    }
    for (uint32_t c = 15; c < CASES; c++) {
        cr_assert(val[c]);
    }
    vx_recipe_free(r);
}

/* A window whose cases are all out: the stretch is left to the other training cases. */
Test(loader_window, quarantined_windows) {
    struct vx_recipe *r = recipe(12, 3, 10, 5, NULL, 0);
    struct vx_quarantine out[9];
    for (uint32_t i = 0; i < 9; i++) {
        out[i] = (struct vx_quarantine){.case_index = i};
    }
    for (uint32_t i = 0; i < 3; i++) { /* the first window's */
        out[i].case_index = vx_window_case(vx_recipe_view(r), 0, i);
    }
    vx_recipe_free(r);
    r = recipe(12, 3, 10, 5, out, 2);
    uint32_t left = out[2].case_index, c;
    for (uint64_t k = 0; k < 10; k++) {
        cr_assert_eq(vx_sample_case(vx_recipe_view(r), VX_STREAM_TRAIN, k, 1, &c), VX_OK);
        cr_assert_eq(c, left, "the one that is left of the window");
    }
    vx_recipe_free(r);
    r = recipe(12, 3, 10, 5, out, 3);
    for (uint64_t k = 0; k < 10; k++) {
        cr_assert_eq(vx_sample_case(vx_recipe_view(r), VX_STREAM_TRAIN, k, 1, &c), VX_OK);
        cr_assert(c < 9 && c != out[0].case_index && c != out[1].case_index && c != left);
    }
    vx_recipe_free(r);
    for (uint32_t i = 0; i < 9; i++) {
        out[i].case_index = i;
    }
    r = recipe(12, 3, 10, 5, out, 9);
    cr_assert_eq(vx_sample_case(vx_recipe_view(r), VX_STREAM_TRAIN, 0, 0, &c), VX_E_NOT_FOUND);
    vx_recipe_free(r);
}

/* It is part of the recipe; recipes without one have the digest that they always had. */
Test(loader_window, the_recipe_carries_it) {
    struct vx_recipe *none = recipe(12, 0, 0, 5, NULL, 0), *all = recipe(12, 9, 10, 5, NULL, 0);
    struct vx_recipe *some = recipe(12, 3, 10, 5, NULL, 0), *longer = recipe(12, 3, 20, 5, NULL, 0);
    cr_assert_str_eq(vx_recipe_view(none)->digest, vx_recipe_view(all)->digest,
                     "a window of all cases is none");
    cr_assert_str_neq(vx_recipe_view(none)->digest, vx_recipe_view(some)->digest);
    cr_assert_str_neq(vx_recipe_view(longer)->digest, vx_recipe_view(some)->digest);
    json_t *json = vx_recipe_to_json(some);
    struct vx_recipe *back = NULL, *with = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_from_json(json, &back, &err), VX_OK, "%s", err.text);
    cr_assert_str_eq(vx_recipe_view(back)->digest, vx_recipe_view(some)->digest);
    cr_assert_eq(vx_recipe_view(back)->window_cases, 3);
    cr_assert_eq(vx_recipe_with(some, NULL, 0, &with, &err), VX_OK);
    cr_assert_str_eq(vx_recipe_view(with)->digest, vx_recipe_view(some)->digest);
    json_object_set_new(json_object_get(json, "window"), "batches", json_integer(0));
    cr_assert_eq(vx_recipe_from_json(json, &back, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "recipe_window");
    json_decref(json);
    json = vx_recipe_to_json(none);
    cr_assert_null(json_object_get(json, "window"));
    json_decref(json);
    struct vx_recipe *made[] = {none, all, some, longer, back, with};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        vx_recipe_free(made[i]);
    }
}
