/* The classes and functions a checkpoint may name, and what calling one gives. Sources:
 * torch/_utils.py
 * (_rebuild_tensor_v2, _rebuild_parameter), torch/serialization.py (persistent ids), numpy's
 * multiarray module (scalar, _reconstruct, dtype.__setstate__, ndarray.__setstate__). */
#include "checkpoint/pickle/values.h"

#include "base/err.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum class_kind { FUNCTION, STORAGE, TORCH_DTYPE, NDARRAY };
typedef int call_fn(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                    struct vx_err *err);

struct vx_py_class {
    const char *module, *name;
    enum class_kind kind;
    enum vx_py_dtype dtype; /* STORAGE */
    call_fn *call;          /* FUNCTION */
};

static int bad(struct vx_err *err, const char *what) {
    return vx_fail(err, VX_E_CORRUPT, "bad_pickle", "%s", what);
}

static int no_memory(struct vx_err *err) {
    return vx_fail(err, VX_E_LIMIT, "pickle_too_large", "the pickle needs too much memory");
}

/* Argument i, or NULL where it is missing or of another kind. */
static const struct vx_py *arg(const struct vx_py *args, size_t i, enum vx_py_kind kind) {
    return i < args->seq.n && args->seq.items[i]->kind == kind ? args->seq.items[i] : NULL;
}

/* A tuple of n <= VX_PY_MAX_RANK numbers that are not negative; -1 where it is none. */
static int take_shape(const struct vx_py *tuple, int64_t *ret) {
    if (!tuple || tuple->seq.n > VX_PY_MAX_RANK) {
        return -1;
    }
    for (size_t i = 0; i < tuple->seq.n; i++) {
        const struct vx_py *v = tuple->seq.items[i];
        if (v->kind != VX_PY_INT || v->i < 0) {
            return -1;
        }
        ret[i] = v->i;
    }
    return (int)tuple->seq.n;
}

static int ordered_dict(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                        struct vx_err *err) {
    if (args->seq.n > 0) {
        return bad(err, "an OrderedDict is made from arguments");
    }
    *ret = vx_py_new(t, VX_PY_DICT);
    return *ret ? VX_OK : no_memory(err);
}

/* Whether the tensor's largest index lies within its storage, without overflow: every product is
 * compared before it is made. */
static bool inside(const struct vx_py_tensor *x) {
    int64_t last = x->offset;
    bool empty = false;
    for (int a = 0; a < x->rank; a++) {
        empty |= x->shape[a] == 0;
    }
    for (int a = 0; a < x->rank && !empty; a++) {
        int64_t steps = x->shape[a] - 1;
        if (steps > 0 && x->stride[a] > (x->storage->n - last) / steps) {
            return false;
        }
        last += steps * x->stride[a];
        if (last >= x->storage->n) {
            return false;
        }
    }
    return empty ? x->offset <= x->storage->n : last < x->storage->n;
}

static int rebuild_tensor(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                          struct vx_err *err) {
    const struct vx_py *storage = arg(args, 0, VX_PY_STORAGE), *offset = arg(args, 1, VX_PY_INT);
    struct vx_py_tensor *x = vx_py_alloc(t, 1, sizeof *x);
    struct vx_py *v = vx_py_new(t, VX_PY_TENSOR);
    if (!x || !v) {
        return no_memory(err);
    }
    x->rank = take_shape(arg(args, 2, VX_PY_TUPLE), x->shape);
    int strides = take_shape(arg(args, 3, VX_PY_TUPLE), x->stride);
    if (!storage || !offset || x->rank < 0 || strides != x->rank || args->seq.n < 6 ||
        args->seq.n > 7) {
        return bad(err,
                   "_rebuild_tensor_v2 has other arguments than storage, offset, size, stride");
    }
    x->storage = storage->storage;
    x->offset = offset->i;
    int64_t n = 1;
    for (int a = 0; a < x->rank; a++) { /* no tensor of 2^62 times the same element */
        if (n > 0 && x->shape[a] > x->storage->n / n) {
            return bad(err, "a tensor has more elements than its storage");
        }
        n *= x->shape[a];
        x->stride[a] = x->shape[a] > 1 ? x->stride[a] : 0; /* never taken, so never looked at */
    }
    if (x->offset < 0 || x->offset > x->storage->n || !inside(x)) {
        return vx_fail(err, VX_E_CORRUPT, "tensor_outside_storage",
                       "a tensor reaches past the %" PRId64 " elements of its storage %.40s",
                       x->storage->n, x->storage->key);
    }
    v->tensor = x;
    *ret = v;
    return VX_OK;
}

