/* Which folds a model has, and whether they belong together. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "infer/model_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- finding them --- */

static bool fold_name_ok(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return strcmp(name, "all") == 0 || (digits > 0 && digits < 4 && name[digits] == '\0');
}

static const char *checkpoint_of(const struct vx_model_options *o) {
    return o->checkpoint ? o->checkpoint : "final";
}

/* The checkpoint's path, voxeld's own before nnU-Net's; NULL where there is none or no memory. */
static char *find_checkpoint(const struct vx_model *m, const struct vx_model_options *o,
                             const char *fold) {
    static const char *const endings[] = {"safetensors", "pth"};
    for (size_t i = 0; i < VX_COUNTOF(endings); i++) {
        vx_auto_free char *path =
            vx_strf("%s/fold_%s/checkpoint_%s.%s", m->dir, fold, checkpoint_of(o), endings[i]);
        if (path && vx_path_exists(path)) {
            return vx_steal(path);
        }
    }
    return NULL;
}

static int add_fold(struct vx_model *m, const char *name, char *path, struct vx_err *err) {
    if (m->n_folds == VX_MODEL_MAX_FOLDS) {
        free(path);
        return vx_fail(err, VX_E_LIMIT, "too_many_folds", "more than %d folds in %s",
                       VX_MODEL_MAX_FOLDS, m->dir);
    }
    struct vx_model_fold *f = &m->folds[m->n_folds++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->path = path;
    return VX_OK;
}

static int find_asked(struct vx_model *m, const struct vx_model_options *o, struct vx_err *err) {
    for (size_t i = 0; i < o->n_folds; i++) {
        const char *name = o->folds[i];
        if (!fold_name_ok(name)) {
            return vx_fail(err, VX_E_INVALID, "bad_fold",
                           "\"%.40s\" is no fold; folds are numbers, or \"all\"", name);
        }
        for (size_t k = 0; k < m->n_folds; k++) {
            if (strcmp(m->folds[k].name, name) == 0) {
                return vx_fail(err, VX_E_INVALID, "bad_fold", "fold %s is named twice", name);
            }
        }
        char *path = find_checkpoint(m, o, name);
        if (!path) {
            vx_fail(err, VX_E_NOT_FOUND, "fold_not_found",
                    "the model has no fold_%s/checkpoint_%s.safetensors or .pth", name,
                    checkpoint_of(o));
            vx_err_at(err, "%s", m->dir);
            return VX_E_NOT_FOUND;
        }
        int rc = add_fold(m, name, path, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}

static int by_number(const void *a, const void *b) {
    const struct vx_model_fold *x = a, *y = b;
    return atoi(x->name) - atoi(y->name);
}

static int find_all(struct vx_model *m, const struct vx_model_options *o, struct vx_err *err) {
    DIR *dir = opendir(m->dir);
    if (!dir) {
        int why = errno;
        vx_fail(err, VX_E_NOT_FOUND, "model_not_found", "there is no model folder %s: %s", m->dir,
                strerror(why));
        return vx_err_at(err, "%s", m->dir);
    }
    int rc = VX_OK;
    for (struct dirent *e; rc == VX_OK && (e = readdir(dir));) {
        const char *name = strncmp(e->d_name, "fold_", 5) == 0 ? e->d_name + 5 : "";
        char *path = isdigit((unsigned char)name[0]) && fold_name_ok(name)
                         ? find_checkpoint(m, o, name)
                         : NULL;
        rc = path ? add_fold(m, name, path, err) : VX_OK;
    }
    closedir(dir);
    qsort(m->folds, m->n_folds, sizeof m->folds[0], by_number);
    char *all = rc == VX_OK && m->n_folds == 0 ? find_checkpoint(m, o, "all") : NULL;
    if (all) {
        rc = add_fold(m, "all", all, err);
    }
    if (rc == VX_OK && m->n_folds == 0) {
        vx_fail(err, VX_E_NOT_FOUND, "fold_not_found",
                "%s has no fold with a checkpoint_%s.safetensors or .pth", m->dir,
                checkpoint_of(o));
        return vx_err_at(err, "%s", m->dir);
    }
    return rc;
}

int model_find_folds(struct vx_model *m, const struct vx_model_options *o, struct vx_err *err) {
    const char *checkpoint = checkpoint_of(o);
    if (strcmp(checkpoint, "final") != 0 && strcmp(checkpoint, "best") != 0) {
        return vx_fail(err, VX_E_INVALID, "bad_checkpoint",
                       "\"%.40s\" is no checkpoint to predict with; final and best are",
                       checkpoint);
    }
    return o->n_folds > 0 ? find_asked(m, o, err) : find_all(m, o, err);
}

/* --- comparing them --- */

/* Of a configuration, what a prediction does not depend on. */
static const char *const irrelevant[] = {"batch_size", "batch_dice", "data_identifier",
                                         "median_image_size_in_voxels"};
static const char *const plan_keys[] = {"transpose_forward", "transpose_backward",
                                        "foreground_intensity_properties_per_channel"};
static const char *const dataset_keys[] = {"channel_names", "modality", "labels", "file_ending"};

static void copy_key(json_t *to, const json_t *from, const char *key) {
    json_t *value = json_object_get(from, key);
    if (value) {
        json_object_set(to, key, value);
    }
}

json_t *model_deciding_words(const struct model_words *w) {
    const json_t *configs = json_object_get(w->plans_json, "configurations");
    json_t *config = json_copy(json_object_get(configs, w->configuration));
    json_t *all = json_object();
    if (!all) {
        json_decref(config);
        return NULL;
    }
    for (size_t i = 0; config && i < VX_COUNTOF(irrelevant); i++) {
        json_object_del(config, irrelevant[i]);
    }
    json_object_set_new(all, "configuration", config ? config : json_object());
    for (size_t i = 0; i < VX_COUNTOF(plan_keys); i++) {
        copy_key(all, w->plans_json, plan_keys[i]);
    }
    for (size_t i = 0; i < VX_COUNTOF(dataset_keys); i++) {
        copy_key(all, w->dataset, dataset_keys[i]);
    }
    return all;
}

/* First key whose values differ; NULL where there is none. */
static const char *first_difference(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value) {
        if (!json_equal(value, json_object_get(b, key))) {
            return key;
        }
    }
    json_object_foreach((json_t *)b, key, value) {
        if (!json_object_get(a, key)) {
            return key;
        }
    }
    return NULL;
}

static int differ(const char *a_fold, const char *b_fold, const char *what, struct vx_err *err) {
    return vx_fail(err, VX_E_INVALID, "folds_differ",
                   "folds %s and %s cannot be averaged: they differ in %s", a_fold, b_fold, what);
}

int model_same_words(const struct model_words *a, const char *a_fold, const struct model_words *b,
                     const char *b_fold, struct vx_err *err) {
    if (strcmp(a->configuration, b->configuration) != 0) {
        char what[96];
        snprintf(what, sizeof what, "configuration (%s, %s)", a->configuration, b->configuration);
        return differ(a_fold, b_fold, what, err);
    }
    vx_auto_json json_t *x = model_deciding_words(a), *y = model_deciding_words(b);
    if (!x || !y) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening a model");
    }
    const char *key = first_difference(x, y);
    if (key && strcmp(key, "configuration") == 0) {
        key = first_difference(json_object_get(x, key), json_object_get(y, key));
    }
    if (!key && memcmp(a->mirror, b->mirror, sizeof a->mirror) != 0) {
        key = "the axes that training mirrored";
    }
    return key ? differ(a_fold, b_fold, key, err) : VX_OK;
}
