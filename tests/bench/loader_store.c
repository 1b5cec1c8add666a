#include "loader_store.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "base/rng.h"
#include "cache/build.h"
#include "volume/nifti.h"
#include "volume/rawset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char key[] = "00000000000000000000000000000000000000000000000000000000be9c10ad";

static void z_score(float *x, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    double mean = sum / (double)n, deviation = sqrt(squares / (double)n - mean * mean);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(((double)x[i] - mean) / fmax(deviation, 1e-8));
    }
}

/* Every voxel of labels 1 and 2, class after class. */
static int32_t (*locate(const struct vx_labelmap *l, struct vx_cache_class classes[2]))[3] {
    size_t n = (size_t)vx_shape_count(l->shape), at = 0;
    int32_t(*out)[3] = malloc((n + 1) * sizeof *out);
    for (int16_t label = 1; out && label <= 2; label++) {
        struct vx_cache_class *c = &classes[label - 1];
        memset(c, 0, sizeof *c);
        snprintf(c->key, sizeof c->key, "%d", label);
        for (size_t v = 0; v < n; v++) {
            if (l->data[v] == label) {
                out[at][0] = (int32_t)((int64_t)v / (l->shape[1] * l->shape[2]));
                out[at][1] = (int32_t)((int64_t)v / l->shape[2] % l->shape[1]);
                out[at++][2] = (int32_t)((int64_t)v % l->shape[2]);
                c->n_locations = ++c->n_voxels;
            }
        }
    }
    return out;
}

static int write_case(const char *dir, const char *name, const struct vx_cache_source *source,
                      struct vx_volume *image, const struct vx_labelmap *label,
                      struct vx_err *err) {
    struct vx_cache_class classes[2];
    int32_t(*locations)[3] = locate(label, classes);
    struct vx_cache_case_data d = {.info = {.n_channels = image->channels, .has_seg = true},
                                   .image = image->data,
                                   .seg = label->data,
                                   .locations = (const int32_t(*)[3])locations,
                                   .patch = {40, 56, 40}};
    snprintf(d.info.name, sizeof d.info.name, "%s", name);
    for (int i = 0; i < 3; i++) {
        d.info.shape[i] = d.info.shape_raw[i] = d.info.shape_cropped[i] = image->shape[i];
        d.info.crop_hi[i] = image->shape[i];
        d.info.spacing[i] = d.info.spacing_raw[i] = 1;
    }
    d.info.n_classes = 2;
    d.info.classes = classes;
    d.info.n_sources = 1;
    d.info.sources = (struct vx_cache_source *)source;
    z_score(image->data, (size_t)vx_shape_count(image->shape));
    int rc = vx_cache_write_case(dir, &d, NULL, err);
    free(locations);
    return rc;
}

/* Smooth-ish noise with two blobs, of the data set's median size. */
static int make_up(size_t i, struct vx_volume *image, struct vx_labelmap *label,
                   struct vx_err *err) {
    struct vx_rng r = vx_rng_at(i, 0, 0, 0, 906);
    const int64_t shape[3] = {36, 50, 35};
    int rc = vx_volume_init(image, 1, shape, NULL, err);
    if (rc != VX_OK || (rc = vx_labelmap_init(label, shape, NULL, err)) != VX_OK) {
        return rc;
    }
    for (int64_t v = 0; v < vx_shape_count(shape); v++) {
        int64_t x = v % 35, y = v / 35 % 50, z = v / (35 * 50);
        bool one = hypot(hypot(x - 17, (y - 15) / 1.5), z - 18) < 8;
        bool two = hypot(hypot(x - 17, (y - 34) / 1.5), z - 18) < 8;
        label->data[v] = (int16_t)(two ? 2 : one);
        image->data[v] = vx_rng_uniform(&r, 0, 100) + (one || two ? 100.0f : 0.0f);
    }
    return VX_OK;
}

static int add_case(struct bench_store *s, const struct vx_rawset *set, size_t i,
                    struct vx_cache_member *member, struct vx_cache_source *source,
                    struct vx_err *err) {
    struct vx_volume image = {0};
    struct vx_labelmap label = {0};
    int rc;
    if (s->real) {
        s->names[i] = strdup(set->cases[i].name);
        rc = vx_nifti_read_channels((const char *const *)set->cases[i].images, 1, NULL, &image,
                                    NULL, err);
        if (rc == VX_OK) {
            rc = vx_nifti_read_labels(set->cases[i].label, NULL, &label, err);
        }
    } else {
        s->names[i] = vx_strf("case_%03zu", i);
        rc = make_up(i, &image, &label, err);
    }
    memset(source, 0, sizeof *source);
    snprintf(source->path, sizeof source->path, "imagesTr/%s", s->names[i]);
    if (rc == VX_OK) {
        rc = write_case(s->dir, s->names[i], source, &image, &label, err);
    }
    *member = (struct vx_cache_member){s->names[i], source, 1};
    vx_volume_release(&image);
    vx_labelmap_release(&label);
    return rc;
}

int bench_store_make(const char *root, const char *raw_dir, size_t max_cases,
                     struct bench_store *ret, struct vx_err *err) {
    struct vx_rawset_options options = {.dir = raw_dir, .file_ending = ".nii.gz", .n_channels = 1};
    vx_auto_rawset struct vx_rawset set = {0};
    struct vx_cache_builder *b = NULL;
    struct bench_store s = {.n_cases = max_cases};
    s.real = raw_dir && vx_rawset_list(&options, &set, NULL) == VX_OK && set.n_cases > 0;
    if (s.real && set.n_cases < max_cases) {
        s.n_cases = set.n_cases;
    }
    int rc = vx_cache_build_open(root, key, "{}", &b, err);
    if (rc != VX_OK) {
        return rc;
    }
    s.dir = strdup(vx_cache_build_dir(b));
    s.names = calloc(s.n_cases, sizeof *s.names);
    vx_auto_free struct vx_cache_member *members = calloc(s.n_cases, sizeof *members);
    vx_auto_free struct vx_cache_source *sources = calloc(s.n_cases, sizeof *sources);
    for (size_t i = 0; rc == VX_OK && i < s.n_cases; i++) {
        rc = add_case(&s, &set, i, &members[i], &sources[i], err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_build_commit(b, members, s.n_cases, err);
    }
    vx_cache_build_close(b);
    *ret = s;
    return rc;
}

void bench_store_release(struct bench_store *s) {
    for (size_t i = 0; i < s->n_cases; i++) {
        free(s->names[i]);
    }
    free(s->names);
    free(s->dir);
}
