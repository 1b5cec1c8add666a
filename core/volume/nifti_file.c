/* Opening a NIfTI-1 file and checking its header before anything of its size is allocated. libnifti
 * gives the header's layout, byte swapping and the table of types; its own reading functions print
 * and allocate what a header claims, so the stream is read here. */
#include "volume/nifti_file.h"
#include "base/err.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <nifti/nifti1_io.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Deflate cannot expand a stream by more than this (zlib's documentation). */
#define DEFLATE_MAX_RATIO 1032
#define HEADER_BYTES      348
#define SINGLE_MIN_OFFSET 352

int nifti_fail(const struct nifti_file *f, struct vx_err *err, int code, const char *reason,
               const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    vx_fail(err, code, reason, "%s: %s", f->path, text);
    vx_err_at(err, "%s", f->path);
    return code;
}

bool vx_nifti_is_name(const char *path) {
    size_t n = strlen(path);
    return (n > 4 && strcmp(path + n - 4, ".nii") == 0) ||
           (n > 7 && strcmp(path + n - 7, ".nii.gz") == 0);
}

static bool is_gzip_name(const char *path) {
    size_t n = strlen(path);
    return n > 3 && strcmp(path + n - 3, ".gz") == 0;
}

int nifti_file_read(struct nifti_file *f, void *data, size_t len, struct vx_err *err) {
    char *p = data;
    while (len > 0) {
        unsigned chunk = len > (1u << 30) ? 1u << 30 : (unsigned)len;
        int n = gzread(f->stream, p, chunk);
        if (n < 0) {
            int code = 0;
            const char *what = gzerror(f->stream, &code);
            return nifti_fail(f, err, VX_E_CORRUPT, "nifti_damaged",
                              "the compressed data is damaged (%s)", what);
        }
        if (n == 0) {
            return nifti_fail(f, err, VX_E_CORRUPT, "nifti_truncated",
                              "the file ends %zu bytes too early; it was cut off or its header "
                              "claims too many voxels",
                              len);
        }
        p += n;
        len -= (size_t)n;
    }
    return VX_OK;
}

void nifti_file_close(struct nifti_file *f) {
    if (f->stream) {
        gzclose_r(f->stream);
        f->stream = NULL;
    }
}

/* Opens the stream and holds the name against the content, as nibabel and nnU-Net choose their
 * reader by the name. */
static int open_stream(const char *path, struct nifti_file *f, struct vx_err *err) {
    vx_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, path, "cannot stat %s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return nifti_fail(f, err, VX_E_INVALID, "not_a_file", "not a regular file");
    }
    f->file_size = st.st_size;
    if (st.st_size == 0) {
        return nifti_fail(f, err, VX_E_CORRUPT, "nifti_truncated", "the file is empty");
    }
    unsigned char magic[2] = {0, 0};
    if (pread(fd, magic, 2, 0) < 0) {
        return vx_fail_errno(err, errno, path, "cannot read %s", path);
    }
    f->gzip = magic[0] == 0x1f && magic[1] == 0x8b;
    if (f->gzip != is_gzip_name(path)) {
        return nifti_fail(f, err, VX_E_INVALID, "nifti_name",
                          f->gzip ? "the content is gzip but the name does not end in .gz; rename "
                                    "it to .nii.gz"
                                  : "the name ends in .gz but the content is not gzip; rename it "
                                    "to .nii or compress it");
    }
    f->stream = gzdopen(fd, "rb");
    if (!f->stream) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to read %s", path);
    }
    vx_steal_fd(&fd);
    gzbuffer(f->stream, 128 * 1024);
    return VX_OK;
}

/* The magic word, and what it says when the file is a relative of NIfTI-1 single files. */
static int check_magic(const struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    if (memcmp(h->magic, "ni1", 4) == 0) {
        return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_unsupported",
                          "a header of a .hdr/.img pair; convert it to a single .nii.gz file");
    }
    if (memcmp(h->magic, "n+1", 4) != 0) {
        int32_t size = h->sizeof_hdr, swapped = (int32_t)__builtin_bswap32((uint32_t)size);
        if (size == 540 || swapped == 540) {
            return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_unsupported",
                              "a NIfTI-2 file; convert it to NIfTI-1");
        }
        if (size == HEADER_BYTES || swapped == HEADER_BYTES) {
            return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_unsupported",
                              "an ANALYZE 7.5 file or one without NIfTI's magic word; convert it "
                              "to NIfTI-1");
        }
        return nifti_fail(f, err, VX_E_INVALID, "not_nifti", "not a NIfTI file");
    }
    return VX_OK;
}

