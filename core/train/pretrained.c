#include "train/pretrained.h"

#include "base/buf.h"
#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/weights.h"
#include "device/oplist.h"

#include <stdbool.h>
#include <string.h>

static bool is_head(const char *name) {
    return strstr(name, ".seg_layers.") != NULL;
}

static bool same_shape(const struct vx_param *p, const struct vx_ckpt_tensor *t) {
    bool same = p->ndim == t->rank;
    for (int a = 0; same && a < p->ndim; a++) {
        same = p->shape[a] == t->shape[a];
    }
    return same;
}

static int refuse(const struct vx_param *p, const struct vx_ckpt_tensor *t, const char *path,
                  struct vx_err *err) {
    struct vx_buf has = VX_BUF_INIT, wants = VX_BUF_INIT;
    for (int a = 0; t && a < t->rank; a++) {
        vx_buf_printf(&has, "%s%lld", a ? " x " : "", (long long)t->shape[a]);
    }
    for (int a = 0; a < p->ndim; a++) {
        vx_buf_printf(&wants, "%s%d", a ? " x " : "", p->shape[a]);
    }
    const char *shape = wants.data ? wants.data : "";
    if (!t) {
        vx_fail(err, VX_E_INVALID, "weights_mismatch",
                "the pretrained weights do not fit the network: %s (%s) is missing", p->name,
                shape);
    } else {
        vx_fail(err, VX_E_INVALID, "weights_mismatch",
                "the pretrained weights do not fit the network: %s has shape %s in the file, the "
                "network's is %s",
                p->name, has.data ? has.data : "", shape);
    }
    vx_buf_release(&has);
    vx_buf_release(&wants);
    return vx_err_at(err, "%s", path), VX_E_INVALID;
}

int vx_train_load_pretrained(const struct vx_oplist *net, const char *path, float *const *values,
                             struct vx_err *err) {
    struct vx_ckpt c;
    int rc = vx_weights_read(path, &c, err);
    if (rc != VX_OK) {
        return rc;
    }
    /* all are compared before one is taken */
    for (int taken = 0; taken < 2; taken++) {
        for (int i = 0; rc == VX_OK && i < net->n_params; i++) {
            const struct vx_param *p = &net->params[i];
            int64_t at = vx_ckpt_find(&c, p->name);
            const struct vx_ckpt_tensor *t = at >= 0 ? &c.tensors[at] : NULL;
            if (is_head(p->name)) {
                continue;
            }
            if (!t || !same_shape(p, t)) {
                rc = refuse(p, t, path, err);
            } else if (taken) {
                memcpy(values[i], t->param, p->count * sizeof(float));
            }
        }
    }
    vx_ckpt_release(&c);
    return rc;
}
