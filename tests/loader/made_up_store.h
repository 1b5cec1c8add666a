/* A small prepared store made up for the loader's tests: five cases of different shapes (one
 * smaller than the patch), two channels, labels -1 to 2, one case without foreground. Also the
 * arrays themselves, to compare with. */
#ifndef TESTS_LOADER_MADE_UP_STORE_H
#define TESTS_LOADER_MADE_UP_STORE_H

#include "base/err.h"
#include "base/io.h"
#include "base/rng.h"
#include "cache/build.h"
#include "loader/recipe.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_CASES = 5, STORE_CHANNELS = 2 };

struct made_case {
    char name[16];
    int64_t shape[3];
    float *image;
    int16_t *seg;
};

struct made_store {
    char root[64]; /* temporary folder */
    char *dir;     /* the store */
    struct made_case cases[STORE_CASES];
};

static inline void made_case_fill(struct made_case *c, int i) {
    static const int64_t shapes[STORE_CASES][3] = {
        {20, 24, 22}, {9, 30, 18}, {33, 17, 25}, {12, 12, 12}, {24, 26, 28}};
    snprintf(c->name, sizeof c->name, "case_%02d", i);
    memcpy(c->shape, shapes[i], sizeof c->shape);
    size_t n = (size_t)(c->shape[0] * c->shape[1] * c->shape[2]);
    c->image = malloc(STORE_CHANNELS * n * sizeof(float));
    c->seg = malloc(n * sizeof(int16_t));
    struct vx_rng r = vx_rng_at((uint64_t)i, 0, 0, 0, 904);
    for (size_t v = 0; v < STORE_CHANNELS * n; v++) {
        c->image[v] = vx_rng_uniform(&r, -2, 2);
    }
    for (size_t v = 0; v < n; v++) {
        int64_t x = (int64_t)v % c->shape[2], y = (int64_t)v / c->shape[2] % c->shape[1];
        int64_t z = (int64_t)v / (c->shape[2] * c->shape[1]);
        bool one = i != 3 && llabs(x - 8) < 4 && llabs(y - 9) < 4 && llabs(z - 5) < 3;
        bool two = i != 3 && x > c->shape[2] - 5 && y < 6;
        c->seg[v] = x + y < 5 ? -1 : (int16_t)(two ? 2 : one);
    }
}

/* Location table of a case: classes "1" and "2"; returns triples, caller frees. */
static inline int32_t (*made_locations(const struct made_case *c,
                                       struct vx_cache_class classes[2]))[3] {
    size_t n = (size_t)(c->shape[0] * c->shape[1] * c->shape[2]), at = 0;
    int32_t(*out)[3] = malloc((n + 1) * sizeof *out);
    for (int16_t label = 1; label <= 2; label++) {
        struct vx_cache_class *k = &classes[label - 1];
        memset(k, 0, sizeof *k);
        snprintf(k->key, sizeof k->key, "%d", label);
        for (size_t v = 0; v < n; v++) {
            if (c->seg[v] == label) {
                out[at][0] = (int32_t)((int64_t)v / (c->shape[1] * c->shape[2]));
                out[at][1] = (int32_t)((int64_t)v / c->shape[2] % c->shape[1]);
                out[at++][2] = (int32_t)((int64_t)v % c->shape[2]);
                k->n_voxels++;
            }
        }
        k->n_locations = k->n_voxels;
    }
    return out;
}

static inline void made_store_open(struct made_store *s) {
    static const char key[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct vx_err err = {0};
    struct vx_cache_builder *b = NULL;
    struct vx_cache_member members[STORE_CASES];
    struct vx_cache_source sources[STORE_CASES];
    const char *tmp = getenv("TMPDIR");
    snprintf(s->root, sizeof s->root, "%s/vx-loader-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(s->root));
    cr_assert_eq(vx_cache_build_open(s->root, key, "{}", &b, &err), VX_OK, "%s", err.text);
    s->dir = strdup(vx_cache_build_dir(b));
    for (int i = 0; i < STORE_CASES; i++) {
        struct made_case *c = &s->cases[i];
        struct vx_cache_class classes[2];
        struct vx_cache_case_data d = {.info = {.n_channels = STORE_CHANNELS, .has_seg = true}};
        made_case_fill(c, i);
        int32_t(*locations)[3] = made_locations(c, classes);
        memset(&sources[i], 0, sizeof sources[i]);
        snprintf(sources[i].path, sizeof sources[i].path, "imagesTr/%s.nii.gz", c->name);
        sources[i].size_bytes = 1;
        snprintf(d.info.name, sizeof d.info.name, "%s", c->name);
        for (int a = 0; a < 3; a++) {
            d.info.shape[a] = d.info.shape_raw[a] = d.info.shape_cropped[a] = c->shape[a];
            d.info.crop_hi[a] = c->shape[a];
            d.info.spacing[a] = d.info.spacing_raw[a] = 1;
            d.patch[a] = 12;
        }
        d.info.n_classes = 2;
        d.info.classes = classes;
        d.info.n_sources = 1;
        d.info.sources = &sources[i];
        d.image = c->image;
        d.seg = c->seg;
        d.locations = (const int32_t(*)[3])locations;
        cr_assert_eq(vx_cache_write_case(s->dir, &d, NULL, &err), VX_OK, "%s", err.text);
        free(locations);
        members[i] = (struct vx_cache_member){c->name, &sources[i], 1};
    }
    cr_assert_eq(vx_cache_build_commit(b, members, STORE_CASES, &err), VX_OK, "%s", err.text);
    vx_cache_build_close(b);
}

static inline void made_store_close(struct made_store *s) {
    vx_remove_tree(s->root, NULL);
    for (int i = 0; i < STORE_CASES; i++) {
        free(s->cases[i].image);
        free(s->cases[i].seg);
    }
    free(s->dir);
}

/* Training cases 0, 1, 2, 3, validation cases 4 and 1; batch 2; patch 12 x 14 x 10. */
static inline struct vx_recipe *made_recipe(enum vx_aug_mode mode, const struct vx_quarantine *q,
                                            size_t n_q) {
    static const char *const names[STORE_CASES] = {"case_00", "case_01", "case_02", "case_03",
                                                   "case_04"};
    static const uint32_t train[] = {0, 1, 2, 3}, val[] = {4, 1};
    struct vx_recipe_params p = {.dataset = "Dataset999_MadeUp",
                                 .cache_key = "0123",
                                 .seed = 12345,
                                 .cases = names,
                                 .n_cases = STORE_CASES,
                                 .train = train,
                                 .n_train = 4,
                                 .val = val,
                                 .n_val = 2,
                                 .dims = 3,
                                 .channels = STORE_CHANNELS,
                                 .batch = 2,
                                 .patch = {12, 14, 10},
                                 .mask_channels = 2,
                                 .augment = mode,
                                 .quarantines = q,
                                 .n_quarantines = n_q};
    struct vx_recipe *r = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK, "%s", err.text);
    return r;
}

#endif