static int swap_if_needed(struct nifti_file *f, nifti_1_header *h, struct vx_err *err) {
    if (h->sizeof_hdr == HEADER_BYTES) {
        return VX_OK;
    }
    if ((int32_t)__builtin_bswap32((uint32_t)h->sizeof_hdr) != HEADER_BYTES) {
        return nifti_fail(f, err, VX_E_CORRUPT, "nifti_header",
                          "header field sizeof_hdr is %d, not 348; the header is damaged",
                          h->sizeof_hdr);
    }
    swap_nifti_header(h, 1);
    f->info.big_endian = true;
    return VX_OK;
}

static int check_dims(struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    int n = h->dim[0];
    if (n < 1 || n > 7) {
        return nifti_fail(f, err, VX_E_CORRUPT, "nifti_header",
                          "header field dim[0] (number of axes) is %d, not 1 to 7", n);
    }
    for (int i = 1; i <= n; i++) {
        if (h->dim[i] < 1) {
            return nifti_fail(f, err, VX_E_CORRUPT, "nifti_header",
                              "header field dim[%d] (voxels along an axis) is %d", i, h->dim[i]);
        }
    }
    for (int i = 5; i <= n; i++) {
        if (h->dim[i] > 1) {
            return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_unsupported",
                              "%d axes with dim[%d] = %d; only x, y, z and one axis of frames or "
                              "channels are read",
                              n, i, h->dim[i]);
        }
    }
    if (n < 2) {
        return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_unsupported",
                          "a one-dimensional array is no image");
    }
    f->info.shape[2] = h->dim[1];
    f->info.shape[1] = h->dim[2];
    f->info.shape[0] = n >= 3 ? h->dim[3] : 1;
    f->info.frames = n >= 4 ? h->dim[4] : 1;
    f->info.geo.ndim = n == 2 ? 2 : 3;
    return VX_OK;
}

static int check_datatype(struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    static const int16_t readable[] = {DT_UINT8,  DT_INT8,  DT_INT16,  DT_UINT16,  DT_INT32,
                                       DT_UINT32, DT_INT64, DT_UINT64, DT_FLOAT32, DT_FLOAT64};
    bool ok = false;
    for (size_t i = 0; i < VX_COUNTOF(readable); i++) {
        ok = ok || readable[i] == h->datatype;
    }
    if (!ok) {
        return nifti_fail(f, err, VX_E_UNSUPPORTED, "nifti_datatype",
                          "voxels of datatype %d (%s) are not read; convert the file to an integer "
                          "type, float32 or float64",
                          h->datatype, nifti_datatype_string(h->datatype));
    }
    int size, swap_size;
    nifti_datatype_sizes(h->datatype, &size, &swap_size);
    f->info.datatype = h->datatype;
    f->elem_size = size;
    return VX_OK;
}

/* spacing in mm from pixdim and units; qform, sform. */
static int read_geometry(struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    struct vx_geometry *g = &f->info.geo;
    double unit = 1.0;
    switch (XYZT_TO_SPACE(h->xyzt_units)) {
    case NIFTI_UNITS_METER:
        unit = 1000.0;
        break;
    case NIFTI_UNITS_MICRON:
        unit = 0.001;
        break;
    default:
        break;
    }
    for (int i = 1; i <= g->ndim; i++) {
        double s = fabs((double)h->pixdim[i]) * unit;
        if (!isfinite(s) || s <= 0) {
            return nifti_fail(f, err, VX_E_INVALID, "nifti_header",
                              "header field pixdim[%d] (voxel spacing) is %g; it must be finite "
                              "and not zero",
                              i, (double)h->pixdim[i]);
        }
        g->spacing[3 - i] = s;
    }
    if (g->ndim == 2) {
        g->spacing[0] = 999.0 * fmax(g->spacing[1], g->spacing[2]);
    }
    memcpy(g->pixdim, h->pixdim, sizeof g->pixdim);
    g->qform_code = h->qform_code;
    g->sform_code = h->sform_code;
    g->quatern[0] = h->quatern_b;
    g->quatern[1] = h->quatern_c;
    g->quatern[2] = h->quatern_d;
    g->qoffset[0] = h->qoffset_x;
    g->qoffset[1] = h->qoffset_y;
    g->qoffset[2] = h->qoffset_z;
    memcpy(g->srow[0], h->srow_x, sizeof g->srow[0]);
    memcpy(g->srow[1], h->srow_y, sizeof g->srow[1]);
    memcpy(g->srow[2], h->srow_z, sizeof g->srow[2]);
    g->xyzt_units = (uint8_t)h->xyzt_units;
    return VX_OK;
}

