/* A store with made-up cases in a folder of its own, for the tests of core/cache. */
#ifndef VX_TESTS_CACHE_FIXTURE_H
#define VX_TESTS_CACHE_FIXTURE_H

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "base/rng.h"
#include "cache/build.h"
#include "cache/cache.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define FIXTURE_KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

#define expect_ok(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, e.text, e.where);                   \
    } while (0)

struct fixture_case {
    struct vx_cache_case_data data;
    float *image;
    int16_t *seg;
    int32_t (*locations)[3];
    struct vx_cache_class classes[3];
    struct vx_cache_source source;
};

static inline char *fixture_dir(const char *name) {
    const char *tmp = getenv("TMPDIR");
    char *dir = vx_strf("%s/vx-cache-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    cr_assert_eq(vx_remove_tree(dir, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    return dir;
}

static inline struct vx_cache_member fixture_member(const struct fixture_case *c) {
    return (struct vx_cache_member){c->data.info.name, &c->source, 1};
}

/* Smooth background, noise, a block of zeros (chunks that are not stored) and a seg with -1, 0, 1
 * and 2. */
static inline void fixture_fill(struct fixture_case *c, uint64_t seed) {
    const int64_t *n = c->data.info.shape;
    struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 7);
    int64_t voxels = n[0] * n[1] * n[2], found[2] = {0, 0};
    for (int64_t i = 0; i < voxels * c->data.info.n_channels; i++) {
        c->image[i] =
            i % voxels < voxels / 3 ? 0.0f : (float)(i % n[2]) + vx_u32_to_unit(vx_rng_u32(&r));
    }
    for (int64_t i = 0; i < voxels; i++) {
        c->seg[i] = (int16_t)(i < voxels / 2 ? -1 : (int)(vx_rng_u32(&r) % 3));
    }
    c->locations = calloc((size_t)voxels, sizeof *c->locations);
    int64_t at = 0;
    for (int label = 1; label <= 2; label++) {
        for (int64_t i = 0; i < voxels; i++) {
            if (c->seg[i] == label) {
                int32_t zyx[3] = {(int32_t)(i / (n[1] * n[2])), (int32_t)(i / n[2] % n[1]),
                                  (int32_t)(i % n[2])};
                memcpy(c->locations[at++], zyx, sizeof zyx);
                found[label - 1]++;
            }
        }
    }
    c->classes[0] = (struct vx_cache_class){"1", found[0], 0, found[0]};
    c->classes[1] = (struct vx_cache_class){"2", found[1], 0, found[1]};
    c->classes[2] = (struct vx_cache_class){"3", 0, 0, 0};
    c->data.locations = (const int32_t(*)[3])c->locations;
}

static inline struct fixture_case fixture_case(const char *name, int channels, int64_t z, int64_t y,
                                               int64_t x, uint64_t seed) {
    struct fixture_case c = {0};
    struct vx_cache_info *in = &c.data.info;
    snprintf(in->name, sizeof in->name, "%s", name);
    in->n_channels = channels;
    in->has_seg = true;
    int64_t shape[3] = {z, y, x};
    for (int a = 0; a < 3; a++) {
        in->shape[a] = shape[a];
        in->spacing[a] = 1.0 / 3 + a;
        in->spacing_raw[a] = 0.7 + a;
        in->shape_raw[a] = shape[a] + 5;
        in->crop_lo[a] = a;
        in->crop_hi[a] = shape[a] + 3;
        in->shape_cropped[a] = shape[a] + 3 - a;
        c.data.patch[a] = 48;
    }
    c.image = calloc((size_t)(channels * z * y * x), sizeof *c.image);
    c.seg = calloc((size_t)(z * y * x), sizeof *c.seg);
    snprintf(c.source.path, sizeof c.source.path, "imagesTr/%s_0000.nii.gz", name);
    c.source.size_bytes = 12345;
    c.source.mtime_ns = 1700000000123456789;
    c.data.image = c.image;
    c.data.seg = c.seg;
    in->n_classes = 3;
    in->n_sources = 1;
    fixture_fill(&c, seed);
    return c;
}

/* Pointers into the case itself: call it once the case lies where it stays. */
static inline void fixture_bind(struct fixture_case *c) {
    c->data.info.classes = c->classes;
    c->data.info.sources = &c->source;
}

static inline void fixture_release(struct fixture_case *c) {
    free(c->image);
    free(c->seg);
    free(c->locations);
    json_decref(c->data.info.geometry);
}

/* Writes the cases as one complete store below dir; returns the store's folder. */
static inline char *fixture_store(const char *dir, struct fixture_case *cases, size_t n) {
    struct vx_err e = {0};
    struct vx_cache_builder *b = NULL;
    struct vx_cache_member members[8];
    expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{\"format\":1}", &b, &e));
    for (size_t i = 0; i < n; i++) {
        fixture_bind(&cases[i]);
        expect_ok(vx_cache_write_case(vx_cache_build_dir(b), &cases[i].data, NULL, &e));
        members[i] = fixture_member(&cases[i]);
    }
    expect_ok(vx_cache_build_commit(b, members, n, &e));
    char *store = strdup(vx_cache_build_dir(b));
    vx_cache_build_close(b);
    return store;
}

static inline void fixture_remove(char *dir, char *store) {
    vx_remove_tree(dir, NULL);
    free(dir);
    free(store);
}

#endif