static int rebuild_parameter(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                             struct vx_err *err) {
    (void)t;
    if (args->seq.n != 3 || !arg(args, 0, VX_PY_TENSOR)) {
        return bad(err, "_rebuild_parameter has no tensor");
    }
    *ret = args->seq.items[0];
    return VX_OK;
}

/* torch.device("cuda", 0) as "cuda:0". */
static int device(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                  struct vx_err *err) {
    const struct vx_py *name = arg(args, 0, VX_PY_STR), *index = arg(args, 1, VX_PY_INT);
    char text[64];
    if (!name || name->text.len > 30 || args->seq.n > 2 || (args->seq.n == 2 && !index)) {
        return bad(err, "torch.device has other arguments than a name and an index");
    }
    int n = index ? snprintf(text, sizeof text, "%s:%" PRId64, name->text.s, index->i)
                  : snprintf(text, sizeof text, "%s", name->text.s);
    *ret = vx_py_text(t, VX_PY_STR, text, (size_t)n);
    return *ret ? VX_OK : no_memory(err);
}

static int size(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                struct vx_err *err) {
    (void)t;
    if (args->seq.n != 1 || !arg(args, 0, VX_PY_TUPLE)) {
        return bad(err, "torch.Size has other arguments than a tuple");
    }
    *ret = args->seq.items[0];
    return VX_OK;
}

/* numpy.dtype("f8", False, True); the byte order follows as state. */
static int numpy_dtype(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                       struct vx_err *err) {
    static const struct {
        const char *code;
        enum vx_py_dtype dtype;
    } codes[] = {{"b1", VX_PY_BOOL}, {"u1", VX_PY_U8},  {"i1", VX_PY_I8},  {"u2", VX_PY_U16},
                 {"i2", VX_PY_I16},  {"u4", VX_PY_U32}, {"i4", VX_PY_I32}, {"u8", VX_PY_U64},
                 {"i8", VX_PY_I64},  {"f2", VX_PY_F16}, {"f4", VX_PY_F32}, {"f8", VX_PY_F64}};
    const struct vx_py *code = arg(args, 0, VX_PY_STR);
    for (size_t i = 0; i < VX_COUNTOF(codes); i++) {
        if (vx_py_is(code, codes[i].code)) {
            *ret = vx_py_new(t, VX_PY_NUMPY_DTYPE);
            if (!*ret) {
                return no_memory(err);
            }
            (*ret)->dtype = codes[i].dtype;
            return VX_OK;
        }
    }
    return vx_fail(err, VX_E_UNSUPPORTED, "foreign_class",
                   "the numpy type \"%.20s\" is not one a checkpoint needs",
                   code ? code->text.s : "?");
}

/* numpy.core.multiarray.scalar(dtype, bytes). */
static int scalar(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                  struct vx_err *err) {
    const struct vx_py *type = arg(args, 0, VX_PY_NUMPY_DTYPE), *bytes = arg(args, 1, VX_PY_BYTES);
    if (!type || !bytes || bytes->text.len != vx_py_dtype_bytes(type->dtype)) {
        return bad(err, "a numpy scalar does not have the bytes of its type");
    }
    uint64_t word = 0;
    float single = 0;
    int unused = (int)(64 - 8 * bytes->text.len);
    memcpy(&word, bytes->text.s, bytes->text.len);
    struct vx_py *v = vx_py_new(t, VX_PY_INT);
    if (!v) {
        return no_memory(err);
    }
    switch (type->dtype) {
    case VX_PY_F64:
        v->kind = VX_PY_REAL;
        memcpy(&v->real, &word, sizeof v->real);
        break;
    case VX_PY_F32:
        v->kind = VX_PY_REAL;
        memcpy(&single, &word, sizeof single);
        v->real = (double)single;
        break;
    case VX_PY_BOOL:
        v->kind = VX_PY_TRUTH;
        v->truth = word != 0;
        break;
    case VX_PY_I8:
    case VX_PY_I16:
    case VX_PY_I32: /* the sign to the top and back */
        v->i = (int64_t)(word << unused) >> unused;
        break;
    case VX_PY_F16:
    case VX_PY_BF16:
        return vx_fail(err, VX_E_UNSUPPORTED, "foreign_class",
                       "a numpy scalar of 16 bits is not one a checkpoint needs");
    default:
        v->i = (int64_t)word;
    }
    *ret = v;
    return VX_OK;
}

/* numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b"): an empty array whose state
 * follows.
 */
