/* float activations, avx2. */
#define VX_TABLE vx_cpu_kernels_avx2
#include "body.h"
