#include "augment/kernels.h"

extern const struct vx_aug_kernels vx_aug_kernels_portable, vx_aug_kernels_avx2,
    vx_aug_kernels_avx512;

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct vx_aug_kernels *vx_aug_kernels_at(int i) {
    const struct vx_aug_kernels *all[4] = {&vx_aug_kernels_portable};
    int n = 1;
    if (has_avx2()) {
        all[n++] = &vx_aug_kernels_avx2;
    }
    if (has_avx512()) {
        all[n++] = &vx_aug_kernels_avx512;
    }
    return i < n ? all[i] : NULL;
}

const struct vx_aug_kernels *vx_aug_kernels(void) {
    return has_avx512() ? &vx_aug_kernels_avx512
           : has_avx2() ? &vx_aug_kernels_avx2
                        : &vx_aug_kernels_portable;
}
