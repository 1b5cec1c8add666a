#include "checkpoint/pickle/values.h"

#include "base/err.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 << 10, ALIGN = 16, FIRST_ITEMS = 4 };

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(ALIGN) unsigned char data[];
};

struct vx_py_tree {
    struct chunk *chunks; /* owned; the first one has room */
    size_t bytes;         /* of all chunks */
    const struct vx_py *root;
};

struct vx_py_tree *vx_py_create(void) {
    return calloc(1, sizeof(struct vx_py_tree));
}

struct vx_py_tree *vx_py_free(struct vx_py_tree *t) {
    if (t) {
        for (struct chunk *c = t->chunks, *next; c; c = next) {
            next = c->next;
            free(c);
        }
        free(t);
    }
    return NULL;
}

const struct vx_py *vx_py_root(const struct vx_py_tree *t) {
    return t->root;
}

void vx_py_set_root(struct vx_py_tree *t, const struct vx_py *root) {
    t->root = root;
}

void *vx_py_alloc(struct vx_py_tree *t, size_t n, size_t size) {
    if (n > VX_PY_MAX_MEMORY / size) {
        return NULL;
    }
    size_t bytes = (n * size + ALIGN - 1) / ALIGN * ALIGN;
    if (!t->chunks || bytes > t->chunks->size - t->chunks->used) {
        size_t want = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (want > VX_PY_MAX_MEMORY - t->bytes) {
            return NULL;
        }
        struct chunk *c = calloc(1, sizeof *c + want);
        if (!c) {
            return NULL;
        }
        c->size = want;
        c->next = t->chunks;
        t->chunks = c;
        t->bytes += want;
    }
    void *p = t->chunks->data + t->chunks->used;
    t->chunks->used += bytes;
    return p;
}

struct vx_py *vx_py_new(struct vx_py_tree *t, enum vx_py_kind kind) {
    struct vx_py *v = vx_py_alloc(t, 1, sizeof *v);
    if (v) {
        v->kind = kind;
        v->weight = 1;
    }
    return v;
}

struct vx_py *vx_py_text(struct vx_py_tree *t, enum vx_py_kind kind, const char *s, size_t len) {
    struct vx_py *v = vx_py_new(t, kind);
    char *copy = v ? vx_py_alloc(t, len + 1, 1) : NULL;
    if (!copy) {
        return NULL;
    }
    memcpy(copy, s, len);
    v->text.s = copy;
    v->text.len = len;
    return v;
}

static int limit(struct vx_err *err, const char *what) {
    return vx_fail(err, VX_E_LIMIT, "pickle_too_large", "the pickle %s", what);
}

/* Room for n more items. The old array stays in the tree's memory, which is counted. */
static bool grow(struct vx_py_tree *t, struct vx_py *container, size_t n) {
    size_t need = container->seq.n + n;
    if (need <= container->seq.cap) {
        return true;
    }
    size_t cap = container->seq.cap ? 2 * container->seq.cap : FIRST_ITEMS;
    cap = cap < need ? need : cap;
    struct vx_py **items = vx_py_alloc(t, cap, sizeof(struct vx_py *));
    if (!items) {
        return false;
    }
    if (container->seq.n > 0) {
        memcpy(items, container->seq.items, container->seq.n * sizeof(struct vx_py *));
    }
    container->seq.items = items;
    container->seq.cap = cap;
    return true;
}

int vx_py_extend(struct vx_py_tree *t, struct vx_py *container, struct vx_py *const *items,
                 size_t n, struct vx_err *err) {
    if (container->held) {
        return vx_fail(err, VX_E_CORRUPT, "bad_pickle",
                       "a value changes after it became part of another one");
    }
    if (!grow(t, container, n)) {
        return limit(err, "needs too much memory");
    }
    for (size_t i = 0; i < n; i++) {
        struct vx_py *item = items[i];
        if (item == container) {
            return vx_fail(err, VX_E_CORRUPT, "bad_pickle", "a value contains itself");
        }
        if (item->depth + 1 > VX_PY_MAX_DEPTH) {
            return limit(err, "nests too deep");
        }
        if (item->weight > VX_PY_MAX_WEIGHT - container->weight) {
            return limit(err, "holds too many values");
        }
        item->held = true;
        container->weight += item->weight;
        container->depth =
            item->depth + 1 > container->depth ? (uint16_t)(item->depth + 1) : container->depth;
        container->seq.items[container->seq.n++] = item;
    }
    return VX_OK;
}

