/* Voxels of a NIfTI file into memory, block by block, so that beside the result only a few hundred
 * kilobytes are held. */
#include "base/err.h"
#include "base/own.h"
#include "volume/nifti_file.h"

#include <math.h>
#include <nifti/nifti1_io.h>
#include <string.h>

#define BLOCK_VOXELS      32768
#define DEFAULT_MAX_BYTES (8ull << 30)
/* Read past the voxels, so that zlib reaches and checks the CRC at the end of the stream. */
#define TAIL_BYTES 65536

#define CONVERT(type)                                                                              \
    do {                                                                                           \
        const type *p = raw;                                                                       \
        for (size_t i = 0; i < n; i++) {                                                           \
            out[i] = (double)p[i];                                                                 \
        }                                                                                          \
    } while (0)

/* Stored values in the host's byte order to double. */
static void to_double(int datatype, const void *raw, size_t n, double *out) {
    switch (datatype) {
    case DT_UINT8:
        CONVERT(uint8_t);
        break;
    case DT_INT8:
        CONVERT(int8_t);
        break;
    case DT_INT16:
        CONVERT(int16_t);
        break;
    case DT_UINT16:
        CONVERT(uint16_t);
        break;
    case DT_INT32:
        CONVERT(int32_t);
        break;
    case DT_UINT32:
        CONVERT(uint32_t);
        break;
    case DT_INT64:
        CONVERT(int64_t);
        break;
    case DT_UINT64:
        CONVERT(uint64_t);
        break;
    case DT_FLOAT32:
        CONVERT(float);
        break;
    default: /* the header check lets only float64 through beside these */
        CONVERT(double);
        break;
    }
}

/* Where a block of n decoded values goes; first: index of its first voxel in file order. */
typedef int (*block_fn)(void *context, const double *values, size_t n, int64_t first,
                        struct vx_err *err);

/* Reads all voxels in file order, scaled. */
static int read_blocks(struct nifti_file *f, block_fn fn, void *context, struct vx_err *err) {
    int64_t total = vx_shape_count(f->info.shape) * f->info.frames;
    vx_auto_free char *raw = malloc((size_t)BLOCK_VOXELS * 8);
    vx_auto_free double *values = malloc((size_t)BLOCK_VOXELS * sizeof(double));
    if (!raw || !values) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to read %s", f->path);
    }
    bool scaled = f->info.slope != 1.0 || f->info.inter != 0.0;
    for (int64_t done = 0; done < total;) {
        size_t n = total - done < BLOCK_VOXELS ? (size_t)(total - done) : BLOCK_VOXELS;
        int rc = nifti_file_read(f, raw, n * (size_t)f->elem_size, err);
        if (rc != VX_OK) {
            return rc;
        }
        if (f->info.big_endian && f->elem_size > 1) {
            nifti_swap_Nbytes(n, f->elem_size, raw);
        }
        to_double(f->info.datatype, raw, n, values);
        for (size_t i = 0; scaled && i < n; i++) {
            values[i] = values[i] * f->info.slope + f->info.inter;
        }
        rc = fn(context, values, n, done, err);
        if (rc != VX_OK) {
            return rc;
        }
        done += (int64_t)n;
    }
    return VX_OK;
}

/* From behind the header to the first voxel, over extensions. */
static int skip_to_voxels(struct nifti_file *f, struct vx_err *err) {
    char skipped[4096];
    int64_t left = f->data_offset - (int64_t)sizeof(nifti_1_header);
    while (left > 0) {
        size_t n = left < (int64_t)sizeof skipped ? (size_t)left : sizeof skipped;
        int rc = nifti_file_read(f, skipped, n, err);
        if (rc != VX_OK) {
            return rc;
        }
        left -= (int64_t)n;
    }
    return VX_OK;
}

