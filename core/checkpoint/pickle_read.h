/* Reads a Python pickle into a tree of plain values. It is no Python: nothing is imported or
 * called. Opcodes and classes outside the list that a PyTorch checkpoint needs are refused by name
 * (pickle/read.c, pickle/classes.c), so that a hostile file can at worst be refused.
 *
 * A value is complete when it becomes part of another one: pickles that change it afterwards, as
 * only self-referring objects do, are refused. So a tree has no cycles, and every value knows its
 * depth and its size with everything shared counted as often as it appears; both have limits, as
 * have the bytes of the pickle and the memory of the tree. Who walks a tree may therefore recurse.
 * Thread: any; a tree is read-only. */
#ifndef VX_CHECKPOINT_PICKLE_READ_H
#define VX_CHECKPOINT_PICKLE_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_py_tree; /* owns its values */

#define VX_PY_MAX_BYTES  ((size_t)64 << 20)  /* of a pickle */
#define VX_PY_MAX_MEMORY ((size_t)512 << 20) /* of a tree */
#define VX_PY_MAX_DEPTH  64
#define VX_PY_MAX_WEIGHT ((uint64_t)4 << 20) /* values of a tree, shared ones counted each time */
#define VX_PY_MAX_RANK   8

#define VX_PY_DTYPES(X)                                                                            \
    X(BOOL, 1)                                                                                     \
    X(U8, 1)                                                                                       \
    X(I8, 1)                                                                                       \
    X(U16, 2)                                                                                      \
    X(I16, 2) X(U32, 4) X(I32, 4) X(U64, 8) X(I64, 8) X(F16, 2) X(BF16, 2) X(F32, 4) X(F64, 8)
enum vx_py_dtype {
#define VX_X(name, bytes) VX_PY_##name,
    VX_PY_DTYPES(VX_X)
#undef VX_X
};

enum vx_py_kind {
    VX_PY_NONE,
    VX_PY_TRUTH,
    VX_PY_INT,  /* also numpy's integer scalars */
    VX_PY_REAL, /* also numpy's real scalars */
    VX_PY_STR,  /* also torch.device and torch's dtypes, as Python prints them */
    VX_PY_BYTES,
    VX_PY_LIST,
    VX_PY_TUPLE,
    VX_PY_DICT, /* also OrderedDict; its attributes (a state_dict's _metadata) are dropped */
    VX_PY_TENSOR,
    VX_PY_ARRAY,   /* numpy.ndarray */
    VX_PY_STORAGE, /* of a tensor */
    VX_PY_NUMPY_DTYPE,
    VX_PY_CLASS, /* one of the list, not called */
};

struct vx_py_class; /* a row of the list */

struct vx_py_storage {
    enum vx_py_dtype dtype;
    const char *key; /* member TOP/data/KEY of the archive; contains no slash */
    int64_t n;       /* elements */
};

/* Element [i0][i1].. is at offset + sum of index times stride, in elements. All of them lie within
 * the storage's n elements. */
struct vx_py_tensor {
    const struct vx_py_storage *storage;
    int64_t offset;
    int rank;
    int64_t shape[VX_PY_MAX_RANK], stride[VX_PY_MAX_RANK];
};

struct vx_py_array {
    enum vx_py_dtype dtype;
    bool fortran; /* element order of data */
    int rank;
    int64_t shape[VX_PY_MAX_RANK];
    const unsigned char *data; /* n elements, little endian */
    size_t n;
};

struct vx_py {
    enum vx_py_kind kind;
    bool held; /* part of another value: changes no more */
    uint16_t depth;
    uint64_t weight;
    union {
        bool truth;
        int64_t i;
        double real;
        struct {
            const char *s; /* UTF-8 for a STR; NUL-terminated, may contain NUL */
            size_t len;
        } text; /* STR, BYTES */
        struct {
            struct vx_py **items; /* DICT: key, value, key, value */
            size_t n, cap;        /* items */
        } seq;                    /* LIST, TUPLE, DICT */
        const struct vx_py_tensor *tensor;
        struct vx_py_array *array;
        const struct vx_py_storage *storage;
        enum vx_py_dtype dtype; /* NUMPY_DTYPE */
        const struct vx_py_class *cls;
    };
};

/* VX_E_UNSUPPORTED "foreign_opcode" or "foreign_class" with its name, VX_E_LIMIT, VX_E_CORRUPT
 * "bad_pickle" with the byte. data may go afterwards. */
int vx_pickle_read(const void *data, size_t len, struct vx_py_tree **ret, struct vx_err *err);
struct vx_py_tree *vx_py_free(struct vx_py_tree *t); /* NULL is fine. Returns NULL. */
const struct vx_py *vx_py_root(const struct vx_py_tree *t);

/* The value under a text key, the last one where there are several (as in Python); NULL where there
 * is none, and where dict is NULL or no DICT. */
const struct vx_py *vx_py_get(const struct vx_py *dict, const char *key);
/* True for a STR equal to text; v may be NULL. */
bool vx_py_is(const struct vx_py *v, const char *text);
size_t vx_py_dtype_bytes(enum vx_py_dtype dtype);
/* As JSON: tuples and arrays are lists, keys that are int their digits, NaN and infinity null, as
 * is what JSON has no word for (bytes, tensors, classes). New reference; NULL when out of memory.
 */
json_t *vx_py_json(const struct vx_py *v);

static inline void vx_own_py(struct vx_py_tree **t) {
    vx_py_free(*t);
}
#define vx_auto_py __attribute__((cleanup(vx_own_py)))

#endif
