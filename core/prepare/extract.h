/* The fingerprint of single cases and of their data set (nnU-Net v2, fingerprint extraction).
 *
 * Foreground intensities: per case and channel K = floor(1e8 / cases) draws with replacement from
 * the voxels with a label above 0 inside the crop, by numpy's RandomState(1234), so that every case
 * has the same weight. What is kept of a case is its distinct drawn values and how often each was
 * drawn: a case is looked at once, in any process, and the merged statistics are those of all draws
 * together. Thread: any; one case each. */
#ifndef VX_PREPARE_EXTRACT_H
#define VX_PREPARE_EXTRACT_H

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_fingerprint;
struct vx_labelmap;
struct vx_volume;

/* Draws of one channel: values ascending; cumulative[i] draws were <= values[i]. n = 0 where the
 * case has no foreground. */
struct vx_draws {
    size_t n;
    float *values;        /* owned */
    uint32_t *cumulative; /* owned */
};

struct vx_case_print {
    double spacing[3];     /* z, y, x as in the file */
    int64_t shape[3];      /* in the file */
    int64_t shape_crop[3]; /* after cropping to nonzero */
    double relative_size;  /* voxels after / before cropping */
    int64_t n_foreground;  /* voxels with a label above 0 (the ignore label counts) */
    int n_channels;
    struct vx_draws *draws; /* owned; [n_channels] */
};

/* K for a data set of n_cases. */
uint32_t vx_extract_draws_per_case(size_t n_cases);
/* image and labels as read, of equal shape and finite; K from vx_extract_draws_per_case. */
int vx_extract_case(const struct vx_volume *image, const struct vx_labelmap *labels, uint32_t k,
                    struct vx_case_print *ret, struct vx_err *err);
void vx_case_print_release(struct vx_case_print *p);

/* Durable file of a print, to hand it from a child process to its parent or to a later run; loading
 * checks length and content (VX_E_CORRUPT). Same machine only. */
int vx_case_print_save(const char *path, const struct vx_case_print *p, struct vx_err *err);
int vx_case_print_load(const char *path, struct vx_case_print *ret, struct vx_err *err);

/* Cases in the order of their names. VX_E_INVALID "no_foreground" where no case has any,
 * "channel_mismatch" where they differ in channels. */
int vx_extract_merge(const struct vx_case_print *const *prints, size_t n,
                     struct vx_fingerprint *ret, struct vx_err *err);

#define vx_auto_case_print __attribute__((cleanup(vx_case_print_release)))

#endif
