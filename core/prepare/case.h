/* A raw case made ready for training or inference (nnU-Net v2, DefaultPreprocessor): read,
 * transpose, crop to nonzero, normalise, resample, locations; and its way into the prepared store.
 * One case per call, one core; the caller decides how many run side by side, in threads or
 * processes. Thread: any. */
#ifndef VX_PREPARE_CASE_H
#define VX_PREPARE_CASE_H

#include "base/json.h"

#include <stdint.h>

struct vx_cache_info;
struct vx_dataset_desc;
struct vx_err;
struct vx_labelmap;
struct vx_plan_config;
struct vx_plans;
struct vx_volume;

/* Where a case comes from; pointers borrowed. */
struct vx_case_input {
    const char *name;
    const char *dir; /* the raw data set's folder, to which sources are relative; may be NULL */
    const char *const *images; /* one file per channel, or one with several frames */
    int n_images;
    const char *label; /* NULL: none */
};

/* What a plan says of it; pointers borrowed. */
struct vx_case_recipe {
    const struct vx_plans *plans;
    const struct vx_plan_config *config;
    const struct vx_dataset_desc *dataset; /* label table */
};

/* A prepared case in memory. Axes are the plan's. */
struct vx_prepared {
    struct vx_cache_info *info; /* owned; info->classes and sources too */
    float *image;               /* owned; [C][Z][Y][X] of info->shape */
    int16_t *seg;               /* owned; [Z][Y][X]; -1 outside; NULL without a label */
    int32_t (*locations)[3];    /* owned; NULL where there are none */
    double seconds_read, seconds_resample, seconds_other;
};

/* VX_E_INVALID with the reason of the check that failed (shape_mismatch, spacing_mismatch,
 * unexpected_label, not_finite, channel_mismatch), the reader's errors, VX_E_NOMEM; err->where is
 * the file. info->geometry holds vx_geometry_to_json of the first image. */
int vx_case_make(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                 struct vx_prepared *ret, struct vx_err *err);
/* Whether vx_case_make would take the case: everything is read and checked, nothing is made of it.
 * The same errors; needs the volumes in memory. */
int vx_case_check(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                  struct vx_err *err);
/* vx_case_make from volumes in memory, which are consumed (released as soon as possible). label may
 * be NULL. info gets no sources. */
int vx_case_make_from(const char *name, struct vx_volume *image, struct vx_labelmap *label,
                      const struct vx_case_recipe *recipe, struct vx_prepared *ret,
                      struct vx_err *err);
void vx_prepared_release(struct vx_prepared *p);

/* Writes it below store_dir (vx_cache_build_dir) through core/cache. ret_bytes may be NULL. */
int vx_case_store(const char *store_dir, const struct vx_prepared *p,
                  const struct vx_plan_config *config, uint64_t *ret_bytes, struct vx_err *err);

/* The sources of a case as the store knows them: paths relative to in->dir, sizes, times. For
 * vx_cache_member; *ret (struct vx_cache_source[], owned by the caller) has n_images + 1 entries
 * with a label. */
struct vx_cache_source;
int vx_case_sources(const struct vx_case_input *in, struct vx_cache_source **ret, size_t *ret_n,
                    struct vx_err *err);

/* Peak bytes of memory that vx_case_make needs and voxels of the prepared case, from the headers
 * (crop unknown: the whole volume is assumed). Either may be NULL. */
int vx_case_estimate(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                     uint64_t *ret_memory, uint64_t *ret_voxels, struct vx_err *err);

#define vx_auto_prepared __attribute__((cleanup(vx_prepared_release)))

#endif
