/* float activations, avx512. */
#define VX_TABLE vx_cpu_kernels_avx512
#include "body.h"
