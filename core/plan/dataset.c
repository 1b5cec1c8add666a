#include "plan/dataset.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

bool vx_dataset_name_ok(const char *name) {
    size_t len = strlen(name);
    if (len < 12 || len > 120 || strncmp(name, "Dataset", 7) != 0 || name[10] != '_') {
        return false;
    }
    for (size_t i = 7; i < len; i++) {
        bool fits = i < 10 ? isdigit((unsigned char)name[i])
                           : isalnum((unsigned char)name[i]) || name[i] == '-' || name[i] == '_';
        if (!fits) {
            return false;
        }
    }
    return true;
}

static void parse_channels(const json_t *json, struct vx_dataset_desc *d,
                           struct vx_json_problems *ps) {
    const char *key = json_object_get(json, "channel_names") ? "channel_names" : "modality";
    const json_t *names = vx_json_get_object(json, "", key, ps);
    if (!names) {
        if (!json_object_get(json, key)) {
            vx_json_problem(ps, "/channel_names", "missing", "is required: channel number -> name");
        }
        return;
    }
    size_t n = json_object_size(names);
    if (n < 1 || n > VX_MAX_CHANNELS) {
        vx_json_problem(ps, "/channel_names", "out_of_range", "must have 1 to %d channels",
                        VX_MAX_CHANNELS);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char number[16], base[32];
        snprintf(number, sizeof number, "%zu", i);
        snprintf(base, sizeof base, "/%s", key);
        if (!json_object_get(names, number)) {
            vx_json_problem(ps, base, "missing", "channel \"%s\" is missing; channels count from 0",
                            number);
            return;
        }
        vx_json_get_string(names, base, number, d->channel_names[i], sizeof d->channel_names[i],
                           ps);
    }
    d->n_channels = (int)n;
}

/* A label's value; -1 after a problem was added. */
static int label_value(const char *name, const json_t *value, struct vx_json_problems *ps) {
    char at[160];
    snprintf(at, sizeof at, "/labels/%.100s", name);
    if (json_is_array(value) && json_array_size(value) == 1) {
        value = json_array_get(value, 0);
    } else if (json_is_array(value)) {
        vx_json_problem(ps, at, "not_supported",
                        "is a region (several labels); regions are not supported yet");
        return -1;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > VX_MAX_LABELS) {
        vx_json_problem(ps, at, "wrong_type", "must be an integer from 0 to %d", VX_MAX_LABELS);
        return -1;
    }
    return (int)json_integer_value(value);
}

static void check_consecutive(struct vx_dataset_desc *d, const bool *seen,
                              struct vx_json_problems *ps) {
    for (int v = 0; v < d->n_labels; v++) {
        if (!seen[v]) {
            vx_json_problem(ps, "/labels", "invalid_value",
                            "values must be consecutive from 0; %d is missing", v);
            return;
        }
    }
    if (strcmp(d->labels[0].name, "background") != 0) {
        vx_json_problem(ps, "/labels", "invalid_value", "label 0 must be called \"background\"");
    }
    if (d->ignore_label >= 0 && d->ignore_label != d->n_labels) {
        vx_json_problem(ps, "/labels/ignore", "invalid_value",
                        "must be the largest label plus one, %d", d->n_labels);
    }
}

static void parse_labels(const json_t *json, struct vx_dataset_desc *d,
                         struct vx_json_problems *ps) {
    const json_t *labels = vx_json_get_object(json, "", "labels", ps);
    if (!labels) {
        if (!json_object_get(json, "labels")) {
            vx_json_problem(ps, "/labels", "missing",
                            "is required: name -> integer, background is 0");
        }
        return;
    }
    bool seen[VX_MAX_LABELS + 1] = {false};
    const char *name;
    json_t *value;
    bool good = true;
    json_object_foreach((json_t *)labels, name, value) {
        int v = label_value(name, value, ps);
        d->n_declared++;
        if (v < 0) {
            good = false;
        } else if (strcmp(name, "ignore") == 0) {
            d->ignore_label = v;
        } else if (v >= VX_MAX_LABELS || seen[v]) {
            vx_json_problem(ps, "/labels", "invalid_value", "value %d is used twice or too large",
                            v);
            good = false;
        } else {
            seen[v] = true;
            d->labels[v].value = v;
            snprintf(d->labels[v].name, sizeof d->labels[v].name, "%s", name);
            d->n_labels++;
        }
    }
    if (good && d->n_labels < 2) {
        vx_json_problem(ps, "/labels", "invalid_value",
                        "must have background and at least one more label");
    } else if (good) {
        check_consecutive(d, seen, ps);
    }
}

int vx_dataset_parse(const char *name, const json_t *json, struct vx_dataset_desc *ret,
                     struct vx_json_problems *ps) {
    struct vx_dataset_desc d = {.ignore_label = -1};
    size_t before = ps->n;
    snprintf(d.name, sizeof d.name, "%s", name);
    if (!json_is_object(json)) {
        vx_json_problem(ps, "", "wrong_type", "dataset.json must hold an object");
        return VX_E_INVALID;
    }
    parse_channels(json, &d, ps);
    parse_labels(json, &d, ps);
    if (!vx_json_get_string(json, "", "file_ending", d.file_ending, sizeof d.file_ending, ps)) {
        if (!json_object_get(json, "file_ending")) {
            vx_json_problem(ps, "/file_ending", "missing", "is required, e.g. \".nii.gz\"");
        }
    } else if (strcmp(d.file_ending, ".nii.gz") != 0 && strcmp(d.file_ending, ".nii") != 0) {
        vx_json_problem(ps, "/file_ending", "not_supported",
                        "only .nii.gz and .nii are supported, not %s", d.file_ending);
    }
    int64_t training = 0;
    if (vx_json_get_int(json, "", "numTraining", 1, 1000000, &training, ps)) {
        d.num_training = (int)training;
    } else if (!json_object_get(json, "numTraining")) {
        vx_json_problem(ps, "/numTraining", "missing", "is required: the number of training cases");
    }
    if (ps->n != before) {
        return VX_E_INVALID;
    }
    *ret = d;
    return VX_OK;
}

int vx_dataset_load(const char *folder, struct vx_dataset_desc *ret, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/dataset.json", folder);
    vx_auto_json json_t *json = NULL;
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = vx_json_load_file(path, 16u << 20, &json, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free char *copy = strdup(folder);
    if (!copy) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    size_t len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/') {
        copy[--len] = '\0';
    }
    const char *slash = strrchr(copy, '/');
    struct vx_json_problems ps = {0};
    rc = vx_dataset_parse(slash ? slash + 1 : copy, json, ret, &ps);
    if (rc != VX_OK) {
        vx_fail(err, rc, "invalid_dataset_json", "%s: %s %s%s", path, ps.list[0].pointer,
                ps.list[0].text, ps.n > 1 ? " (and more)" : "");
        vx_err_at(err, "%s", path);
    }
    return rc;
}
