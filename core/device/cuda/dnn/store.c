/* Chosen plans as files: what was asked, what was chosen, cuDNN's own text of the plan. */
#include "device/cuda/dnn/internal.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"

#include <string.h>

enum { MAX_FILE = 4 << 20 };

static json_t *three(const int v[3]) {
    return json_pack("[i,i,i]", v[0], v[1], v[2]);
}

/* Everything that a plan depends on. */
static json_t *question(const struct dnn *d, const struct dnn_conv *c,
                        enum dnn_direction direction) {
    return json_pack("{s:s, s:i, s:I, s:s, s:s, s:[i,i,i], s:o, s:o, s:o, s:o}", "device", d->model,
                     "processors", d->processors, "cudnn", (json_int_t)dnn_version(), "type",
                     d->type == CUDNN_DATA_BFLOAT16 ? "bf16" : "fp16", "direction",
                     dnn_direction_name(direction), "channels", c->n, c->in_channels,
                     c->out_channels, "in", three(c->in), "kernel", three(c->kernel), "stride",
                     three(c->stride), "pad", three(c->pad));
}

static int path_of(const char *dir, const json_t *question, char **ret, struct vx_err *err) {
    vx_auto_free char *text = vx_json_canonical(question);
    char hex[VX_SHA256_HEX];
    if (!text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a plan's name");
    }
    vx_sha256_hex(text, strlen(text), hex);
    *ret = vx_strf("%s/%.32s.json", dir, hex);
    return *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "no memory for a plan's name");
}

int dnn_store_put(struct dnn *d, const char *dir, const struct dnn_conv *c,
                  enum dnn_direction direction, const struct dnn_plan *plan, struct vx_err *err) {
    vx_auto_free char *path = NULL, *text = NULL;
    vx_auto_json json_t *asked = question(d, c, direction);
    int rc = dnn_plan_to_json(plan, &text, err);
    rc = rc != VX_OK ? rc : path_of(dir, asked, &path, err);
    rc = rc != VX_OK ? rc : vx_mkdirs(dir, 0755, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_json json_t *file =
        json_pack("{s:i, s:O, s:I, s:i, s:b, s:b, s:I, s:I, s:f, s:I, s:s}", "format", 1, "for",
                  asked, "engine", (json_int_t)plan->engine, "rank", plan->rank, "fallback",
                  plan->fallback, "tensor_core", plan->tensor_core, "workspace",
                  (json_int_t)plan->workspace, "split", (json_int_t)plan->split, "ms", plan->ms,
                  "checked_with", (json_int_t)plan->checked_with, "plan", text);
    return file ? vx_json_write_file(path, file, err)
                : vx_fail(err, VX_E_NOMEM, NULL, "no memory for a plan's file");
}

static int64_t number(const json_t *file, const char *key) {
    return json_integer_value(json_object_get(file, key));
}

int dnn_store_get(struct dnn *d, const char *dir, const struct dnn_conv *c,
                  enum dnn_direction direction, struct dnn_plan *ret, struct vx_err *err) {
    vx_auto_free char *path = NULL;
    vx_auto_json json_t *asked = question(d, c, direction), *file = NULL;
    int rc = path_of(dir, asked, &path, err);
    if (rc == VX_OK && !vx_path_exists(path)) {
        return vx_fail(err, VX_E_NOT_FOUND, NULL, "no plan is kept for this convolution");
    }
    rc = rc != VX_OK ? rc : vx_json_load_file(path, MAX_FILE, &file, err);
    if (rc != VX_OK) {
        return rc;
    }
    const char *text = json_string_value(json_object_get(file, "plan"));
    if (number(file, "format") != 1 || !json_equal(json_object_get(file, "for"), asked) || !text) {
        return vx_fail(err, VX_E_CORRUPT, NULL, "%s holds no plan of this convolution", path);
    }
    struct dnn_plan plan = {.engine = number(file, "engine"),
                            .rank = (int)number(file, "rank"),
                            .fallback = json_is_true(json_object_get(file, "fallback")),
                            .tensor_core = json_is_true(json_object_get(file, "tensor_core")),
                            .workspace = (size_t)number(file, "workspace"),
                            .split = (size_t)number(file, "split"),
                            .ms = json_number_value(json_object_get(file, "ms")),
                            .checked_with = number(file, "checked_with")};
    rc = dnn_plan_from_json(d, text, &plan.desc, err);
    /* A plan made from text may ask for another workspace than the file says it did. */
    int64_t bytes = 0, n = 0;
    if (rc == VX_OK &&
        (cudnnBackendGetAttribute(plan.desc, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                  CUDNN_TYPE_INT64, 1, &n, &bytes) != CUDNN_STATUS_SUCCESS ||
         (size_t)bytes > plan.workspace)) {
        dnn_plan_release(&plan);
        rc = vx_fail(err, VX_E_CORRUPT, NULL, "%s says less workspace than its plan needs", path);
    }
    if (rc == VX_OK) {
        *ret = plan;
    } else if (rc != VX_E_NOMEM) {
        rc = vx_fail(err, VX_E_CORRUPT, NULL, "%s holds a plan that cuDNN refuses", path);
    }
    return rc;
}