static int check_tail(struct nifti_file *f, struct vx_err *err) {
    if (!f->gzip) {
        return VX_OK;
    }
    vx_auto_free char *tail = malloc(TAIL_BYTES);
    if (!tail) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to read %s", f->path);
    }
    int n = gzread(f->stream, tail, TAIL_BYTES), code = 0;
    const char *what = gzerror(f->stream, &code);
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        return nifti_fail(f, err, VX_E_CORRUPT,
                          code == Z_BUF_ERROR ? "nifti_truncated" : "nifti_damaged",
                          "the compressed data is damaged behind the voxels (%s)", what);
    }
    return VX_OK;
}

/* The size of the array to be made, held against the limit. */
static int check_limit(const struct nifti_file *f, const struct vx_nifti_limits *limits,
                       size_t elem, struct vx_err *err) {
    uint64_t max = limits && limits->max_bytes ? limits->max_bytes : DEFAULT_MAX_BYTES;
    __int128 need = (__int128)vx_shape_count(f->info.shape) * f->info.frames * (int64_t)elem;
    if (need > (__int128)max) {
        return nifti_fail(f, err, VX_E_LIMIT, "volume_too_large",
                          "%lld x %lld x %lld voxels in %d frames are over the limit of %llu "
                          "bytes in memory",
                          (long long)f->info.shape[2], (long long)f->info.shape[1],
                          (long long)f->info.shape[0], f->info.frames, (unsigned long long)max);
    }
    return VX_OK;
}

static int store_floats(void *context, const double *values, size_t n, int64_t first,
                        struct vx_err *err) {
    (void)err;
    float *dst = (float *)context + first;
    for (size_t i = 0; i < n; i++) {
        dst[i] = (float)values[i];
    }
    return VX_OK;
}

