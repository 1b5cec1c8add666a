#include "checkpoint/pth_read.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/pickle_read.h"
#include "checkpoint/pth/tensors.h"
#include "checkpoint/zip.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    HEAD_BYTES = 262,  /* up to a tar's mark */
    BUDGET_FACTOR = 8, /* float16 doubles, momentum doubles, shared storages may */
    BUDGET_MIN = 64 << 20,
};

void vx_pth_release(struct vx_pth *p) {
    vx_ckpt_release(&p->ckpt);
    json_decref(p->plans);
    json_decref(p->dataset_json);
    p->plans = p->dataset_json = NULL;
}

static int refuse(const char *path, int code, const char *reason, const char *what,
                  struct vx_err *err) {
    vx_fail(err, code, reason, "%s %s", path, what);
    return vx_err_at(err, "%s", path), code;
}

/* Names the containers that came before the zip archive, and what is no checkpoint at all. */
static int check_container(const char *path, struct vx_err *err) {
    static const unsigned char magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46};
    unsigned char head[HEAD_BYTES] = {0};
    vx_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0) {
        return vx_fail_errno(err, errno, path, "cannot read %s", path);
    }
    if (memcmp(head, "PK\x03\x04", 4) == 0) {
        return VX_OK;
    }
    if (memcmp(head, magic, sizeof magic) == 0 || memcmp(head + 257, "ustar", 5) == 0) {
        return refuse(path, VX_E_UNSUPPORTED, "legacy_pth",
                      "is in a container from before PyTorch 1.6; load it with torch.load and save "
                      "it again with torch.save",
                      err);
    }
    return refuse(path, VX_E_CORRUPT, "bad_pth", "is no PyTorch checkpoint (no zip archive)", err);
}

/* The archive's folder: that of its one data.pkl. *ret is malloc'ed. */
static int find_top(const char *path, const struct vx_zip *zip, char **ret, size_t *ret_pickle,
                    struct vx_err *err) {
    static const char end[] = "/data.pkl";
    const size_t tail = sizeof end - 1;
    for (size_t i = 0; i < vx_zip_count(zip); i++) {
        const char *name = vx_zip_member(zip, i)->name;
        size_t len = strlen(name);
        if (len > tail && strcmp(name + len - tail, end) == 0 && !memchr(name, '/', len - tail)) {
            *ret = strndup(name, len - tail);
            *ret_pickle = i;
            return *ret ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        }
    }
    return refuse(path, VX_E_CORRUPT, "bad_pth", "is a zip archive without a data.pkl", err);
}

static int check_archive(const char *path, const struct vx_zip *zip, const char *top,
                         struct vx_err *err) {
    vx_auto_free char *order = vx_strf("%s/byteorder", top);
    vx_auto_free char *script = vx_strf("%s/constants.pkl", top);
    char text[8] = {0};
    if (!order || !script) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    if (vx_zip_find(zip, script) >= 0) {
        return refuse(path, VX_E_UNSUPPORTED, "torchscript",
                      "is a TorchScript program, no checkpoint", err);
    }
    int64_t i = vx_zip_find(zip, order);
    if (i < 0) { /* before PyTorch 2.1 */
        return VX_OK;
    }
    bool little = vx_zip_member(zip, (size_t)i)->size == 6;
    int rc = little ? vx_zip_read(zip, (size_t)i, text, err) : VX_OK;
    if (rc == VX_OK && strcmp(text, "little") != 0) {
        rc = refuse(path, VX_E_UNSUPPORTED, "big_endian",
                    "was written on a machine of another byte order", err);
    }
    return rc;
}

static int load_pickle(const char *path, const struct vx_zip *zip, size_t i,
                       struct vx_py_tree **ret, struct vx_err *err) {
    uint64_t size = vx_zip_member(zip, i)->size;
    if (size > VX_PY_MAX_BYTES) {
        return refuse(path, VX_E_LIMIT, "pickle_too_large", "has a data.pkl of more than 64 MiB",
                      err);
    }
    vx_auto_free char *bytes = malloc((size_t)size + 1);
    int rc = bytes ? vx_zip_read(zip, i, bytes, err)
                   : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the pickle of %s", path);
    if (rc == VX_OK) {
        rc = vx_pickle_read(bytes, (size_t)size, ret, err);
        if (rc != VX_OK) {
            vx_err_prefix(err, "%s", path);
            vx_err_at(err, "%s", path);
        }
    }
    return rc;
}

/* --- the words --- */

static double number(const struct vx_py *v) {
    return v && v->kind == VX_PY_REAL ? v->real : v && v->kind == VX_PY_INT ? (double)v->i : NAN;
}

static bool is_flat(const struct vx_py *weights) {
    for (size_t i = 1; i < weights->seq.n; i += 2) {
        const struct vx_py *v = weights->seq.items[i];
        if (v->kind == VX_PY_TENSOR && v->tensor->rank == 4) {
            return true;
        }
    }
    return false;
}

/* inference_allowed_mirroring_axes, numbered within the network's axes, as array axes. Where there
 * are none nnU-Net's predictor does not mirror. NULL where the list holds something else. */
