/* The cases and places that core/loader's sampler draws, for tests/oracle/sampler.py.
 *
 * usage: oracle_sampler FOLDER
 * FOLDER/settings.json lists {name, patch (2 or 3 axes), batch, has_ignore, annotated, stream,
 * seed, batches, cases}; a case is {shape [3], classes [[[z, y, x], ...], ...]}, annotated the
 * index of the class of all annotated voxels, -1 without one. Every case belongs to both streams.
 * NAME.places receives rows of int32 for the samples in order: case, forced, class whose voxel was
 * chosen or -1, first voxel, size. */
#include "augment/policy.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "loader/recipe.h"
#include "loader/sampler.h"

#include <stdio.h>
#include <stdlib.h>

enum { CLASSES = 16 };

static void die(const char *what, const struct vx_err *err) {
    fprintf(stderr, "oracle_sampler: %s: %s %s\n", what, err->text, err->where);
    exit(1);
}

static int64_t integer(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

/* One case as the sampler sees it. */
struct sample_case {
    struct vx_sample_source source;
    int64_t n_locations[CLASSES];
    const json_t *classes; /* borrowed */
};

static int location(void *ctx, uint32_t c, int64_t i, int32_t ret_zyx[3], struct vx_err *err) {
    const struct sample_case *s = ctx;
    const json_t *at = json_array_get(json_array_get(s->classes, c), (size_t)i);
    (void)err;
    for (size_t a = 0; a < 3; a++) {
        ret_zyx[a] = (int32_t)json_integer_value(json_array_get(at, a));
    }
    return VX_OK;
}

static void read_case(const json_t *json, int32_t annotated, struct sample_case *s) {
    s->classes = json_object_get(json, "classes");
    s->source.n_classes = (uint32_t)json_array_size(s->classes);
    for (uint32_t c = 0; c < s->source.n_classes && c < CLASSES; c++) {
        s->n_locations[c] = (int64_t)json_array_size(json_array_get(s->classes, c));
    }
    for (size_t a = 0; a < 3; a++) {
        s->source.shape[a] = json_integer_value(json_array_get(json_object_get(json, "shape"), a));
    }
    s->source.n_locations = s->n_locations;
    s->source.annotated = annotated;
    s->source.location = location;
    s->source.ctx = s;
}

static struct vx_recipe *make_recipe(const json_t *setting, size_t n_cases) {
    const json_t *patch = json_object_get(setting, "patch");
    size_t dims = json_array_size(patch);
    vx_auto_free const char **names = calloc(n_cases, sizeof *names);
    vx_auto_free char *text = calloc(n_cases, 32);
    vx_auto_free uint32_t *all = calloc(n_cases, sizeof *all);
    for (size_t i = 0; i < n_cases; i++) {
        snprintf(text + 32 * i, 32, "case_%zu", i);
        names[i] = text + 32 * i;
        all[i] = (uint32_t)i;
    }
    struct vx_recipe_params p = {.dataset = "Dataset999_Sampler",
                                 .cache_key = "0",
                                 .seed = (uint64_t)integer(setting, "seed"),
                                 .cases = names,
                                 .n_cases = n_cases,
                                 .train = all,
                                 .n_train = n_cases,
                                 .val = all,
                                 .n_val = n_cases,
                                 .dims = (uint32_t)dims,
                                 .channels = 1,
                                 .batch = (uint32_t)integer(setting, "batch"),
                                 .patch = {1, 1, 1},
                                 .has_ignore =
                                     json_is_true(json_object_get(setting, "has_ignore"))};
    for (size_t i = 0; i < dims; i++) {
        p.patch[3 - dims + i] = (int32_t)json_integer_value(json_array_get(patch, i));
    }
    struct vx_recipe *r = NULL;
    struct vx_err err = {0};
    if (vx_recipe_create(&p, &r, &err) != VX_OK) {
        die("recipe", &err);
    }
    return r;
}

static void draw(const char *folder, const json_t *setting) {
    const json_t *cases = json_object_get(setting, "cases");
    size_t n = json_array_size(cases);
    vx_auto_free struct sample_case *list = calloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        read_case(json_array_get(cases, i), (int32_t)integer(setting, "annotated"), &list[i]);
    }
    struct vx_recipe *recipe = make_recipe(setting, n);
    const struct vx_recipe_view *r = vx_recipe_view(recipe);
    uint32_t stream = (uint32_t)integer(setting, "stream");
    uint64_t batches = (uint64_t)integer(setting, "batches");
    struct vx_err err = {0};
    vx_auto_free char *path =
        vx_strf("%s/%s.places", folder, json_string_value(json_object_get(setting, "name")));
    vx_auto_fclose FILE *f = fopen(path, "wb");
    for (uint64_t q = 0; q < batches * r->batch; q++) {
        uint64_t k = q / r->batch;
        uint32_t j = (uint32_t)(q % r->batch), c = 0;
        struct vx_place place;
        if (!f || vx_sample_case(r, stream, k, j, &c) != VX_OK ||
            vx_sample_place(r, stream, k, j, &list[c].source, &place, &err) != VX_OK) {
            die(path, &err);
        }
        const int32_t row[9] = {
            (int32_t)c,  vx_sample_forced(r, j), place.forced_class, place.lo[0],  place.lo[1],
            place.lo[2], place.size[0],          place.size[1],      place.size[2]};
        if (fwrite(row, sizeof row, 1, f) != 1) {
            die(path, &err);
        }
    }
    vx_recipe_free(recipe);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: oracle_sampler FOLDER\n");
        return 2;
    }
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/settings.json", argv[1]);
    vx_auto_json json_t *settings = NULL;
    if (vx_json_load_file(path, 1 << 28, &settings, &err) != VX_OK) {
        die(path, &err);
    }
    size_t i;
    json_t *setting;
    json_array_foreach(settings, i, setting) {
        draw(argv[1], setting);
    }
    return 0;
}
