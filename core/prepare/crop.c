#include "prepare/crop.h"

#include "base/err.h"
#include "base/own.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* States of a voxel while holes are looked for. */
enum { ZERO = 0, NONZERO = 1, OUTSIDE = 2 };

/* Zero voxels that the flood has still to go through, as one voxel of a run along x each. */
struct flood {
    uint8_t *state;
    const int64_t *shape;
    int64_t *stack; /* owned */
    size_t n, cap;
};

static int push(struct flood *f, int64_t at) {
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 1024;
        int64_t *grown = realloc(f->stack, cap * sizeof *grown);
        if (!grown) {
            return VX_E_NOMEM;
        }
        f->stack = grown;
        f->cap = cap;
    }
    f->stack[f->n++] = at;
    return VX_OK;
}

/* Pushes one voxel of every run of zeros in row[lo, hi]; row is the index of the row's first voxel.
 */
static int push_runs(struct flood *f, int64_t row, int64_t lo, int64_t hi) {
    int rc = VX_OK;
    for (int64_t x = lo; x <= hi && rc == VX_OK; x++) {
        if (f->state[row + x] == ZERO && (x == lo || f->state[row + x - 1] != ZERO)) {
            rc = push(f, row + x);
        }
    }
    return rc;
}

/* Marks the run around the voxel as outside and pushes its neighbours above, below, before, behind.
 */
static int spread(struct flood *f, int64_t at) {
    int64_t nx = f->shape[2], ny = f->shape[1], nz = f->shape[0];
    int64_t x = at % nx, y = at / nx % ny, z = at / nx / ny, row = at - x;
    int64_t lo = x, hi = x;
    if (f->state[at] != ZERO) {
        return VX_OK;
    }
    while (lo > 0 && f->state[row + lo - 1] == ZERO) {
        lo--;
    }
    while (hi + 1 < nx && f->state[row + hi + 1] == ZERO) {
        hi++;
    }
    memset(f->state + row + lo, OUTSIDE, (size_t)(hi - lo + 1));
    int rc = VX_OK;
    if (y > 0) {
        rc = push_runs(f, row - nx, lo, hi);
    }
    if (y + 1 < ny && rc == VX_OK) {
        rc = push_runs(f, row + nx, lo, hi);
    }
    if (z > 0 && rc == VX_OK) {
        rc = push_runs(f, row - nx * ny, lo, hi);
    }
    if (z + 1 < nz && rc == VX_OK) {
        rc = push_runs(f, row + nx * ny, lo, hi);
    }
    return rc;
}

static int drain(struct flood *f) {
    int rc = VX_OK;
    while (f->n > 0 && rc == VX_OK) {
        rc = spread(f, f->stack[--f->n]);
    }
    return rc;
}

/* From every zero voxel on the six faces of the array. */
static int flood_from_faces(struct flood *f) {
    int64_t nx = f->shape[2], ny = f->shape[1], nz = f->shape[0];
    int rc = VX_OK;
    for (int64_t z = 0; z < nz && rc == VX_OK; z++) {
        for (int64_t y = 0; y < ny && rc == VX_OK; y++) {
            int64_t row = (z * ny + y) * nx;
            if (z == 0 || z == nz - 1 || y == 0 || y == ny - 1) {
                rc = push_runs(f, row, 0, nx - 1);
            } else {
                rc = push_runs(f, row, 0, 0);
                rc = rc == VX_OK ? push_runs(f, row, nx - 1, nx - 1) : rc;
            }
            rc = rc == VX_OK ? drain(f) : rc;
        }
    }
    return rc;
}

static void mark_nonzero(const float *image, int channels, size_t n, uint8_t *mask) {
    for (size_t i = 0; i < n; i++) {
        mask[i] = image[i] != 0 ? NONZERO : ZERO;
    }
    for (int c = 1; c < channels; c++) {
        const float *plane = image + (size_t)c * n;
        for (size_t i = 0; i < n; i++) {
            mask[i] |= plane[i] != 0 ? NONZERO : ZERO;
        }
    }
}

/* Turns states into 0 and 1 and finds the box of the ones. */
static void bounding_box(uint8_t *mask, const int64_t shape[3], struct vx_crop_box *ret) {
    struct vx_crop_box box = {{shape[0], shape[1], shape[2]}, {0, 0, 0}};
    for (int64_t z = 0; z < shape[0]; z++) {
        for (int64_t y = 0; y < shape[1]; y++) {
            uint8_t *row = mask + (z * shape[1] + y) * shape[2];
            int64_t first = shape[2], last = -1;
            for (int64_t x = 0; x < shape[2]; x++) {
                row[x] = row[x] != OUTSIDE;
                if (row[x]) {
                    first = x < first ? x : first;
                    last = x;
                }
            }
            if (last >= 0) {
                const int64_t lo[3] = {z, y, first}, hi[3] = {z + 1, y + 1, last + 1};
                for (int a = 0; a < 3; a++) {
                    box.lo[a] = lo[a] < box.lo[a] ? lo[a] : box.lo[a];
                    box.hi[a] = hi[a] > box.hi[a] ? hi[a] : box.hi[a];
                }
            }
        }
    }
    if (box.hi[0] == 0) { /* nothing but zeros: nothing to crop to */
        box = (struct vx_crop_box){{0, 0, 0}, {shape[0], shape[1], shape[2]}};
    }
    *ret = box;
}

int vx_crop_find(const float *image, int channels, const int64_t shape[3], uint8_t *ret_mask,
                 struct vx_crop_box *ret_box, struct vx_err *err) {
    size_t n = (size_t)(shape[0] * shape[1] * shape[2]);
    mark_nonzero(image, channels, n, ret_mask);
    struct flood f = {.state = ret_mask, .shape = shape};
    int rc = flood_from_faces(&f);
    free(f.stack);
    if (rc != VX_OK) {
        return vx_fail(err, rc, NULL, "no memory to crop a volume of %zu voxels", n);
    }
    bounding_box(ret_mask, shape, ret_box);
    return VX_OK;
}

void vx_crop_box_shape(const struct vx_crop_box *box, int64_t ret_shape[3]) {
    for (int a = 0; a < 3; a++) {
        ret_shape[a] = box->hi[a] - box->lo[a];
    }
}

void vx_crop_image(const float *src, int channels, const int64_t shape[3],
                   const struct vx_crop_box *box, float *dst) {
    size_t width = (size_t)(box->hi[2] - box->lo[2]);
    for (int c = 0; c < channels; c++) {
        for (int64_t z = box->lo[0]; z < box->hi[0]; z++) {
            for (int64_t y = box->lo[1]; y < box->hi[1]; y++) {
                const float *row = src + ((c * shape[0] + z) * shape[1] + y) * shape[2];
                memcpy(dst, row + box->lo[2], width * sizeof *dst);
                dst += width;
            }
        }
    }
}

void vx_crop_labels(const int16_t *src, const uint8_t *mask, const int64_t shape[3],
                    const struct vx_crop_box *box, int16_t *dst) {
    for (int64_t z = box->lo[0]; z < box->hi[0]; z++) {
        for (int64_t y = box->lo[1]; y < box->hi[1]; y++) {
            int64_t row = (z * shape[1] + y) * shape[2];
            for (int64_t x = box->lo[2]; x < box->hi[2]; x++) {
                int16_t label = src ? src[row + x] : 0;
                *dst++ = label == 0 && !mask[row + x] ? -1 : label;
            }
        }
    }
}