/* nibabel's rule: no scaling for slope 0, NaN or infinite; otherwise the intercept must be finite.
 */
static int read_scaling(struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    f->info.slope = 1.0;
    f->info.inter = 0.0;
    if (h->scl_slope == 0.0f || !isfinite(h->scl_slope)) {
        return VX_OK;
    }
    if (!isfinite(h->scl_inter)) {
        return nifti_fail(f, err, VX_E_INVALID, "nifti_header",
                          "header field scl_inter is %g while scl_slope is %g",
                          (double)h->scl_inter, (double)h->scl_slope);
    }
    f->info.slope = h->scl_slope;
    f->info.inter = h->scl_inter;
    return VX_OK;
}

/* The voxels must be able to lie in the file. Extents are at most 32767 each, so the products fit
 * in 64 bits. */
static int check_size(struct nifti_file *f, const nifti_1_header *h, struct vx_err *err) {
    if (!isfinite(h->vox_offset) || h->vox_offset < SINGLE_MIN_OFFSET || h->vox_offset > 0x1p40f) {
        return nifti_fail(f, err, VX_E_CORRUPT, "nifti_header",
                          "header field vox_offset (where the voxels begin) is %g; a single file "
                          "has at least 352",
                          (double)h->vox_offset);
    }
    f->data_offset = (int64_t)h->vox_offset;
    __int128 need =
        (__int128)vx_shape_count(f->info.shape) * f->info.frames * f->elem_size + f->data_offset;
    __int128 have = (__int128)f->file_size * (f->gzip ? DEFLATE_MAX_RATIO : 1);
    if (need > have) {
        return nifti_fail(f, err, VX_E_CORRUPT, "nifti_truncated",
                          "the header asks for %lld bytes, the file of %lld bytes %s %lld; it was "
                          "cut off or its header is wrong",
                          need > INT64_MAX ? (long long)INT64_MAX : (long long)need,
                          (long long)f->file_size, f->gzip ? "cannot hold more than" : "has",
                          (long long)have);
    }
    return VX_OK;
}

int nifti_file_open(const char *path, struct nifti_file *ret, struct vx_err *err) {
    struct nifti_file f = {.path = path};
    if (!vx_nifti_is_name(path)) {
        return nifti_fail(&f, err, VX_E_UNSUPPORTED, "nifti_name",
                          "only files named .nii or .nii.gz are read");
    }
    int rc = open_stream(path, &f, err);
    if (rc != VX_OK) {
        return rc;
    }
    nifti_1_header h;
    rc = nifti_file_read(&f, &h, sizeof h, err);
    rc = rc == VX_OK ? check_magic(&f, &h, err) : rc;
    rc = rc == VX_OK ? swap_if_needed(&f, &h, err) : rc;
    rc = rc == VX_OK ? check_dims(&f, &h, err) : rc;
    rc = rc == VX_OK ? check_datatype(&f, &h, err) : rc;
    rc = rc == VX_OK ? read_geometry(&f, &h, err) : rc;
    rc = rc == VX_OK ? read_scaling(&f, &h, err) : rc;
    rc = rc == VX_OK ? check_size(&f, &h, err) : rc;
    if (rc != VX_OK) {
        nifti_file_close(&f);
        return rc;
    }
    *ret = f;
    return VX_OK;
}

int vx_nifti_read_header(const char *path, struct vx_nifti_info *ret, struct vx_err *err) {
    struct nifti_file f;
    int rc = nifti_file_open(path, &f, err);
    if (rc == VX_OK) {
        *ret = f.info;
        nifti_file_close(&f);
    }
    return rc;
}