static int reconstruct(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                       struct vx_err *err) {
    const struct vx_py *cls = arg(args, 0, VX_PY_CLASS);
    struct vx_py *v = vx_py_new(t, VX_PY_ARRAY);
    struct vx_py_array *x = vx_py_alloc(t, 1, sizeof *x);
    if (!v || !x) {
        return no_memory(err);
    }
    if (!cls || cls->cls->kind != NDARRAY) {
        return bad(err, "_reconstruct of something else than numpy.ndarray");
    }
    v->array = x;
    *ret = v;
    return VX_OK;
}

/* _codecs.encode(text, "latin1"): bytes in a protocol that has none. */
static int encode(struct vx_py_tree *t, const struct vx_py *args, struct vx_py **ret,
                  struct vx_err *err) {
    const struct vx_py *text = arg(args, 0, VX_PY_STR), *codec = arg(args, 1, VX_PY_STR);
    if (!text || args->seq.n != 2 || !(vx_py_is(codec, "latin1") || vx_py_is(codec, "latin-1"))) {
        return bad(err, "_codecs.encode of something else than latin1 text");
    }
    struct vx_py *v = vx_py_new(t, VX_PY_BYTES);
    unsigned char *out = v ? vx_py_alloc(t, text->text.len + 1, 1) : NULL;
    if (!out) {
        return no_memory(err);
    }
    size_t n = 0;
    for (size_t i = 0; i < text->text.len; i++) {
        unsigned char c = (unsigned char)text->text.s[i];
        if (c >= 0xc4) { /* C2 and C3 begin the characters U+0080 to U+00FF */
            return bad(err, "_codecs.encode of something else than latin1 text");
        }
        /* text is well-formed UTF-8: a byte follows */
        out[n++] = c < 0x80 ? c : (unsigned char)(c << 6 | (text->text.s[++i] & 0x3f));
    }
    v->text.s = (char *)out;
    v->text.len = n;
    *ret = v;
    return VX_OK;
}

#define FN(module, name, call)                                                                     \
    { module, name, FUNCTION, VX_PY_BOOL, call }
#define TORCH_STORAGE(name, dtype)                                                                 \
    { "torch", name "Storage", STORAGE, dtype, NULL }
#define TORCH_DTYPE(name)                                                                          \
    { "torch", name, TORCH_DTYPE, VX_PY_BOOL, NULL }

static const struct vx_py_class classes[] = {
    FN("collections", "OrderedDict", ordered_dict),
    FN("torch._utils", "_rebuild_tensor_v2", rebuild_tensor),
    FN("torch._utils", "_rebuild_parameter", rebuild_parameter),
    FN("torch", "device", device),
    FN("torch", "Size", size),
    FN("_codecs", "encode", encode),
    FN("numpy", "dtype", numpy_dtype),
    FN("numpy.core.multiarray", "scalar", scalar),
    FN("numpy._core.multiarray", "scalar", scalar),
    FN("numpy.core.multiarray", "_reconstruct", reconstruct),
    FN("numpy._core.multiarray", "_reconstruct", reconstruct),
    {"numpy", "ndarray", NDARRAY, VX_PY_BOOL, NULL},
    TORCH_STORAGE("Float", VX_PY_F32),
    TORCH_STORAGE("Double", VX_PY_F64),
    TORCH_STORAGE("Half", VX_PY_F16),
    TORCH_STORAGE("BFloat16", VX_PY_BF16),
    TORCH_STORAGE("Long", VX_PY_I64),
    TORCH_STORAGE("Int", VX_PY_I32),
    TORCH_STORAGE("Short", VX_PY_I16),
    TORCH_STORAGE("Char", VX_PY_I8),
    TORCH_STORAGE("Byte", VX_PY_U8),
    TORCH_STORAGE("Bool", VX_PY_BOOL),
    TORCH_DTYPE("float32"),
    TORCH_DTYPE("float64"),
    TORCH_DTYPE("float16"),
    TORCH_DTYPE("bfloat16"),
    TORCH_DTYPE("int64"),
    TORCH_DTYPE("int32"),
    TORCH_DTYPE("int16"),
    TORCH_DTYPE("int8"),
    TORCH_DTYPE("uint8"),
    TORCH_DTYPE("bool"),
};

const struct vx_py_class *vx_py_class_find(const char *module, const char *name) {
    for (size_t i = 0; i < VX_COUNTOF(classes); i++) {
        if (strcmp(classes[i].module, module) == 0 && strcmp(classes[i].name, name) == 0) {
            return &classes[i];
        }
    }
    return NULL;
}

int vx_py_call(struct vx_py_tree *t, const struct vx_py *cls, const struct vx_py *args,
               struct vx_py **ret, struct vx_err *err) {
    if (cls->kind != VX_PY_CLASS || cls->cls->kind != FUNCTION) {
        return bad(err, "something that is no function is called");
    }
    return cls->cls->call(t, args, ret, err);
}

