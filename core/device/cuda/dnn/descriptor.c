/* Descriptors in few words, and the context they are made for. */
#include "device/cuda/dnn/internal.h"

#include "base/err.h"
#include "base/json.h"
#include "base/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t dnn_version(void) {
    return cudnnGetVersion();
}

const char *dnn_status_text(int status) {
    return cudnnGetErrorString((cudnnStatus_t)status);
}

int dnn_fail(struct vx_err *err, cudnnStatus_t status, const char *what) {
    char detail[256] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    int code = status == CUDNN_STATUS_ALLOC_FAILED ? VX_E_NOMEM
               : status >= CUDNN_STATUS_NOT_SUPPORTED && status < CUDNN_STATUS_INTERNAL_ERROR
                   ? VX_E_UNSUPPORTED
                   : VX_E_DEVICE;
    vx_fail(err, code, "cudnn", "cuDNN, %s: %s %s", what, cudnnGetErrorString(status), detail);
    if (err) {
        err->native = (int)status;
    }
    return code;
}

static void note(struct dnn_scope *s, cudnnStatus_t status, const char *what) {
    if (status != CUDNN_STATUS_SUCCESS && s->rc == VX_OK) {
        s->rc = dnn_fail(s->err, status, what);
    }
}

void dnn_scope_end(struct dnn_scope *s) {
    while (s->n > 0) {
        desc_t d = s->made[--s->n];
        if (d) {
            cudnnBackendDestroyDescriptor(d);
        }
    }
}

desc_t dnn_make(struct dnn_scope *s, cudnnBackendDescriptorType_t type) {
    desc_t d = NULL;
    if (s->n == (int)VX_COUNTOF(s->made)) {
        note(s, CUDNN_STATUS_ALLOC_FAILED, "too many descriptors");
    }
    if (s->rc == VX_OK) {
        note(s, cudnnBackendCreateDescriptor(type, &d), "creating a descriptor");
    }
    if (s->rc != VX_OK) {
        return NULL;
    }
    s->made[s->n++] = d;
    return d;
}

desc_t dnn_keep(struct dnn_scope *s, desc_t d) {
    for (int i = 0; i < s->n; i++) {
        if (s->made[i] == d) {
            s->made[i] = NULL;
        }
    }
    return d;
}

void dnn_set(struct dnn_scope *s, desc_t d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t n, const void *values) {
    if (s->rc == VX_OK) {
        char what[48];
        snprintf(what, sizeof what, "setting attribute %d", (int)name);
        note(s, cudnnBackendSetAttribute(d, name, type, n, values), what);
    }
}

void dnn_set_desc(struct dnn_scope *s, desc_t d, cudnnBackendAttributeName_t name, desc_t value) {
    dnn_set(s, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

desc_t dnn_finish(struct dnn_scope *s, desc_t d, const char *what) {
    if (s->rc == VX_OK) {
        note(s, cudnnBackendFinalize(d), what);
    }
    return s->rc == VX_OK ? d : NULL;
}

int dnn_text(desc_t d, cudnnBackendAttributeName_t name, char **ret, struct vx_err *err) {
    int64_t size = 0, got = 0;
    cudnnStatus_t status = cudnnBackendGetAttribute(d, name, CUDNN_TYPE_CHAR, 0, &size, NULL);
    if (status != CUDNN_STATUS_SUCCESS || size <= 0) {
        return dnn_fail(err, status, "the size of a text");
    }
    vx_auto_free char *text = calloc(1, (size_t)size + 1);
    if (!text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a text of cuDNN's");
    }
    status = cudnnBackendGetAttribute(d, name, CUDNN_TYPE_CHAR, size, &got, text);
    if (status != CUDNN_STATUS_SUCCESS) {
        return dnn_fail(err, status, "reading a text");
    }
    *ret = vx_steal(text);
    return VX_OK;
}

/* From the handle's device, or as given. */
static int make_properties(struct dnn *d, const char *profile, struct vx_err *err) {
    struct dnn_scope s = {.err = err};
    desc_t device = dnn_make(&s, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    if (profile) {
        dnn_set(&s, device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                (int64_t)strlen(profile) + 1, profile);
    } else {
        dnn_set(&s, device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle);
    }
    device = dnn_finish(&s, device, "the device's properties");
    d->device = device ? dnn_keep(&s, device) : NULL;
    dnn_scope_end(&s);
    return s.rc;
}

int dnn_profile(struct dnn *d, char **ret, struct vx_err *err) {
    int rc = d->device ? VX_OK : make_properties(d, NULL, err);
    return rc != VX_OK ? rc
                       : dnn_text(d->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, ret, err);
}

/* What the plans of a profile's device are kept under. */
static int read_model(struct dnn *d, struct vx_err *err) {
    vx_auto_free char *text = NULL;
    int rc = dnn_profile(d, &text, err);
    vx_auto_json json_t *profile = NULL;
    rc = rc != VX_OK ? rc : vx_json_parse(text, strlen(text), 1 << 16, 8, &profile, err);
    if (rc != VX_OK) {
        return rc;
    }
    const char *name = json_string_value(json_object_get(profile, "deviceName"));
    snprintf(d->model, sizeof d->model, "%s", name ? name : "unknown GPU");
    d->processors = (int)json_integer_value(json_object_get(profile, "multiProcessorCount"));
    return VX_OK;
}

static struct dnn *create(enum dnn_type type, struct vx_err *err) {
    struct dnn *d = calloc(1, sizeof *d);
    if (!d) {
        vx_fail(err, VX_E_NOMEM, NULL, "no memory for cuDNN's context");
        return NULL;
    }
    d->type = type == DNN_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    return d;
}

int dnn_open_profile(const char *profile, enum dnn_type type, struct dnn **ret,
                     struct vx_err *err) {
    struct dnn *d = create(type, err);
    int rc = d ? make_properties(d, profile, err) : VX_E_NOMEM;
    rc = rc != VX_OK ? rc : read_model(d, err);
    if (rc != VX_OK) {
        dnn_close(d);
        return rc;
    }
    *ret = d;
    return VX_OK;
}

int dnn_open_device(const char *model, int processors, enum dnn_type type, struct dnn **ret,
                    struct vx_err *err) {
    struct dnn *d = create(type, err);
    if (!d) {
        return VX_E_NOMEM;
    }
    cudnnStatus_t status = cudnnCreate(&d->handle);
    if (status != CUDNN_STATUS_SUCCESS) {
        dnn_close(d);
        return dnn_fail(err, status, "opening a handle");
    }
    snprintf(d->model, sizeof d->model, "%s", model);
    d->processors = processors;
    *ret = d;
    return VX_OK;
}

void dnn_allow_compiled(struct dnn *d) {
    d->compiled = true;
}

void dnn_close(struct dnn *d) {
    if (d) {
        if (d->device) {
            cudnnBackendDestroyDescriptor(d->device);
        }
        if (d->handle) {
            cudnnDestroy(d->handle);
        }
        free(d);
    }
}
