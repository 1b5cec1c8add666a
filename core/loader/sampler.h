/* Which case and which place a sample comes from: nnU-Net v2's patch sampling, as a pure function.
 *
 * Case: uniform with replacement over the stream's cases. One that is quarantined at (k, j) is
 * drawn again, from the same counter's next numbers: uniform over the others, and every sample that
 * never showed the case stays as it was. Foreground is forced for the samples j >= round(batch * (1
 * - oversample)) of each batch, in both streams. Place: see vx_sample_place. Thread: any. */
#ifndef VX_LOADER_SAMPLER_H
#define VX_LOADER_SAMPLER_H

#include "loader/recipe.h"

#include <stdbool.h>
#include <stdint.h>

/* Case index of sample (stream, k, j); VX_E_NOT_FOUND where every case of the stream is
 * quarantined. */
int vx_sample_case(const struct vx_recipe_view *r, uint32_t stream, uint64_t k, uint32_t j,
                   uint32_t *ret_case);

/* Is foreground forced for sample j of a batch? */
bool vx_sample_forced(const struct vx_recipe_view *r, uint32_t j);

/* What the sampler must know of a case. location() stores voxel i of class c (z, y, x) and returns
 * VX_OK or an error, which is passed on. */
struct vx_sample_source {
    int64_t shape[3];
    uint32_t n_classes; /* classes with a table of locations, the "annotated" one among them */
    const int64_t *n_locations; /* per class; 0: absent from this case */
    int32_t annotated;          /* index of the class "annotated voxels", or -1 */
    int (*location)(void *ctx, uint32_t c, int64_t i, int32_t ret_zyx[3], struct vx_err *err);
    void *ctx;
};

struct vx_place {
    int32_t lo[3];        /* first voxel of the patch in the case; may be negative */
    int32_t size[3];      /* initial patch (train) or final patch (validation) */
    int32_t forced_class; /* class index whose voxel was chosen, or -1 */
};

/* Let L be the loader's patch (initial when training, final in validation), F the final one, and
 * need = L - F, raised per axis to L - shape where the case is smaller. Not forced: uniform from
 * floor(-need / 2) to shape + floor(need / 2) + need mod 2 - L, both included. Forced: one class
 * among the eligible, one of its stored voxels, start = max(lower bound, voxel - L / 2). */
int vx_sample_place(const struct vx_recipe_view *r, uint32_t stream, uint64_t k, uint32_t j,
                    const struct vx_sample_source *src, struct vx_place *ret, struct vx_err *err);

#endif
