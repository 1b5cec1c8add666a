/* The kernels for any CPU. */
#define VX_TABLE vx_aug_kernels_portable
#define VX_NAME  "portable"
#include "augment/simd/gather_portable.h"

#include "augment/simd/body.h"
