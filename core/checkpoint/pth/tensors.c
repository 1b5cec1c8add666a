#include "checkpoint/pth/tensors.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pth/names.h"
#include "checkpoint/zip.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_KEYS = 65536 };

void vx_pth_source_release(struct vx_pth_source *s) {
    free(s->key);
    free(s->data);
    s->key = NULL;
    s->data = NULL;
}

static int refuse(const struct vx_pth_source *s, int code, const char *reason, const char *name,
                  const char *what, struct vx_err *err) {
    vx_fail(err, code, reason, "%s, %s: %s", s->path, name, what);
    return vx_err_at(err, "%s", s->path), code;
}

/* --- numbers --- */

static float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
    uint32_t bits;
    float x;
    if (exponent == 0) { /* zero or subnormal: fraction times 2^-24, exact in float */
        x = (float)fraction * 0x1p-24f;
        memcpy(&bits, &x, sizeof bits);
    } else {
        bits = (exponent == 0x1f ? 0xffu : exponent + 112) << 23 | fraction << 13;
    }
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Element i of a storage as float. */
static float element(const unsigned char *data, enum vx_py_dtype dtype, size_t i) {
    float x;
    double wide;
    uint16_t half;
    uint32_t bits;
    switch (dtype) {
    case VX_PY_F64:
        memcpy(&wide, data + 8 * i, sizeof wide);
        return (float)wide;
    case VX_PY_F16:
        memcpy(&half, data + 2 * i, sizeof half);
        return from_half(half);
    case VX_PY_BF16: /* the upper half of a float */
        memcpy(&half, data + 2 * i, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&x, &bits, sizeof x);
        return x;
    default:
        memcpy(&x, data + 4 * i, sizeof x);
        return x;
    }
}

static bool is_float(enum vx_py_dtype dtype) {
    return dtype == VX_PY_F32 || dtype == VX_PY_F64 || dtype == VX_PY_F16 || dtype == VX_PY_BF16;
}

static size_t count(const struct vx_py_tensor *t) {
    size_t n = 1;
    for (int a = 0; a < t->rank; a++) {
        n *= (size_t)t->shape[a]; /* at most the storage's elements */
    }
    return n;
}

/* Memory and time that a file can ask for are bounded by what it holds, however often it names a
 * storage. */
static int spend(struct vx_pth_source *s, uint64_t bytes, const char *name, struct vx_err *err) {
    if (bytes > s->budget) {
        return refuse(s, VX_E_LIMIT, "pth_too_large", name,
                      "the tensors are far larger than the file", err);
    }
    s->budget -= bytes;
    return VX_OK;
}

/* The member that holds a storage; it has all bytes that the pickle promises. */
static int find_storage(const struct vx_pth_source *s, const struct vx_py_storage *storage,
                        const char *name, size_t *ret, struct vx_err *err) {
    vx_auto_free char *member = vx_strf("%s/data/%s", s->top, storage->key);
    if (!member) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int64_t i = vx_zip_find(s->zip, member);
    if (i < 0) {
        return refuse(s, VX_E_CORRUPT, "storage_missing", name,
                      "the archive has no member for its storage", err);
    }
    uint64_t has = vx_zip_member(s->zip, (size_t)i)->size;
    uint64_t want = (uint64_t)storage->n * vx_py_dtype_bytes(storage->dtype);
    if (has < want) {
        vx_fail(err, VX_E_CORRUPT, "storage_too_short",
                "%s, %s: its storage %s has %" PRIu64 " bytes, the pickle says %" PRIu64, s->path,
                name, storage->key, has, want);
        return vx_err_at(err, "%s", s->path), VX_E_CORRUPT;
    }
    *ret = (size_t)i;
    return VX_OK;
}

/* Makes s->data the storage's bytes; the one read last is kept, as views of one follow each other.
 */
static int open_storage(struct vx_pth_source *s, const struct vx_py_storage *storage,
                        const char *name, struct vx_err *err) {
    size_t i = 0;
    int rc = find_storage(s, storage, name, &i, err);
    if (rc != VX_OK || (s->key && strcmp(s->key, storage->key) == 0)) {
        return rc;
    }
    vx_pth_source_release(s);
    size_t size = (size_t)vx_zip_member(s->zip, i)->size;
    rc = spend(s, size, name, err);
    if (rc != VX_OK) {
        return rc;
    }
    s->data = malloc(size + 1);
    s->key = s->data ? strdup(storage->key) : NULL;
    rc = s->key ? vx_zip_read(s->zip, i, s->data, err)
                : vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu bytes of %s", size, name);
    if (rc != VX_OK) {
        vx_pth_source_release(s);
    }
    return rc;
}

