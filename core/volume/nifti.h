/* NIfTI-1 single files (.nii, .nii.gz): read, look at, write.
 *
 * Files are untrusted. Header, offsets, dimensions and the bytes they ask for are checked against
 * the file before anything is allocated; a gzip stream cannot hold more than 1032 times its own
 * size, which bounds what its header may claim. Read: unsigned and signed integers of 8 to 64 bits,
 * float32 and float64, both byte orders, scl_slope and scl_inter as nibabel applies them (slope 0,
 * NaN or infinite: none). Refused with the reason: complex and colour types, float128, NIfTI-2,
 * ANALYZE and .hdr/.img pairs, more than four dimensions, a name that does not match the content
 * (gzip named .nii, raw named .nii.gz), spacing that is zero or not finite. Two-dimensional files
 * get a leading axis of one slice with spacing 999 x the larger one (nnU-Net's SimpleITK reader).
 *
 * Error reasons: not_nifti, nifti_unsupported, nifti_header, nifti_datatype, nifti_truncated,
 * nifti_damaged, nifti_name, nifti_frames, volume_too_large, label_not_integer, label_out_of_range,
 * channel_mismatch. err->where is the path. Never prints, never exits. Thread: any. */
#ifndef VX_VOLUME_NIFTI_H
#define VX_VOLUME_NIFTI_H

#include "volume/volume.h"

#define VX_NIFTI_MAX_EDGE 32767

/* Zero means the default. */
struct vx_nifti_limits {
    uint64_t max_bytes; /* of the array made in memory; default 8 GiB */
};

struct vx_nifti_info {
    int frames;       /* extent of the fourth axis, 1 without it */
    int64_t shape[3]; /* z, y, x */
    int datatype;     /* NIfTI code as in the file */
    bool big_endian;
    double slope, inter; /* 1 and 0 where the file has no scaling */
    struct vx_geometry geo;
};

/* True for names that end in .nii or .nii.gz. */
bool vx_nifti_is_name(const char *path);

/* Header only: a few hundred bytes are read. Checks what vx_nifti_read_image checks except the
 * voxels' presence in gzip. */
int vx_nifti_read_header(const char *path, struct vx_nifti_info *ret, struct vx_err *err);

/* Frames of a four-dimensional file become channels. limits may be NULL. */
int vx_nifti_read_image(const char *path, const struct vx_nifti_limits *limits,
                        struct vx_volume *ret, struct vx_err *err);

/* The channel files of one case, in order, stacked: each must have one frame (except a single file
 * with n frames), and all the same shape and spacing (channel_mismatch names file and both values).
 * Geometry is the first file's. ret_aligned (may be NULL): false where the affines differ, which
 * nnU-Net only warns about. */
int vx_nifti_read_channels(const char *const *paths, int n, const struct vx_nifti_limits *limits,
                           struct vx_volume *ret, bool *ret_aligned, struct vx_err *err);

/* Every value must be an integer within int16 after scaling; the error names the first value and
 * voxel that is not. Several frames are refused (nifti_frames). */
int vx_nifti_read_labels(const char *path, const struct vx_nifti_limits *limits,
                         struct vx_labelmap *ret, struct vx_err *err);

/* uint8 where the largest label is below 255, else uint16; negative values are refused. The name
 * chooses .nii or .nii.gz. Atomic: PATH.tmp.PID, fsync, rename, fsync of the folder. geo gives the
 * header's geometry. */
int vx_nifti_write_labels(const char *path, const struct vx_labelmap *labels, struct vx_err *err);
/* float32; several channels as the fourth axis. */
int vx_nifti_write_image(const char *path, const struct vx_volume *volume, struct vx_err *err);

#endif
