/* Foreground locations against what numpy draws from the same volume. */
#include "prepare/locations.h"

#include "base/err.h"
#include "cache/cache.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const int64_t shape[3] = {20, 40, 50};

static int16_t *made_up(void) {
    int16_t *seg = calloc(20 * 40 * 50, sizeof *seg);
    for (int z = 0; z < 20; z++) {
        for (int y = 0; y < 40; y++) {
            for (int x = 0; x < 50; x++) {
                int label = (x + 2 * y + 3 * z) % 8 < 5 ? 1 : 0;
                label = (x * y + z) % 17 == 0 ? 2 : label;
                label = (x + y + z) % 29 == 0 ? -1 : label;
                label = (x * 3 + y + z) % 31 == 0 ? 3 : label;
                seg[(z * 40 + y) * 50 + x] = (int16_t)label;
            }
        }
    }
    return seg;
}

/* Voxels, first three and last of the drawn coordinates, and two sums over all of them. */
struct golden {
    const char *key;
    int64_t voxels, n;
    int32_t first[3][3], last[3];
    int64_t digits, weighted_z;
};

static void expect(const struct vx_locations *l, size_t at, const struct golden *g) {
    const struct vx_cache_class *c = &l->classes[at];
    cr_assert_str_eq(c->key, g->key);
    cr_assert_eq(c->n_voxels, g->voxels);
    cr_assert_eq(c->n_locations, g->n);
    const int32_t(*p)[3] = (const int32_t(*)[3])l->coords + c->first_index;
    cr_assert_eq(memcmp(p, g->first, sizeof g->first), 0);
    cr_assert_eq(memcmp(p[g->n - 1], g->last, sizeof g->last), 0);
    int64_t digits = 0, weighted = 0;
    for (int64_t i = 0; i < g->n; i++) {
        digits += p[i][0] + 100 * p[i][1] + 10000 * p[i][2];
        weighted += (i + 1) * p[i][0];
    }
    cr_assert_eq(digits, g->digits);
    cr_assert_eq(weighted, g->weighted_z);
}

/* numpy.random.RandomState(1234).choice(total, n, replace=False) over argwhere's order. */
static const struct golden one = {
    "1",         21880,      10000,    {{11, 21, 40}, {3, 23, 13}, {18, 35, 29}},
    {1, 21, 22}, 2471046154, 474500350};
static const struct golden two = {
    "2", 2328, 2328, {{12, 28, 19}, {4, 8, 8}, {4, 12, 28}}, {6, 36, 31}, 566375864, 25514139};
static const struct golden three = {
    "3", 1292, 1292, {{3, 29, 41}, {10, 34, 37}, {12, 35, 5}}, {10, 10, 45}, 322495532, 7971303};
static const struct golden annotated = {
    "annotated", 38708,      10000,    {{14, 7, 5}, {7, 30, 25}, {10, 14, 32}},
    {5, 2, 27},  2484232363, 474550683};

Test(prepare_locations, draws_like_numpy) {
    int16_t *seg = made_up();
    vx_auto_locations struct vx_locations l = {0};
    cr_assert_eq(vx_locations_make(seg, shape, 5, -1, &l, NULL), VX_OK);
    cr_assert_eq(l.n_classes, 4);
    expect(&l, 0, &one);
    expect(&l, 1, &two);
    expect(&l, 2, &three);
    cr_assert_str_eq(l.classes[3].key, "4"); /* absent from the case */
    cr_assert_eq(l.classes[3].n_voxels, 0);
    cr_assert_eq(l.classes[3].n_locations, 0);
    cr_assert_eq(l.classes[3].first_index, 10000 + 2328 + 1292);
    free(seg);
}

Test(prepare_locations, ignore_label_adds_the_annotated_voxels) {
    int16_t *seg = made_up();
    vx_auto_locations struct vx_locations l = {0};
    cr_assert_eq(vx_locations_make(seg, shape, 3, 3, &l, NULL), VX_OK);
    cr_assert_eq(l.n_classes, 3);
    expect(&l, 0, &one);
    expect(&l, 1, &two);
    expect(&l, 2, &annotated);
    free(seg);
}

Test(prepare_locations, one_percent_of_large_classes) {
    const int64_t cube[3] = {100, 110, 100};
    int16_t *seg = malloc(1100000 * sizeof *seg);
    for (int i = 0; i < 1100000; i++) {
        seg[i] = 1;
    }
    vx_auto_locations struct vx_locations l = {0};
    cr_assert_eq(vx_locations_make(seg, cube, 2, -1, &l, NULL), VX_OK);
    cr_assert_eq(l.classes[0].n_locations, 11000);
    free(seg);
}

Test(prepare_locations, background_only) {
    const int64_t cube[3] = {2, 2, 2};
    int16_t seg[8] = {0};
    vx_auto_locations struct vx_locations l = {0};
    cr_assert_eq(vx_locations_make(seg, cube, 2, -1, &l, NULL), VX_OK);
    cr_assert_eq(l.n_classes, 1);
    cr_assert_eq(l.classes[0].n_voxels, 0);
    cr_assert_null(l.coords);
}
