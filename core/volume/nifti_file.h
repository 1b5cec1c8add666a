/* Inside core/volume: an opened NIfTI file as a stream of decoded bytes, with its checked header.
 */
#ifndef VX_VOLUME_NIFTI_FILE_H
#define VX_VOLUME_NIFTI_FILE_H

#include "volume/nifti.h"

#include <zlib.h>

struct nifti_file {
    const char *path; /* borrowed */
    gzFile stream;    /* also reads raw files */
    bool gzip;
    int64_t file_size; /* as on disk */
    struct vx_nifti_info info;
    int64_t data_offset; /* in the decoded stream */
    int elem_size;       /* bytes of one stored voxel */
};

/* Opens path, reads and checks the header; the stream stands right behind it (byte 348). */
int nifti_file_open(const char *path, struct nifti_file *ret, struct vx_err *err);
void nifti_file_close(struct nifti_file *f);
/* Exactly len decoded bytes, or nifti_truncated / nifti_damaged. */
int nifti_file_read(struct nifti_file *f, void *data, size_t len, struct vx_err *err);
/* vx_fail with err->where = path. */
int nifti_fail(const struct nifti_file *f, struct vx_err *err, int code, const char *reason,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
