/* The parameters that core/augment draws, for tests/oracle/draws.py to compare with nnU-Net's.
 *
 * usage: oracle_draws FOLDER
 * FOLDER/settings.json lists {name, patch (2 or 3 axes), channels, seed, count}.
 * FOLDER/policies.json receives the policy of each; NAME.draws the parameters of the samples (k, j)
 * = (i / 2, i % 2), i < count, as rows of doubles in the order of columns(). */
#include "augment/draws.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"

#include <stdio.h>
#include <stdlib.h>

/* A row being filled; names are collected with the first one. */
struct row {
    double value[256];
    json_t *names; /* NULL: not wanted */
    size_t n;
};

static void add(struct row *r, double value, const char *name, int a, int b) {
    r->value[r->n++] = value;
    if (r->names) {
        char text[64];
        snprintf(text, sizeof text, a < 0 ? "%s" : b < 0 ? "%s.%d" : "%s.%d.%d", name, a, b);
        json_array_append_new(r->names, json_string(text));
    }
}

static void columns(const struct vx_aug_policy *p, const struct vx_aug_params *a, struct row *r) {
    int channels = (int)p->channels;
    r->n = 0;
    add(r, a->spatial, "spatial", -1, -1);
    add(r, (double)a->scale, "scale", -1, -1);
    add(r, a->noise, "noise", -1, -1);
    add(r, (double)a->noise_sigma, "noise_sigma", -1, -1);
    add(r, a->brightness, "brightness", -1, -1);
    add(r, a->contrast, "contrast", -1, -1);
    add(r, a->gamma_inverted, "gamma_inverted", -1, -1);
    add(r, a->gamma, "gamma", -1, -1);
    for (int i = 0; i < 3; i++) {
        add(r, (double)a->angle[i], "angle", i, -1);
        add(r, a->mirror >> i & 1u, "mirror", i, -1);
    }
    for (int c = 0; c < channels; c++) {
        add(r, a->blur >> c & 1u, "blur", c, -1);
        add(r, a->lowres >> c & 1u, "lowres", c, -1);
        add(r, (double)a->brightness_factor[c], "brightness_factor", c, -1);
        add(r, (double)a->contrast_factor[c], "contrast_factor", c, -1);
        add(r, (double)a->zoom[c], "zoom", c, -1);
        add(r, (double)a->gamma_inverted_exponent[c], "gamma_inverted_exponent", c, -1);
        add(r, (double)a->gamma_exponent[c], "gamma_exponent", c, -1);
        for (int i = 0; i < 3; i++) {
            add(r, (double)a->blur_sigma[c][i], "blur_sigma", c, i);
        }
    }
}

static json_t *policy_json(const struct vx_aug_policy *p) {
    return json_pack(
        "{s:[i,i,i], s:f, s:b, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:f, s:f}",
        "initial", p->initial[0], p->initial[1], p->initial[2], "rotation_limit",
        (double)p->rotation_limit, "dummy_2d", (int)p->dummy_2d, "mirror_axes", (int)p->mirror_axes,
        "rotation", (double)p->p_rotation, "scaling", (double)p->p_scaling, "noise",
        (double)p->p_noise, "blur", (double)p->p_blur, "blur_channel", (double)p->p_blur_channel,
        "brightness", (double)p->p_brightness, "contrast", (double)p->p_contrast, "lowres",
        (double)p->p_lowres, "lowres_channel", (double)p->p_lowres_channel, "gamma_inverted",
        (double)p->p_gamma_inverted, "gamma", (double)p->p_gamma, "mirror", (double)p->p_mirror);
}

static void die(const char *what, const struct vx_err *err) {
    fprintf(stderr, "oracle_draws: %s: %s %s\n", what, err->text, err->where);
    exit(1);
}

static void write_draws(const char *folder, const json_t *setting, const struct vx_aug_policy *p,
                        json_t *names) {
    const char *name = json_string_value(json_object_get(setting, "name"));
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(setting, "seed"));
    uint64_t count = (uint64_t)json_integer_value(json_object_get(setting, "count"));
    vx_auto_free char *path = vx_strf("%s/%s.draws", folder, name);
    vx_auto_fclose FILE *f = fopen(path, "wb");
    if (!f) {
        die(path, &(struct vx_err){0});
    }
    struct row row = {.names = names};
    for (uint64_t i = 0; i < count; i++) {
        struct vx_aug_params a;
        vx_aug_draw(p, seed, 0, i / 2, (uint32_t)(i % 2), &a);
        columns(p, &a, &row);
        row.names = NULL;
        if (fwrite(row.value, sizeof(double), row.n, f) != row.n) {
            die(path, &(struct vx_err){0});
        }
    }
}

static json_t *one(const char *folder, const json_t *setting) {
    const json_t *patch = json_object_get(setting, "patch");
    size_t dims = json_array_size(patch);
    int32_t size[3] = {1, 1, 1};
    for (size_t i = 0; i < dims; i++) {
        size[3 - dims + i] = (int32_t)json_integer_value(json_array_get(patch, i));
    }
    struct vx_aug_policy p;
    uint32_t channels = (uint32_t)json_integer_value(json_object_get(setting, "channels"));
    if (vx_aug_policy_default((uint32_t)dims, channels, size, &p) != VX_OK) {
        die("policy", &(struct vx_err){0});
    }
    json_t *out = policy_json(&p), *names = json_array();
    if (json_integer_value(json_object_get(setting, "count")) > 0) {
        write_draws(folder, setting, &p, names);
    }
    json_object_set_new(out, "columns", names);
    return out;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: oracle_draws FOLDER\n");
        return 2;
    }
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/settings.json", argv[1]);
    vx_auto_free char *out_path = vx_strf("%s/policies.json", argv[1]);
    vx_auto_json json_t *settings = NULL;
    if (vx_json_load_file(path, 1 << 24, &settings, &err) != VX_OK) {
        die(path, &err);
    }
    vx_auto_json json_t *out = json_array();
    size_t i;
    json_t *setting;
    json_array_foreach(settings, i, setting) {
        json_array_append_new(out, one(argv[1], setting));
    }
    if (vx_json_write_file(out_path, out, &err) != VX_OK) {
        die(out_path, &err);
    }
    return 0;
}
