/* The transforms of core/augment with given parameters, for tests/oracle/augment.py to repeat with
 * batchgeneratorsv2.
 *
 * usage: oracle_augment FOLDER
 * FOLDER/tasks.json lists samples (augment_task.h), each with a name. NAME.image and NAME.label
 * hold the initial patch as raw little-endian arrays; NAME.image.out and NAME.label.out are left
 * beside them. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "oracle/augment_task.h"

#include <stdio.h>
#include <stdlib.h>

static void die(const char *name, const char *what, const struct vx_err *err) {
    fprintf(stderr, "oracle_augment: %s: %s: %s %s\n", name, what, err->text, err->where);
    exit(1);
}

static void *load(const char *folder, const char *name, const char *end, size_t bytes) {
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/%s.%s", folder, name, end);
    char *data;
    size_t len;
    if (vx_read_file(path, bytes, &data, &len, &err) != VX_OK || len != bytes) {
        die(name, end, &err);
    }
    return data;
}

static void save(const char *folder, const char *name, const char *end, const void *data,
                 size_t bytes) {
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/%s.%s.out", folder, name, end);
    if (vx_write_file_atomic(path, data, bytes, 0644, &err) != VX_OK) {
        die(name, path, &err);
    }
}

static void run(const char *folder, const json_t *json) {
    const char *name = json_string_value(json_object_get(json, "name"));
    struct vx_aug_policy p;
    struct vx_aug_params a;
    if (!augment_task_read(json, &p, &a)) {
        die(name, "not a valid policy", &(struct vx_err){0});
    }
    size_t n = augment_volume(p.patch), whole = augment_volume(p.initial), channels = p.channels;
    vx_auto_free float *initial = load(folder, name, "image", channels * whole * sizeof(float));
    vx_auto_free int16_t *labels = load(folder, name, "label", whole * sizeof(int16_t));
    vx_auto_free float *image = malloc(channels * n * sizeof *image);
    vx_auto_free int16_t *label = malloc(n * sizeof *label);
    if (!image || !label || !augment_task_apply(&p, &a, initial, labels, image, label)) {
        die(name, "out of memory", &(struct vx_err){0});
    }
    save(folder, name, "image", image, channels * n * sizeof *image);
    save(folder, name, "label", label, n * sizeof *label);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: oracle_augment FOLDER\n");
        return 2;
    }
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/tasks.json", argv[1]);
    vx_auto_json json_t *tasks = NULL;
    if (vx_json_load_file(path, 1 << 24, &tasks, &err) != VX_OK) {
        die(path, "tasks", &err);
    }
    size_t i;
    json_t *task;
    json_array_foreach(tasks, i, task) {
        run(argv[1], task);
    }
    return 0;
}
