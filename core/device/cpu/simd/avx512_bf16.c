/* bfloat16 activations, AVX-512 with its bfloat16 instructions. */
#define VX_ACT_BF16 1
#define VX_TABLE    vx_cpu_kernels_avx512_bf16
#include "body.h"
