/* Writing NIfTI-1 single files, atomically: the temporary file is synced before it gets its name.
 */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "volume/nifti.h"

#include <errno.h>
#include <fcntl.h>
#include <nifti/nifti1_io.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define BLOCK_VOXELS 65536
/* The level nibabel and SimpleITK users get is 6 or less; label maps compress as well at 5 in half
 * the time. */
#define GZIP_LEVEL 5

/* n values from index first into raw, in the file's type. */
typedef void (*encode_fn)(const void *data, int64_t first, size_t n, void *raw);

static void encode_u8(const void *data, int64_t first, size_t n, void *raw) {
    const int16_t *src = (const int16_t *)data + first;
    uint8_t *dst = raw;
    for (size_t i = 0; i < n; i++) {
        dst[i] = (uint8_t)src[i];
    }
}

static void encode_copy16(const void *data, int64_t first, size_t n, void *raw) {
    memcpy(raw, (const int16_t *)data + first, n * sizeof(int16_t));
}

static void encode_f32(const void *data, int64_t first, size_t n, void *raw) {
    memcpy(raw, (const float *)data + first, n * sizeof(float));
}

struct content {
    const void *data;
    int64_t n; /* values */
    int datatype, elem_size;
    encode_fn encode;
};

static int make_header(const int64_t shape[3], int frames, const struct vx_geometry *geo,
                       const struct content *c, nifti_1_header *ret, struct vx_err *err) {
    nifti_1_header h = {.sizeof_hdr = (int)sizeof h, .vox_offset = 352.0f, .scl_slope = 1.0f};
    for (int i = 0; i < 3; i++) {
        if (shape[i] < 1 || shape[i] > VX_NIFTI_MAX_EDGE) {
            return vx_fail(err, VX_E_LIMIT, "volume_too_large",
                           "an axis of %lld voxels does not fit into NIfTI-1 (at most %d)",
                           (long long)shape[i], VX_NIFTI_MAX_EDGE);
        }
        h.dim[3 - i] = (short)shape[i];
    }
    bool flat = geo->ndim == 2 && shape[0] == 1 && frames == 1;
    h.dim[0] = (short)(frames > 1 ? 4 : flat ? 2 : 3);
    h.dim[4] = (short)frames;
    h.dim[5] = h.dim[6] = h.dim[7] = 1;
    memcpy(h.pixdim, geo->pixdim, sizeof geo->pixdim);
    h.pixdim[0] = geo->pixdim[0] < 0 ? -1.0f : 1.0f;
    h.pixdim[4] = 1.0f;
    h.datatype = (short)c->datatype;
    h.bitpix = (short)(8 * c->elem_size);
    h.qform_code = geo->qform_code;
    h.sform_code = geo->sform_code;
    h.quatern_b = geo->quatern[0];
    h.quatern_c = geo->quatern[1];
    h.quatern_d = geo->quatern[2];
    h.qoffset_x = geo->qoffset[0];
    h.qoffset_y = geo->qoffset[1];
    h.qoffset_z = geo->qoffset[2];
    memcpy(h.srow_x, geo->srow[0], sizeof h.srow_x);
    memcpy(h.srow_y, geo->srow[1], sizeof h.srow_y);
    memcpy(h.srow_z, geo->srow[2], sizeof h.srow_z);
    h.xyzt_units = (char)geo->xyzt_units;
    memcpy(h.magic, "n+1", 4);
    *ret = h;
    return VX_OK;
}

static int put(gzFile out, const void *data, size_t len, const char *path, struct vx_err *err) {
    errno = 0;
    if (gzwrite(out, data, (unsigned)len) == (int)len) {
        return VX_OK;
    }
    return vx_fail_errno(err, errno ? errno : EIO, path, "cannot write %s", path);
}