/* A tensor's n elements in C order. */
static int load_values(struct vx_pth_source *s, const struct vx_py_tensor *t, const char *name,
                       float *ret, struct vx_err *err) {
    int rc = open_storage(s, t->storage, name, err);
    if (rc != VX_OK) {
        return rc;
    }
    int64_t index[VX_PY_MAX_RANK] = {0}, at = t->offset;
    size_t n = count(t);
    for (size_t i = 0; i < n; i++) {
        ret[i] = element(s->data, t->storage->dtype, (size_t)at);
        for (int a = t->rank - 1; a >= 0; a--) { /* the next index, last axis fastest */
            at += t->stride[a];
            if (++index[a] < t->shape[a]) {
                break;
            }
            at -= t->stride[a] * t->shape[a];
            index[a] = 0;
        }
    }
    return VX_OK;
}

/* --- parameters --- */

struct entry {
    char name[VX_PTH_MAX_NAME + 1]; /* unique */
    const char *key;                /* as the file has it */
    const struct vx_py_tensor *tensor;
    size_t order; /* place in the file */
};

static int by_name(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

static int take_entry(const struct vx_pth_source *s, const struct vx_py *key,
                      const struct vx_py *value, struct entry *e, struct vx_err *err) {
    if (key->kind != VX_PY_STR || !vx_pth_unique_name(key->text.s, key->text.len, e->name)) {
        return refuse(s, VX_E_CORRUPT, "bad_pth", "network_weights", "a key is no proper name",
                      err);
    }
    e->key = key->text.s;
    if (value->kind != VX_PY_TENSOR) {
        return refuse(s, VX_E_CORRUPT, "bad_pth", e->key, "is no tensor", err);
    }
    e->tensor = value->tensor;
    if (!is_float(e->tensor->storage->dtype)) {
        return refuse(s, VX_E_UNSUPPORTED, "unsupported_dtype", e->key,
                      "is not float32, float64, float16 or bfloat16", err);
    }
    if (e->tensor->rank > VX_CKPT_MAX_RANK) {
        return refuse(s, VX_E_UNSUPPORTED, "unsupported_shape", e->key, "has too many axes", err);
    }
    if (count(e->tensor) == 0) {
        return refuse(s, VX_E_CORRUPT, "bad_pth", e->key, "has no elements", err);
    }
    return VX_OK;
}

static bool same_view(const struct vx_py_tensor *a, const struct vx_py_tensor *b) {
    size_t axes = (size_t)a->rank * sizeof *a->shape;
    return strcmp(a->storage->key, b->storage->key) == 0 &&
           a->storage->dtype == b->storage->dtype && a->offset == b->offset &&
           memcmp(a->stride, b->stride, axes) == 0;
}

static int check_alias(struct vx_pth_source *s, const struct entry *first, const struct entry *e,
                       struct vx_err *err) {
    const struct vx_py_tensor *a = first->tensor, *b = e->tensor;
    bool same = a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
    if (same && !same_view(a, b)) {
        size_t n = count(a), member;
        int rc = find_storage(s, a->storage, first->key, &member, err);
        rc = rc == VX_OK ? spend(s, 2 * n * sizeof(float), e->key, err) : rc;
        if (rc != VX_OK) {
            return rc;
        }
        vx_auto_free float *x = calloc(n, sizeof *x), *y = calloc(n, sizeof *y);
        if (!x || !y) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %s", e->key);
        }
        rc = load_values(s, a, first->key, x, err);
        rc = rc == VX_OK ? load_values(s, b, e->key, y, err) : rc;
        if (rc != VX_OK) {
            return rc;
        }
        same = memcmp(x, y, n * sizeof *x) == 0;
    }
    if (!same) {
        vx_fail(err, VX_E_CORRUPT, "aliases_differ",
                "%s: %.180s and %.180s are one parameter but differ", s->path, first->key, e->key);
        return vx_err_at(err, "%s", s->path), VX_E_CORRUPT;
    }
    return VX_OK;
}

/* Sorted by name, keeps the first of each and compares the others with it. */
static int drop_aliases(struct vx_pth_source *s, struct entry *entries, size_t *n,
                        struct vx_err *err) {
    size_t kept = 0;
    qsort(entries, *n, sizeof *entries, by_name);
    for (size_t i = 0; i < *n; i++) {
        if (kept > 0 && strcmp(entries[kept - 1].name, entries[i].name) == 0) {
            int rc = check_alias(s, &entries[kept - 1], &entries[i], err);
            if (rc != VX_OK) {
                return rc;
            }
        } else {
            entries[kept++] = entries[i];
        }
    }
    *n = kept;
    qsort(entries, kept, sizeof *entries, by_order);
    return VX_OK;
}

