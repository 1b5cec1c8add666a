/* Simulated low resolution: nearest-exact down, then linearly up. Only the voxels that the small
 * volume picks are looked at: their rows are widened straight from the channel, then planes are
 * mixed along z and y. */
#include "augment/transforms/parts.h"
#include "augment/voxel.h"

#include <math.h>
#include <string.h>

size_t vx_aug_lowres_scratch(const int32_t size[3]) {
    size_t plane = (size_t)size[1] * (size_t)size[2];
    /* the small volume with whole rows, one plane of it, four numbers per index of each axis */
    return plane * (size_t)size[0] + plane + 4 * (size_t)(size[0] + size[1] + size[2]);
}

/* Where the indices of an axis lie in the small one. Along a mirrored axis the channel runs
 * backwards; which voxels the small one picks is as if it did not. */
static void make_ladder(struct vx_ladder *l, int32_t n, int32_t small, bool mirrored) {
    l->small = small;
    for (int32_t i = 0; i < n; i++) {
        vx_linear_source(mirrored ? n - 1 - i : i, small, n, &l->lo[i], &l->hi[i], &l->f[i]);
    }
    for (int32_t s = 0; s < small; s++) {
        int32_t picked = vx_nearest_exact(s, n, small);
        l->picked[s] = mirrored ? n - 1 - picked : picked;
    }
}

/* Every row that the small volume picks, at its full width again. */
static void widen_rows(const struct vx_lowres *r, float *x) {
    const struct vx_ladder *lz = &r->ladder[0], *ly = &r->ladder[1], *lx = &r->ladder[2];
    size_t width = (size_t)r->size[2];
    for (size_t i = 0; i < width; i++) {
        lx->lo[i] = lx->picked[lx->lo[i]];
        lx->hi[i] = lx->picked[lx->hi[i]];
    }
    float *out = r->wide;
    for (int32_t z = 0; z < lz->small; z++) {
        for (int32_t y = 0; y < ly->small; y++, out += width) {
            size_t row = (size_t)lz->picked[z] * (size_t)r->size[1] + (size_t)ly->picked[y];
            r->kernels->widen(out, x + row * width, lx->lo, lx->hi, lx->f, width);
        }
    }
}

void vx_aug_lowres_begin(struct vx_lowres *r, const struct vx_aug_kernels *k, float *x,
                         const int32_t size[3], float zoom, uint32_t axes, uint32_t mirror,
                         float *scratch) {
    size_t plane = (size_t)size[1] * (size_t)size[2];
    *r = (struct vx_lowres){.kernels = k, .x = x, .slab = scratch, .wide = scratch + plane};
    memcpy(r->size, size, sizeof r->size);
    int32_t *numbers = (int32_t *)(r->wide + plane * (size_t)size[0]);
    for (int i = 0; i < 3; i++) {
        int32_t n = size[i], small = axes >> i & 1u ? (int32_t)rint((double)n * (double)zoom) : n;
        r->ladder[i] = (struct vx_ladder){.lo = numbers,
                                          .hi = numbers + n,
                                          .picked = numbers + 2 * n,
                                          .f = (float *)(numbers + 3 * n)};
        make_ladder(&r->ladder[i], n, small < 1 ? 1 : small, mirror >> i & 1u);
        numbers += 4 * n;
    }
    widen_rows(r, x);
}

void vx_aug_lowres_plane(void *lowres, int32_t z) {
    const struct vx_lowres *r = lowres;
    const struct vx_ladder *lz = &r->ladder[0], *ly = &r->ladder[1];
    size_t width = (size_t)r->size[2], slab = (size_t)ly->small * width;
    float *x = r->x + (size_t)z * (size_t)r->size[1] * width;
    r->kernels->mix(r->slab, r->wide + (size_t)lz->lo[z] * slab, r->wide + (size_t)lz->hi[z] * slab,
                    lz->f[z], slab);
    for (int32_t y = 0; y < r->size[1]; y++) {
        r->kernels->mix(x + (size_t)y * width, r->slab + (size_t)ly->lo[y] * width,
                        r->slab + (size_t)ly->hi[y] * width, ly->f[y], width);
    }
}