/* Header, four bytes "no extensions", voxels. */
static int put_all(gzFile out, const nifti_1_header *h, const struct content *c, const char *path,
                   struct vx_err *err) {
    static const char no_extension[4];
    vx_auto_free char *raw = malloc((size_t)BLOCK_VOXELS * (size_t)c->elem_size);
    if (!raw) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
    }
    int rc = put(out, h, sizeof *h, path, err);
    rc = rc == VX_OK ? put(out, no_extension, sizeof no_extension, path, err) : rc;
    for (int64_t done = 0; rc == VX_OK && done < c->n; done += BLOCK_VOXELS) {
        size_t n = c->n - done < BLOCK_VOXELS ? (size_t)(c->n - done) : BLOCK_VOXELS;
        c->encode(c->data, done, n, raw);
        rc = put(out, raw, n * (size_t)c->elem_size, path, err);
    }
    return rc;
}

static int write_temp(const char *path, const char *temp, const nifti_1_header *h,
                      const struct content *c, struct vx_err *err) {
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot make %s", temp);
    }
    size_t len = strlen(path);
    bool gzip = len > 3 && strcmp(path + len - 3, ".gz") == 0;
    char mode[8] = "wbT"; /* T: no compression, plain bytes */
    if (gzip) {
        snprintf(mode, sizeof mode, "wb%d", GZIP_LEVEL);
    }
    gzFile out = gzdopen(fd, mode);
    if (!out) {
        close(fd);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
    }
    gzbuffer(out, 256 * 1024);
    int rc = put_all(out, h, c, path, err);
    errno = 0;
    if (gzclose_w(out) != Z_OK && rc == VX_OK) {
        rc = vx_fail_errno(err, errno ? errno : EIO, path, "cannot write %s", path);
    }
    return rc;
}

static int write_file(const char *path, const int64_t shape[3], int frames,
                      const struct vx_geometry *geo, const struct content *c, struct vx_err *err) {
    if (!vx_nifti_is_name(path)) {
        vx_fail(err, VX_E_UNSUPPORTED, "nifti_name",
                "%s: only files named .nii or .nii.gz are written", path);
        vx_err_at(err, "%s", path);
        return VX_E_UNSUPPORTED;
    }
    nifti_1_header h;
    int rc = make_header(shape, frames, geo, c, &h, err);
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
        return rc;
    }
    vx_auto_free char *temp = vx_strf("%s.tmp.%d", path, (int)getpid());
    if (!temp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    rc = write_temp(path, temp, &h, c, err);
    rc = rc == VX_OK ? vx_rename_durable(temp, path, err) : rc;
    if (rc != VX_OK) {
        unlink(temp);
    }
    return rc;
}

int vx_nifti_write_labels(const char *path, const struct vx_labelmap *labels, struct vx_err *err) {
    int64_t n = vx_shape_count(labels->shape);
    int16_t lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = labels->data[i] < lo ? labels->data[i] : lo;
        hi = labels->data[i] > hi ? labels->data[i] : hi;
    }
    if (lo < 0) {
        vx_fail(err, VX_E_INVALID, "label_out_of_range",
                "%s: label %d cannot be written; label maps hold 0 and above", path, lo);
        vx_err_at(err, "%s", path);
        return VX_E_INVALID;
    }
    struct content c = {labels->data, n, DT_UINT8, 1, encode_u8};
    if (hi >= 255) {
        c = (struct content){labels->data, n, DT_UINT16, 2, encode_copy16};
    }
    return write_file(path, labels->shape, 1, &labels->geo, &c, err);
}

int vx_nifti_write_image(const char *path, const struct vx_volume *volume, struct vx_err *err) {
    if (volume->channels > VX_NIFTI_MAX_EDGE) {
        return vx_fail(err, VX_E_LIMIT, "volume_too_large", "%s: %d channels do not fit NIfTI-1",
                       path, volume->channels);
    }
    struct content c = {volume->data, vx_shape_count(volume->shape) * volume->channels, DT_FLOAT32,
                        4, encode_f32};
    return write_file(path, volume->shape, volume->channels, &volume->geo, &c, err);
}