/* voxeld's shape: 2d kernels have an axis of 1 in front. */
static int voxeld_shape(const struct vx_py_tensor *t, int64_t ret[VX_CKPT_MAX_RANK]) {
    int rank = 0;
    for (int a = 0; a < t->rank; a++) {
        if (t->rank == 4 && a == 2) {
            ret[rank++] = 1;
        }
        ret[rank++] = t->shape[a];
    }
    return rank;
}

static int load_param(struct vx_pth_source *s, const struct entry *e, struct vx_ckpt *c,
                      struct vx_err *err) {
    int64_t shape[VX_CKPT_MAX_RANK];
    int rank = voxeld_shape(e->tensor, shape);
    size_t member;
    int rc = find_storage(s, e->tensor->storage, e->key, &member, err); /* it may be a lie */
    rc = rc == VX_OK ? spend(s, count(e->tensor) * sizeof(float), e->key, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_ckpt_tensor *t = vx_ckpt_add(c, e->name, rank, shape, false);
    return t ? load_values(s, e->tensor, e->key, t->param, err)
             : vx_fail(err, VX_E_NOMEM, NULL, "no memory for %s of %s", e->name, s->path);
}

int vx_pth_load_params(struct vx_pth_source *s, const struct vx_py *weights, struct vx_ckpt *c,
                       struct vx_err *err) {
    size_t n = weights->seq.n / 2;
    if (n == 0 || n > MAX_KEYS) {
        return refuse(s, n ? VX_E_LIMIT : VX_E_CORRUPT, n ? "pth_too_large" : "bad_pth",
                      "network_weights", n ? "holds too many tensors" : "is empty", err);
    }
    vx_auto_free struct entry *entries = calloc(n, sizeof *entries);
    if (!entries) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu tensors", n);
    }
    for (size_t i = 0; i < n; i++) {
        entries[i].order = i;
        int rc = take_entry(s, weights->seq.items[2 * i], weights->seq.items[2 * i + 1],
                            &entries[i], err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    int rc = drop_aliases(s, entries, &n, err);
    for (size_t i = 0; rc == VX_OK && i < n; i++) {
        rc = load_param(s, &entries[i], c, err);
    }
    return rc;
}

/* --- momentum --- */

/* The buffer of parameter i in {"momentum_buffer": tensor or None}. */
static int load_buffer(struct vx_pth_source *s, const struct vx_py *state, struct vx_ckpt_tensor *t,
                       struct vx_err *err) {
    const struct vx_py *buffer = vx_py_get(state, "momentum_buffer");
    if (!buffer || buffer->kind == VX_PY_NONE) {
        return VX_OK;
    }
    int64_t shape[VX_CKPT_MAX_RANK];
    const struct vx_py_tensor *x = buffer->kind == VX_PY_TENSOR ? buffer->tensor : NULL;
    bool fits = x && x->rank <= VX_CKPT_MAX_RANK && is_float(x->storage->dtype) &&
                voxeld_shape(x, shape) == t->rank &&
                memcmp(shape, t->shape, (size_t)t->rank * sizeof *shape) == 0;
    if (!fits) {
        return refuse(s, VX_E_CORRUPT, "momentum_mismatch", t->name,
                      "its momentum has another shape than the parameter", err);
    }
    return load_values(s, x, t->name, t->momentum, err);
}

int vx_pth_load_momentum(struct vx_pth_source *s, const struct vx_py *optimizer, struct vx_ckpt *c,
                         struct vx_err *err) {
    const struct vx_py *state = vx_py_get(optimizer, "state");
    if (!state || state->kind != VX_PY_DICT) {
        return VX_OK;
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        struct vx_ckpt_tensor *t = &c->tensors[i];
        int rc = spend(s, t->n * sizeof(float), t->name, err);
        t->momentum = rc == VX_OK ? calloc(t->n, sizeof *t->momentum) : NULL;
        if (!t->momentum) {
            return rc != VX_OK ? rc : vx_fail(err, VX_E_NOMEM, NULL, "no memory for %s", t->name);
        }
    }
    for (size_t i = 0; i + 1 < state->seq.n; i += 2) {
        const struct vx_py *key = state->seq.items[i];
        if (key->kind != VX_PY_INT || key->i < 0 || (uint64_t)key->i >= c->n_tensors) {
            return refuse(s, VX_E_CORRUPT, "momentum_mismatch", "optimizer_state",
                          "holds the state of a parameter that is not there", err);
        }
        int rc = load_buffer(s, state->seq.items[i + 1], &c->tensors[key->i], err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}