/* (version, order, ...): only the machine's own byte order is read. */
static int set_dtype_state(const struct vx_py *state, struct vx_err *err) {
    const struct vx_py *order = state->kind == VX_PY_TUPLE ? arg(state, 1, VX_PY_STR) : NULL;
    return vx_py_is(order, "<") || vx_py_is(order, "|") || vx_py_is(order, "=")
               ? VX_OK
               : bad(err, "a numpy type is not little endian");
}

/* (version, shape, dtype, fortran order, bytes). */
static int set_array_state(struct vx_py *object, const struct vx_py *state, struct vx_err *err) {
    struct vx_py_array *x = object->array;
    const struct vx_py *tuple = state->kind == VX_PY_TUPLE ? state : NULL;
    const struct vx_py *type = tuple ? arg(tuple, 2, VX_PY_NUMPY_DTYPE) : NULL;
    const struct vx_py *fortran = tuple ? arg(tuple, 3, VX_PY_TRUTH) : NULL;
    const struct vx_py *bytes = tuple ? arg(tuple, 4, VX_PY_BYTES) : NULL;
    struct vx_py_array a = {0};
    a.rank = tuple ? take_shape(arg(tuple, 1, VX_PY_TUPLE), a.shape) : -1;
    if (object->held || !type || !fortran || !bytes || a.rank < 0) {
        return bad(err, "a numpy array has another state than shape, type, order, bytes");
    }
    a.dtype = type->dtype;
    a.fortran = fortran->truth;
    a.data = (const unsigned char *)bytes->text.s;
    uint64_t n = 1, most = bytes->text.len / vx_py_dtype_bytes(a.dtype);
    for (int i = 0; i < a.rank; i++) {
        n = a.shape[i] == 0 ? 0 : n;
    }
    for (int i = 0; i < a.rank && n > 0; i++) {
        if ((uint64_t)a.shape[i] > most / n) {
            return bad(err, "a numpy array has fewer bytes than its shape says");
        }
        n *= (uint64_t)a.shape[i];
    }
    if (n * vx_py_dtype_bytes(a.dtype) != bytes->text.len) {
        return bad(err, "a numpy array has more bytes than its shape says");
    }
    if (n >= VX_PY_MAX_WEIGHT) {
        return no_memory(err);
    }
    a.n = n;
    *x = a;
    object->weight = 1 + n;
    return VX_OK;
}

int vx_py_set_state(struct vx_py *object, const struct vx_py *state, struct vx_err *err) {
    switch (object->kind) {
    case VX_PY_DICT: /* the attributes of an OrderedDict: a state_dict's _metadata */
        return state->kind == VX_PY_DICT ? VX_OK
                                         : bad(err, "an OrderedDict has a state of its own");
    case VX_PY_NUMPY_DTYPE:
        return set_dtype_state(state, err);
    case VX_PY_ARRAY:
        return set_array_state(object, state, err);
    default:
        return bad(err, "a value that has no state is given one");
    }
}

int vx_py_persistent(struct vx_py_tree *t, const struct vx_py *id, struct vx_py **ret,
                     struct vx_err *err) {
    const struct vx_py *tuple = id->kind == VX_PY_TUPLE ? id : NULL;
    const struct vx_py *cls = tuple ? arg(tuple, 1, VX_PY_CLASS) : NULL;
    const struct vx_py *key = tuple ? arg(tuple, 2, VX_PY_STR) : NULL;
    const struct vx_py *n = tuple ? arg(tuple, 4, VX_PY_INT) : NULL;
    if (!key || !n || !cls || !vx_py_is(arg(tuple, 0, VX_PY_STR), "storage") ||
        cls->cls->kind != STORAGE) {
        return bad(err, "a persistent id is no storage of this archive");
    }
    if (key->text.len == 0 || key->text.len > 40 || memchr(key->text.s, '/', key->text.len) ||
        strlen(key->text.s) != key->text.len) {
        return bad(err, "a storage has no proper key");
    }
    if (n->i < 0 || n->i > INT64_MAX / 8) {
        return bad(err, "a storage has no proper size");
    }
    struct vx_py_storage *s = vx_py_alloc(t, 1, sizeof *s);
    struct vx_py *v = vx_py_new(t, VX_PY_STORAGE);
    if (!s || !v) {
        return no_memory(err);
    }
    *s = (struct vx_py_storage){.dtype = cls->cls->dtype, .key = key->text.s, .n = n->i};
    v->storage = s;
    *ret = v;
    return VX_OK;
}
