/* The networks of a model's folds on a device: one prepared image to the mean of their logits.
 *
 * Source: nnU-Net v2's predictor, which averages logits, not probabilities, over folds; each fold
 * sees all tiles and mirrorings. One program is compiled for all of them; the weights of a fold
 * are brought to the device before its pass. Thread: that of the device; one at a time. */
#ifndef VX_INFER_ENSEMBLE_H
#define VX_INFER_ENSEMBLE_H

#include "base/hash.h"
#include "infer/sliding.h"

struct vx_device;
struct vx_ensemble;
struct vx_model;

/* Tiles per run of the network where nothing else is asked for: enough to fill the threads, small
 * enough for a GPU that others use too. */
#define VX_ENSEMBLE_TILES 4

struct vx_ensemble_options {
    struct vx_device *device; /* borrowed, outlives the ensemble */
    int precision;            /* enum vx_precision */
    int tiles;                /* 0: VX_ENSEMBLE_TILES */
    bool no_mirroring;        /* else over the model's axes */
    double step;              /* 0: 0.5 */
};

/* model: borrowed, outlives the ensemble. */
int vx_ensemble_create(const struct vx_model *model, const struct vx_ensemble_options *options,
                       struct vx_ensemble **ret, struct vx_err *err);
/* Accepts NULL; returns NULL. */
struct vx_ensemble *vx_ensemble_free(struct vx_ensemble *e);
int vx_ensemble_classes(const struct vx_ensemble *e);
/* Names all that its logits depend on (infer/stamp.h): the model, mirroring, step and precision. */
int vx_ensemble_stamp(const struct vx_ensemble *e, char ret[VX_SHA256_HEX], struct vx_err *err);
/* image [channels][Z][Y][X] of shape, logits [classes][Z][Y][X], as vx_predictor_run; ticks count
 * over all folds. */
int vx_ensemble_run(struct vx_ensemble *e, const float *image, const int64_t shape[3],
                    float *logits, vx_sliding_tick_fn tick, void *context, struct vx_err *err);

static inline void vx_own_ensemble(struct vx_ensemble **e) {
    vx_ensemble_free(*e);
}
#define vx_auto_ensemble __attribute__((cleanup(vx_own_ensemble)))

#endif
