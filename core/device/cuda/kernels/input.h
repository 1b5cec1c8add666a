/* Phases of what comes from the ring: images to NDHWC, labels to the targets of every head. Private
 * to this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_INPUT_H
#define VX_DEVICE_CUDA_KERNELS_INPUT_H

#include "device/cuda/kernels/lanes.h"

enum { INPUT_VOXELS = 4, IMAGE_VOXELS = 2 }; /* per thread */

struct image_arguments {
    const float *slots;
    int64_t sample_stride, voxels, per_sample; /* blocks of one sample */
    int channels, padded;
    struct vx_cuda_view out;
};

/* Reads whole rows of a plane, writes whole voxels. */
VX_INLINE void input_images(int phase, const struct image_arguments *a, int block, int thread,
                            struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)r, (void)s;
    int64_t n = block / a->per_sample;
    int64_t first = block % a->per_sample * (VX_THREADS * IMAGE_VOXELS) + thread;
    const float *sample = a->slots + n * a->sample_stride;
    for (int c = 0; c < a->padded; c += VX_CUDA_LANES) {
        float x[IMAGE_VOXELS][8];
        VX_UNROLL for (int j = 0; j < IMAGE_VOXELS; j++) {
            int64_t v = vx_at_most(first + j * VX_THREADS, a->voxels - 1);
            VX_UNROLL for (int i = 0; i < 8; i++) {
                x[j][i] = c + i < a->channels ? sample[(c + i) * a->voxels + v] : 0.0f;
            }
        }
        VX_UNROLL for (int j = 0; j < IMAGE_VOXELS; j++) {
            int64_t v = first + j * VX_THREADS;
            if (v < a->voxels) {
                vx_store8(a->out.data, (n * a->voxels + v) * a->out.pitch + c, x[j]);
            }
        }
    }
}

struct target_arguments {
    struct vx_cuda_targets t;
    int64_t first_block[VX_CUDA_MAX_HEADS + 1];
};

struct target_shared {
    int32_t top[VX_THREADS];
    int32_t tops[VX_THREADS / 16];
};

/* Nearest-exact, as device/oplist.h has it: floor((o + 0.5) * in / out). */
VX_INLINE uint32_t input_source(uint32_t o, int in, int out) {
    return (2 * o + 1) * (uint32_t)in / (2 * (uint32_t)out);
}

/* The label that voxel v (of all samples) of head h picks. */
VX_INLINE int input_label(const struct vx_cuda_targets *t, int h, uint32_t v) {
    const int *out = t->head_shape[h];
    uint32_t x = v % (uint32_t)out[2], row = v / (uint32_t)out[2];
    uint32_t y = row % (uint32_t)out[1], plane = row / (uint32_t)out[1];
    uint32_t z = plane % (uint32_t)out[0], n = plane / (uint32_t)out[0];
    const int16_t *sample = t->labels + n * t->sample_stride;
    int64_t from = (int64_t)input_source(z, t->shape[0], out[0]) * t->shape[1] +
                   input_source(y, t->shape[1], out[1]);
    return sample[from * t->shape[2] + input_source(x, t->shape[2], out[2])];
}

VX_INLINE int64_t input_head_voxels(const struct vx_cuda_targets *t, int h) {
    return (int64_t)t->n * t->head_shape[h][0] * t->head_shape[h][1] * t->head_shape[h][2];
}

/* Targets of this thread's voxels; returns the largest label among them. */
VX_INLINE int32_t input_thread_targets(const struct target_arguments *a, int block, int thread) {
    const struct vx_cuda_targets *t = &a->t;
    int h = 0;
    while (block >= a->first_block[h + 1]) {
        h++;
    }
    int64_t first = (block - a->first_block[h]) * (VX_THREADS * INPUT_VOXELS) + thread;
    int64_t voxels = input_head_voxels(t, h);
    int32_t top = 0;
    VX_UNROLL for (int j = 0; j < INPUT_VOXELS; j++) {
        int64_t v = first + j * VX_THREADS;
        if (v < voxels) {
            int label = input_label(t, h, (uint32_t)v);
            bool ignored = label == t->ignore;
            label = label < 0 || ignored ? 0 : label;
            top = label > top ? label : top;
            t->targets[h][v] = (uint8_t)(ignored ? VX_CUDA_IGNORE : label);
        }
    }
    return top;
}

VX_INLINE void input_keep_top(int32_t *to, int32_t top) {
#ifdef __CUDA_ARCH__
    atomicMax(to, top);
#else
    *to = top > *to ? top : *to;
#endif
}

enum { INPUT_TARGETS_PHASES = 3 };

VX_INLINE void input_targets(int phase, const struct target_arguments *a, int block, int thread,
                             struct vx_nothing *r, struct target_shared *s) {
    (void)r;
    if (phase == 0) {
        s->top[thread] = input_thread_targets(a, block, thread);
    } else if (phase == 1 && thread < VX_THREADS / 16) {
        int32_t top = 0;
        for (int i = 0; i < 16; i++) {
            int32_t here = s->top[thread * 16 + i];
            top = here > top ? here : top;
        }
        s->tops[thread] = top;
    } else if (phase == 2 && thread == 0) {
        int32_t top = 0;
        for (int i = 0; i < VX_THREADS / 16; i++) {
            top = s->tops[i] > top ? s->tops[i] : top;
        }
        input_keep_top(&a->t.result->top_label, top);
    }
}

/* Before the launch above. */
VX_INLINE void input_clear_top(int phase, const struct target_arguments *a, int block, int thread,
                               struct vx_nothing *r, struct vx_nothing *s) {
    (void)phase, (void)block, (void)r, (void)s;
    if (thread == 0) {
        a->t.result->top_label = 0;
    }
}

#endif
