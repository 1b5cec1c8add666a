/* NIfTI files made by hand: fields at the standard's byte offsets, as an independent writer would.
 */
#ifndef VX_TESTS_VOLUME_RAW_FILE_H
#define VX_TESTS_VOLUME_RAW_FILE_H

#include "base/err.h"
#include "base/io.h"
#include "volume/nifti.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char folder[256];

static inline void make_folder(void) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/vx-nifti-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void remove_folder(void) {
    vx_remove_tree(folder, NULL);
}

static inline const char *in_folder(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A header as an independent writer would make it: fields at the standard's byte offsets. */
struct raw {
    unsigned char bytes[352 + 4096];
    size_t len;
    bool swap;
};

static inline void put_field(struct raw *r, size_t at, const void *value, size_t size) {
    for (size_t i = 0; i < size; i++) {
        r->bytes[at + i] = ((const unsigned char *)value)[r->swap ? size - 1 - i : i];
    }
}

static inline void put_i16(struct raw *r, size_t at, int v) {
    int16_t x = (int16_t)v;
    put_field(r, at, &x, 2);
}

static inline void put_i32(struct raw *r, size_t at, int32_t v) {
    put_field(r, at, &v, 4);
}

static inline void put_f32(struct raw *r, size_t at, float v) {
    put_field(r, at, &v, 4);
}

/* 2 x 3 x 4 (x, y, z) voxels of a type, spacing 0.5, 1.5, 2.5; values follow at 352. */
static inline void raw_init(struct raw *r, int datatype, int bits, bool swap) {
    memset(r, 0, sizeof *r);
    r->swap = swap;
    put_i32(r, 0, 348);
    put_i16(r, 40, 3);
    const int dims[7] = {2, 3, 4, 1, 1, 1, 1};
    for (int i = 0; i < 7; i++) {
        put_i16(r, 42 + 2 * (size_t)i, dims[i]);
    }
    put_i16(r, 70, datatype);
    put_i16(r, 72, bits);
    const float pixdim[4] = {1, 0.5f, 1.5f, 2.5f};
    for (int i = 0; i < 4; i++) {
        put_f32(r, 76 + 4 * (size_t)i, pixdim[i]);
    }
    put_f32(r, 108, 352);
    memcpy(r->bytes + 344, "n+1", 4);
    r->len = 352 + 24 * (size_t)bits / 8;
}

static inline const char *raw_write(const struct raw *r, const char *name) {
    const char *path = in_folder(name);
    if (strstr(name, ".gz")) {
        gzFile f = gzopen(path, "wb");
        cr_assert_eq(gzwrite(f, r->bytes, (unsigned)r->len), (int)r->len);
        cr_assert_eq(gzclose(f), Z_OK);
    } else {
        cr_assert_eq(vx_write_file_atomic(path, r->bytes, r->len, 0600, NULL), VX_OK);
    }
    return path;
}

static inline int read_reason(const char *path, char *ret_reason, size_t size) {
    struct vx_err err = {0};
    vx_auto_volume struct vx_volume v = {0};
    int rc = vx_nifti_read_image(path, NULL, &v, &err);
    snprintf(ret_reason, size, "%s", rc == VX_OK ? "ok" : err.reason);
    if (rc != VX_OK) {
        cr_assert_eq(rc, err.code);
        cr_assert_str_eq(err.where, path);
        cr_assert_not_null(strstr(err.text, path), "%s", err.text);
        cr_assert_null(v.data);
    }
    return rc;
}

#define cr_assert_refused(path, want)                                                              \
    do {                                                                                           \
        char reason_[64];                                                                          \
        cr_assert_neq(read_reason(path, reason_, sizeof reason_), VX_OK, "%s was read", path);     \
        cr_assert_str_eq(reason_, want, "%s: %s, not %s", path, reason_, want);                    \
    } while (0)

/* code, bytes, and a writer of value v */
#define TYPES(X)                                                                                   \
    X(2, uint8_t)                                                                                  \
    X(256, int8_t)                                                                                 \
    X(4, int16_t)                                                                                  \
    X(512, uint16_t)                                                                               \
    X(8, int32_t) X(768, uint32_t) X(1024, int64_t) X(1280, uint64_t) X(16, float) X(64, double)

static inline void put_typed(struct raw *r, int datatype, size_t i, int v) {
#define X(code, type)                                                                              \
    if (datatype == code) {                                                                        \
        type x = (type)v;                                                                          \
        put_field(r, 352 + i * sizeof x, &x, sizeof x);                                            \
    }
    TYPES(X)
#undef X
}

#endif
