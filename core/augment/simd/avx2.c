/* The kernels for AVX2 and FMA. */
#define VX_TABLE vx_aug_kernels_avx2
#define VX_NAME  "avx2"
#include "augment/simd/gather_avx2.h"

#include "augment/simd/body.h"
