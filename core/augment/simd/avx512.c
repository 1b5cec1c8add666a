/* The kernels for AVX-512 F, BW, DQ, VL. */
#define VX_TABLE vx_aug_kernels_avx512
#define VX_NAME  "avx512"
#include "augment/simd/gather_avx512.h"

#include "augment/simd/body.h"
