/* Sliding-window prediction: one prepared volume through a compiled network, tile by tile, to
 * logits.
 *
 * Source: nnU-Net v2's predictor. Tiles overlap by half (step 0.5): n = ceil((S - P) / (step * P))
 * + 1 along an axis of S voxels with a patch of P, starts round(k * (S - P) / (n - 1)). Volumes
 * smaller than the patch are padded with zeros on both sides, the odd voxel at the end. Each tile
 * is weighted by a Gaussian of sigma P / 8 around voxel P / 2 and averaged over all mirrorings
 * (2^axes). Averages are of logits. The Gaussian is a product of one factor per axis, so is the sum
 * of weights, and no volume of weights is kept.
 *
 * The network has a fixed batch N: mirrored tiles fill it, several tiles where needed; the rest of
 * the last batch repeats a tile and is thrown away. Axes are the plan's array axes. A 2d network
 * has patch[0] = 1: every slice is visited once. Thread: that of the device; one at a time. Equal
 * inputs give equal bits.
 *
 * Where the device adds up tiles (vx_sums_begin) and has room for the volume, they are cut,
 * weighted and divided there, in fp32 too: results differ from those of the host by the rounding of
 * sums of a few dozen terms. Else it is done here, with N x (channels + classes) tiles of memory
 * beside the caller's logits ([classes][Z][Y][X] float). */
#ifndef VX_INFER_SLIDING_H
#define VX_INFER_SLIDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_oplist;
struct vx_program;
struct vx_predictor;

struct vx_sliding_options {
    bool mirror[3]; /* array axes to mirror: the plan's; all false: no test-time augmentation */
    double step;    /* tile distance in patches, (0, 1]; 0 means 0.5 */
};

/* Called after every run of the network; anything but 0 ends the prediction with VX_E_CANCELLED. */
typedef int (*vx_sliding_tick_fn)(void *context, int64_t done, int64_t total);

/* Number of tiles along an axis of size voxels (padded to the patch where smaller). */
int64_t vx_sliding_count(int64_t size, int64_t patch, double step);
/* First voxel of tile k; negative where the volume is smaller than the patch. */
int64_t vx_sliding_start(int64_t size, int64_t patch, double step, int64_t k);
/* One axis of the importance map, maximum 1: patch values. */
void vx_sliding_importance(int64_t patch, float *ret);

/* program: compiled with VX_MODE_INFER from net; both borrowed, outlive the predictor. The patch is
 * the shape of net's input, its batch the number of tiles per run. */
int vx_predictor_create(struct vx_program *program, const struct vx_oplist *net,
                        const struct vx_sliding_options *options, struct vx_predictor **ret,
                        struct vx_err *err);
/* Accepts NULL; returns NULL. */
struct vx_predictor *vx_predictor_free(struct vx_predictor *p);
int vx_predictor_classes(const struct vx_predictor *p);
int vx_predictor_channels(const struct vx_predictor *p);

/* image [channels][Z][Y][X] of shape; logits [classes][Z][Y][X], overwritten, caller's memory. tick
 * may be NULL. A logit that is not finite is VX_E_DEVICE "logits_not_finite". */
int vx_predictor_run(struct vx_predictor *p, const float *image, const int64_t shape[3],
                     float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err);

/* The same in parts, for the mean of several networks of one shape: begin once, add once with the
 * weights of each, then finish with their number. The weights of the sliding window are those of
 * every pass, so the sums are divided once and no second array of logits is needed. The logits hold
 * nothing of use before finish. */
int vx_predictor_begin(struct vx_predictor *p, const int64_t shape[3], float *logits,
                       struct vx_err *err);
int vx_predictor_add(struct vx_predictor *p, const float *image, const int64_t shape[3],
                     float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err);
int vx_predictor_finish(struct vx_predictor *p, const int64_t shape[3], int passes, float *logits,
                        struct vx_err *err);

static inline void vx_own_predictor(struct vx_predictor **p) {
    vx_predictor_free(*p);
}
#define vx_auto_predictor __attribute__((cleanup(vx_own_predictor)))

#endif
