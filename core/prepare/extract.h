/* The fingerprint, extracted: one case at a time, merged by an accumulator (nnU-Net v2,
 * DatasetFingerprintExtractor).
 *
 * nnU-Net draws K = floor(1e8 / cases) foreground intensities per case and channel with replacement
 * from RandomState(1234) and takes statistics over all draws. The draws are reproduced here, but as
 * a count per distinct value, so the statistics are those of the same sample without holding it.
 * Thread: vx_extract_case any; the accumulator one at a time. */
#ifndef VX_PREPARE_EXTRACT_H
#define VX_PREPARE_EXTRACT_H

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_fingerprint;
struct vx_rawcase;

struct vx_drawn { /* of one channel: distinct values, ascending, with the number of draws of each */
    size_t n;
    float *values; /* owned */
    uint32_t *counts;
};

struct vx_case_print {
    double spacing[3]; /* z, y, x in mm */
    int shape[3];      /* after the nonzero crop */
    double relative_size;
    int n_channels;
    struct vx_drawn *channels; /* owned; empty where the case has no foreground */
};

/* Draws per case for a data set of n_cases. */
uint32_t vx_extract_draws(int n_cases);
int vx_extract_case(const struct vx_rawcase *raw, uint32_t draws, struct vx_case_print *ret,
                    struct vx_err *err);
void vx_case_print_release(struct vx_case_print *print);

struct vx_extract;
int vx_extract_create(int n_cases, int n_channels, struct vx_extract **ret, struct vx_err *err);
/* index: the case's place in the list (sorted by name). Takes nothing over. */
int vx_extract_add(struct vx_extract *x, int index, const struct vx_case_print *print,
                   struct vx_err *err);
/* Statistics over all added cases; every index must have been added. *ret is released by the
 * caller. VX_E_INVALID "no_foreground" where no case has any. */
int vx_extract_finish(struct vx_extract *x, struct vx_fingerprint *ret, struct vx_err *err);
struct vx_extract *vx_extract_free(struct vx_extract *x);

#endif