bool vx_py_is(const struct vx_py *v, const char *text) {
    return v && v->kind == VX_PY_STR && v->text.len == strlen(text) &&
           memcmp(v->text.s, text, v->text.len) == 0;
}

const struct vx_py *vx_py_get(const struct vx_py *dict, const char *key) {
    if (!dict || dict->kind != VX_PY_DICT) {
        return NULL;
    }
    for (size_t i = dict->seq.n; i >= 2; i -= 2) {
        if (vx_py_is(dict->seq.items[i - 2], key)) {
            return dict->seq.items[i - 1];
        }
    }
    return NULL;
}

size_t vx_py_dtype_bytes(enum vx_py_dtype dtype) {
    static const size_t bytes[] = {
#define VX_X(name, size) [VX_PY_##name] = size,
        VX_PY_DTYPES(VX_X)
#undef VX_X
    };
    return bytes[dtype];
}

/* One element of an array as a JSON number. */
static json_t *element_json(enum vx_py_dtype dtype, const unsigned char *p) {
    uint64_t word = 0;
    double real = 0;
    float single = 0;
    memcpy(&word, p, vx_py_dtype_bytes(dtype));
    switch (dtype) {
    case VX_PY_BOOL:
        return json_boolean(word);
    case VX_PY_F64:
        memcpy(&real, p, sizeof real);
        return isfinite(real) ? json_real(real) : json_null();
    case VX_PY_F32:
        memcpy(&single, p, sizeof single);
        return isfinite(single) ? json_real((double)single) : json_null();
    case VX_PY_I8:
        return json_integer((int8_t)word);
    case VX_PY_I16:
        return json_integer((int16_t)word);
    case VX_PY_I32:
        return json_integer((int32_t)word);
    case VX_PY_F16:
    case VX_PY_BF16:
        return json_null();
    default:
        return json_integer((json_int_t)word);
    }
}

/* Axis a of an array, its elements from index `at` in steps of stride[a]. */
static json_t *axis_json(const struct vx_py_array *x, const size_t *stride, int a, size_t at) {
    if (a == x->rank) {
        return element_json(x->dtype, x->data + at * vx_py_dtype_bytes(x->dtype));
    }
    json_t *list = json_array();
    for (int64_t i = 0; list && i < x->shape[a]; i++) {
        json_array_append_new(list, axis_json(x, stride, a + 1, at + (size_t)i * stride[a]));
    }
    return list;
}

static json_t *array_json(const struct vx_py_array *x) {
    size_t stride[VX_PY_MAX_RANK] = {0}, step = 1;
    if (x->n == 0) { /* no loop over [2^40][0] */
        return json_array();
    }
    for (int i = 0; i < x->rank; i++) {
        int a = x->fortran ? i : x->rank - 1 - i;
        stride[a] = step;
        step *= (size_t)x->shape[a];
    }
    return axis_json(x, stride, 0, 0);
}

static json_t *dict_json(const struct vx_py *v) {
    json_t *object = json_object();
    for (size_t i = 0; object && i + 1 < v->seq.n; i += 2) {
        const struct vx_py *key = v->seq.items[i];
        json_t *value = vx_py_json(v->seq.items[i + 1]);
        char digits[24];
        if (key->kind == VX_PY_STR) {
            json_object_setn_new(object, key->text.s, key->text.len, value);
        } else {
            snprintf(digits, sizeof digits, "%" PRId64, key->i);
            json_object_set_new(object, digits, value);
        }
    }
    return object;
}

json_t *vx_py_json(const struct vx_py *v) {
    json_t *out;
    switch (v->kind) {
    case VX_PY_TRUTH:
        return json_boolean(v->truth);
    case VX_PY_INT:
        return json_integer(v->i);
    case VX_PY_REAL:
        return isfinite(v->real) ? json_real(v->real) : json_null();
    case VX_PY_STR:
        return json_stringn(v->text.s, v->text.len);
    case VX_PY_ARRAY:
        return array_json(v->array);
    case VX_PY_DICT:
        return dict_json(v);
    case VX_PY_LIST:
    case VX_PY_TUPLE:
        out = json_array();
        for (size_t i = 0; out && i < v->seq.n; i++) {
            json_array_append_new(out, vx_py_json(v->seq.items[i]));
        }
        return out;
    default:
        return json_null();
    }
}
