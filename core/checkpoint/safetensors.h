/* The safetensors file format: named tensors and a map of strings in one file.
 *
 * Layout (safetensors format description): u64 little endian N; N bytes of JSON, {"NAME": {"dtype",
 * "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}, padded with spaces
 * to 8 bytes; then the data, little endian, C order, without holes. Every number is checked against
 * the file's size before anything is allocated. Thread: any; one at a time per object. */
#ifndef VX_CHECKPOINT_SAFETENSORS_H
#define VX_CHECKPOINT_SAFETENSORS_H

#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_st; /* an opened file */

#define VX_ST_MAX_RANK         8
#define VX_ST_MAX_TENSORS      65536
#define VX_ST_MAX_NAME         255
#define VX_ST_MAX_HEADER_BYTES ((size_t)100000000)

#define VX_ST_DTYPES(X)                                                                            \
    X(F64, 8)                                                                                      \
    X(F32, 4) X(F16, 2) X(BF16, 2) X(I64, 8) X(I32, 4) X(I16, 2) X(I8, 1) X(U8, 1) X(BOOL, 1)

enum vx_st_dtype {
#define VX_X(name, bytes) VX_ST_##name,
    VX_ST_DTYPES(VX_X)
#undef VX_X
};

struct vx_st_tensor {
    const char *name; /* borrowed: the caller's when writing, the opened file's when reading */
    enum vx_st_dtype dtype;
    int rank; /* 0: a scalar */
    int64_t shape[VX_ST_MAX_RANK];
    const void *data; /* writing only: borrowed, dense; may be NULL for a tensor without elements */
};

/* Bytes of the tensor's data. */
size_t vx_st_bytes(const struct vx_st_tensor *t);

/* Writes path.tmp.PID, syncs it and renames it to path. metadata: object of strings, or NULL. The
 * tensors' order is kept. Errors: VX_E_INVALID (names, duplicates, shapes), VX_E_FULL, VX_E_IO; the
 * old file then still stands. */
int vx_st_write(const char *path, const struct vx_st_tensor *tensors, size_t n,
                const json_t *metadata, struct vx_err *err);

/* Reads and checks the header. Anything that does not add up to exactly this file is VX_E_CORRUPT
 * with its name. */
int vx_st_open(const char *path, struct vx_st **ret, struct vx_err *err);
struct vx_st *vx_st_close(struct vx_st *st); /* NULL is fine. Returns NULL. */
size_t vx_st_count(const struct vx_st *st);
/* In the order of their data; borrowed. */
const struct vx_st_tensor *vx_st_tensor(const struct vx_st *st, size_t i);
/* Index, or -1. */
int64_t vx_st_find(const struct vx_st *st, const char *name);
/* NULL where there is no such key; borrowed. */
const char *vx_st_metadata(const struct vx_st *st, const char *key);
/* All of tensor i into dst, which has room for vx_st_bytes. */
int vx_st_read(const struct vx_st *st, size_t i, void *dst, struct vx_err *err);

static inline void vx_own_st(struct vx_st **st) {
    vx_st_close(*st);
}
#define vx_auto_st __attribute__((cleanup(vx_own_st)))

#endif