static json_t *mirror_axes(const struct vx_py *axes, bool flat) {
    json_t *list = json_array();
    bool sequence = axes && (axes->kind == VX_PY_TUPLE || axes->kind == VX_PY_LIST);
    for (size_t i = 0; list && sequence && i < axes->seq.n; i++) {
        const struct vx_py *v = axes->seq.items[i];
        if (v->kind != VX_PY_INT || v->i < 0 || v->i > (flat ? 1 : 2)) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, json_integer(v->i + (flat ? 1 : 0)));
    }
    return list;
}

static void put_word(json_t *object, const char *name, const struct vx_py *v) {
    if (v && v->kind == VX_PY_STR) {
        json_object_set_new(object, name, json_stringn(v->text.s, v->text.len));
    } else if (v && v->kind == VX_PY_INT) {
        json_object_set_new(object, name, json_sprintf("%" PRId64, v->i));
    }
}

/* New reference where v is a dict, else NULL; *rc tells a lack of memory. */
static json_t *dict_json(const struct vx_py *v, int *rc) {
    json_t *out = v && v->kind == VX_PY_DICT ? vx_py_json(v) : NULL;
    *rc = v && v->kind == VX_PY_DICT && !out ? VX_E_NOMEM : *rc;
    return out;
}

static int take_words(const char *path, const struct vx_py *root, struct vx_pth *p,
                      struct vx_err *err) {
    const struct vx_py *init = vx_py_get(root, "init_args");
    const struct vx_py *epoch = vx_py_get(root, "current_epoch");
    json_t *axes = mirror_axes(vx_py_get(root, "inference_allowed_mirroring_axes"),
                               is_flat(vx_py_get(root, "network_weights")));
    if (!axes) {
        return refuse(path, VX_E_CORRUPT, "bad_pth",
                      "names mirror axes that its network does not have", err);
    }
    int rc = VX_OK;
    json_t *network = json_pack("{s:o}", "mirror_axes", axes);
    put_word(network, "trainer_name", vx_py_get(root, "trainer_name"));
    put_word(network, "configuration", vx_py_get(init, "configuration"));
    put_word(network, "fold", vx_py_get(init, "fold"));
    p->ckpt.network = network;
    p->ckpt.history = dict_json(vx_py_get(root, "logging"), &rc);
    p->plans = dict_json(vx_py_get(init, "plans"), &rc);
    p->dataset_json = dict_json(vx_py_get(init, "dataset_json"), &rc);
    if (rc != VX_OK || !network) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the words of %s", path);
    }
    if (epoch && epoch->kind == VX_PY_INT && epoch->i >= 0) {
        p->ckpt.epoch = epoch->i;
    }
    p->ckpt.best_ema_dice = number(vx_py_get(root, "_best_ema"));
    const json_t *ema = json_object_get(p->ckpt.history, "ema_fg_dice");
    const json_t *last = json_array_get(ema, json_array_size(ema) - 1);
    p->ckpt.ema_dice = json_is_number(last) ? json_number_value(last) : NAN;
    return VX_OK;
}

static uint64_t budget_of(const struct vx_zip *zip) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < vx_zip_count(zip); i++) {
        bytes += vx_zip_member(zip, i)->size; /* they do not overlap: no more than the file */
    }
    return BUDGET_MIN + BUDGET_FACTOR * bytes;
}

static int load(const char *path, const struct vx_zip *zip, bool momentum, struct vx_pth *p,
                struct vx_err *err) {
    vx_auto_free char *top = NULL;
    vx_auto_py struct vx_py_tree *tree = NULL;
    size_t pickle = 0;
    int rc = find_top(path, zip, &top, &pickle, err);
    rc = rc == VX_OK ? check_archive(path, zip, top, err) : rc;
    rc = rc == VX_OK ? load_pickle(path, zip, pickle, &tree, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_py *root = vx_py_root(tree), *weights = vx_py_get(root, "network_weights");
    if (!weights || weights->kind != VX_PY_DICT) {
        return refuse(path, VX_E_CORRUPT, "bad_pth",
                      "is no checkpoint of nnU-Net: it has no network_weights", err);
    }
    struct vx_pth_source s = {.path = path, .zip = zip, .top = top, .budget = budget_of(zip)};
    rc = take_words(path, root, p, err);
    rc = rc == VX_OK ? vx_pth_load_params(&s, weights, &p->ckpt, err) : rc;
    if (rc == VX_OK && momentum) {
        rc = vx_pth_load_momentum(&s, vx_py_get(root, "optimizer_state"), &p->ckpt, err);
    }
    vx_pth_source_release(&s);
    return rc;
}

int vx_pth_read(const char *path, bool momentum, struct vx_pth *ret, struct vx_err *err) {
    vx_auto_zip struct vx_zip *zip = NULL;
    vx_auto_pth struct vx_pth p = {0};
    vx_ckpt_init(&p.ckpt);
    int rc = check_container(path, err);
    rc = rc == VX_OK ? vx_zip_open(path, &zip, err) : rc;
    rc = rc == VX_OK ? load(path, zip, momentum, &p, err) : rc;
    if (rc == VX_OK) {
        *ret = p;
        p = (struct vx_pth){0};
    }
    return rc;
}