/* All voxels of an opened file into dst (frames x shape). */
static int read_floats(struct nifti_file *f, float *dst, struct vx_err *err) {
    int rc = skip_to_voxels(f, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (f->info.datatype == DT_FLOAT32 && f->info.slope == 1.0 && f->info.inter == 0.0) {
        size_t n = (size_t)(vx_shape_count(f->info.shape) * f->info.frames);
        rc = nifti_file_read(f, dst, n * sizeof(float), err);
        if (rc == VX_OK && f->info.big_endian) {
            nifti_swap_Nbytes(n, sizeof(float), dst);
        }
    } else {
        rc = read_blocks(f, store_floats, dst, err);
    }
    return rc == VX_OK ? check_tail(f, err) : rc;
}

int vx_nifti_read_image(const char *path, const struct vx_nifti_limits *limits,
                        struct vx_volume *ret, struct vx_err *err) {
    struct nifti_file f;
    int rc = nifti_file_open(path, &f, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_volume struct vx_volume v = {0};
    rc = check_limit(&f, limits, sizeof(float), err);
    rc = rc == VX_OK ? vx_volume_init(&v, f.info.frames, f.info.shape, &f.info.geo, err) : rc;
    rc = rc == VX_OK ? read_floats(&f, v.data, err) : rc;
    nifti_file_close(&f);
    if (rc == VX_OK) {
        *ret = v;
        v.data = NULL;
    }
    return rc;
}

struct label_sink {
    const struct nifti_file *f;
    int16_t *dst;
};

static int store_labels(void *context, const double *values, size_t n, int64_t first,
                        struct vx_err *err) {
    struct label_sink *s = context;
    for (size_t i = 0; i < n; i++) {
        double v = values[i];
        if (v >= INT16_MIN && v <= INT16_MAX && v == nearbyint(v)) {
            s->dst[first + (int64_t)i] = (int16_t)v;
            continue;
        }
        int64_t at = first + (int64_t)i, nx = s->f->info.shape[2], ny = s->f->info.shape[1];
        bool integer = v == nearbyint(v) && isfinite(v);
        return nifti_fail(s->f, err, VX_E_INVALID,
                          integer ? "label_out_of_range" : "label_not_integer",
                          "label %.9g at voxel (x %lld, y %lld, z %lld) is not %s", v,
                          (long long)(at % nx), (long long)(at / nx % ny),
                          (long long)(at / nx / ny), integer ? "in -32768..32767" : "an integer");
    }
    return VX_OK;
}

int vx_nifti_read_labels(const char *path, const struct vx_nifti_limits *limits,
                         struct vx_labelmap *ret, struct vx_err *err) {
    struct nifti_file f;
    int rc = nifti_file_open(path, &f, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_labelmap struct vx_labelmap m = {0};
    if (f.info.frames > 1) {
        rc = nifti_fail(&f, err, VX_E_UNSUPPORTED, "nifti_frames",
                        "a label map with %d frames; one is wanted", f.info.frames);
    }
    rc = rc == VX_OK ? check_limit(&f, limits, sizeof(int16_t), err) : rc;
    rc = rc == VX_OK ? vx_labelmap_init(&m, f.info.shape, &f.info.geo, err) : rc;
    rc = rc == VX_OK ? skip_to_voxels(&f, err) : rc;
    if (rc == VX_OK) {
        struct label_sink sink = {&f, m.data};
        rc = read_blocks(&f, store_labels, &sink, err);
    }
    rc = rc == VX_OK ? check_tail(&f, err) : rc;
    nifti_file_close(&f);
    if (rc == VX_OK) {
        *ret = m;
        m.data = NULL;
    }
    return rc;
}

/* Shape and spacing of a channel's file against the first one's. */
static int check_channel(const struct nifti_file *f, const struct vx_volume *v, const char *first,
                         struct vx_err *err) {
    const int64_t *a = v->shape, *b = f->info.shape;
    if (memcmp(a, b, sizeof v->shape) != 0) {
        return nifti_fail(f, err, VX_E_INVALID, "channel_mismatch",
                          "shape %lld x %lld x %lld (x, y, z) differs from %lld x %lld x %lld of "
                          "%s; all channels of a case must lie on one grid",
                          (long long)b[2], (long long)b[1], (long long)b[0], (long long)a[2],
                          (long long)a[1], (long long)a[0], first);
    }
    if (!vx_geometry_same_spacing(&f->info.geo, &v->geo)) {
        const double *p = v->geo.spacing, *q = f->info.geo.spacing;
        return nifti_fail(f, err, VX_E_INVALID, "channel_mismatch",
                          "spacing %g, %g, %g mm (x, y, z) differs from %g, %g, %g of %s; all "
                          "channels of a case must lie on one grid",
                          q[2], q[1], q[0], p[2], p[1], p[0], first);
    }
    return VX_OK;
}

/* Channel c of n from its file; the first one makes the volume. */
static int read_channel(const char *const *paths, int c, int n,
                        const struct vx_nifti_limits *limits, struct vx_volume *v, bool *aligned,
                        struct vx_err *err) {
    struct nifti_file f;
    int rc = nifti_file_open(paths[c], &f, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (f.info.frames != 1) {
        rc = nifti_fail(&f, err, VX_E_INVALID, "nifti_frames",
                        "%d frames in one of %d channel files; each must hold one", f.info.frames,
                        n);
    } else if (c == 0) {
        rc = check_limit(&f, limits, sizeof(float) * (size_t)n, err);
        rc = rc == VX_OK ? vx_volume_init(v, n, f.info.shape, &f.info.geo, err) : rc;
    } else {
        rc = check_channel(&f, v, paths[0], err);
        *aligned = *aligned && vx_geometry_same_affine(&f.info.geo, &v->geo);
    }
    rc = rc == VX_OK ? read_floats(&f, v->data + (int64_t)c * vx_shape_count(v->shape), err) : rc;
    nifti_file_close(&f);
    return rc;
}

int vx_nifti_read_channels(const char *const *paths, int n, const struct vx_nifti_limits *limits,
                           struct vx_volume *ret, bool *ret_aligned, struct vx_err *err) {
    vx_auto_volume struct vx_volume v = {0};
    bool aligned = true;
    if (n == 1) {
        int rc = vx_nifti_read_image(paths[0], limits, &v, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    for (int c = 0; n > 1 && c < n; c++) {
        int rc = read_channel(paths, c, n, limits, &v, &aligned, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    *ret = v;
    v.data = NULL;
    if (ret_aligned) {
        *ret_aligned = aligned;
    }
    return VX_OK;
}
