/* The loss of a backend and its gradient by the logits, for tests/oracle/loss.py to repeat with
 * nnU-Net's.
 *
 * usage: oracle_loss BACKEND FOLDER
 * FOLDER/settings.json lists {name, patch [3], strides, classes, batch, batch_dice}. NAME.logits
 * holds the logits of every head but the coarsest, [head][N][class][voxel] in float32, NAME.labels
 * the labels [N][voxel] in int16. NAME.gradient receives the gradient in the logits' order,
 * results.json the figures, the heads' weights and the hard statistics. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "oracle/loss_job.h"
#include "ref/ref.h"

#include <stdio.h>

static void die(const char *what, const struct vx_err *err) {
    fprintf(stderr, "oracle_loss: %s: %s %s\n", what, err->text, err->where);
    exit(1);
}

static void *load(const char *folder, const char *name, const char *end, size_t bytes) {
    struct vx_err err = {0};
    vx_auto_free char *path = vx_strf("%s/%s.%s", folder, name, end);
    char *data;
    size_t len;
    if (vx_read_file(path, bytes, &data, &len, &err) != VX_OK || len != bytes) {
        die(path, &err);
    }
    return data;
}

static json_t *account(const struct loss_job *j, const struct vx_run_result *gradient,
                       const struct vx_run_result *hard) {
    json_t *weights = json_array(), *counts = json_array();
    for (int h = 0; h < j->net.loss.n_heads; h++) {
        json_array_append_new(weights, json_real((double)j->net.loss.weight[h]));
    }
    for (int c = 0; c < j->net.classes; c++) {
        json_array_append_new(counts, json_pack("[I,I,I]", (json_int_t)hard->tp[c],
                                                (json_int_t)hard->fp[c], (json_int_t)hard->fn[c]));
    }
    return json_pack("{s:f, s:f, s:f, s:f, s:o, s:o}", "loss", gradient->loss, "ce", gradient->ce,
                     "dice", gradient->dice, "validated", hard->loss, "weights", weights, "counts",
                     counts);
}

static json_t *run(struct vx_device *device, const char *folder, const json_t *setting) {
    const char *name = json_string_value(json_object_get(setting, "name"));
    struct loss_job j;
    struct vx_run_result gradient = {0}, hard = {0};
    if (loss_job_open(&j, device, setting) != VX_OK) {
        die(name, &j.err);
    }
    size_t count = loss_job_count(&j), voxels = j.batch * j.voxels;
    vx_auto_free float *logits = load(folder, name, "logits", count * sizeof(float));
    vx_auto_free int16_t *labels = load(folder, name, "labels", voxels * sizeof(int16_t));
    vx_auto_free char *path = vx_strf("%s/%s.gradient", folder, name);
    if (loss_job_upload(&j, logits) != VX_OK ||
        loss_job_run(&j, VX_MODE_GRADIENT, labels, &gradient) != VX_OK ||
        loss_job_gradient(&j, logits) != VX_OK ||
        loss_job_run(&j, VX_MODE_VALIDATE, labels, &hard) != VX_OK ||
        vx_write_file_atomic(path, logits, count * sizeof(float), 0644, &j.err) != VX_OK) {
        die(name, &j.err);
    }
    json_t *out = account(&j, &gradient, &hard);
    loss_job_release(&j);
    return out;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: oracle_loss BACKEND FOLDER\n");
        return 2;
    }
    struct vx_err err = {0};
    struct vx_device *device = NULL;
    struct vx_device_options options = {0};
    vx_auto_free char *path = vx_strf("%s/settings.json", argv[2]);
    vx_auto_free char *out_path = vx_strf("%s/results.json", argv[2]);
    vx_auto_json json_t *settings = NULL, *out = json_array();
    if (vx_json_load_file(path, 1 << 20, &settings, &err) != VX_OK ||
        vx_ref_register(&err) != VX_OK ||
        vx_device_open(argv[1], &options, &device, &err) != VX_OK) {
        die("open", &err);
    }
    size_t i;
    json_t *setting;
    json_array_foreach(settings, i, setting) {
        json_array_append_new(out, run(device, argv[2], setting));
    }
    vx_device_close(device);
    if (vx_json_write_file(out_path, out, &err) != VX_OK) {
        die(out_path, &err);
    }
    return 0;
}
