/* Small matrix products that stay in registers: what the convolution kernels are made of. Part of
 * body.h. */
#ifndef VX_DEVICE_CPU_SIMD_PRODUCT_H
#define VX_DEVICE_CPU_SIMD_PRODUCT_H

#include "vec.h"

#include <stdbool.h>
#include <stddef.h>

/* Rows of a matrix product that stay in registers, with two vectors each. */
#ifdef __AVX512F__
enum { PRODUCT_ROWS = 14 };
#else
enum { PRODUCT_ROWS = 6 };
#endif

/* One operand of a product: for each plane of the kernel that lies inside the input. */
struct segments {
    int n;
    const float *v[3], *u[3];
};

/* out[m][0 .. wide) = sum over segments and k of v[m * v_row + k * v_step] * u[k][0 .. wide), rows
 * of u being wide vectors; on top of what is there where add. Inlined with constant rows, wide. */
static inline __attribute__((always_inline)) void product(int rows, int wide, bool add,
                                                          const struct segments *s, size_t v_row,
                                                          size_t v_step, size_t u_row, size_t depth,
                                                          float *out, size_t out_row) {
    vec acc[PRODUCT_ROWS][2];
    for (int m = 0; m < rows; m++) {
        for (int w = 0; w < wide; w++) {
            acc[m][w] = add ? vec_load(out + (size_t)m * out_row + (size_t)w * VEC) : vec_all(0);
        }
    }
    for (int n = 0; n < s->n; n++) {
        const float *v = s->v[n], *u = s->u[n];
        for (size_t k = 0; k < depth; k++, v += v_step, u += u_row) {
            vec first = vec_load(u), second = wide == 2 ? vec_load(u + VEC) : first;
#pragma GCC unroll 14
            for (int m = 0; m < rows; m++) {
                vec a = vec_all(v[(size_t)m * v_row]);
                acc[m][0] += a * first;
                if (wide == 2) {
                    acc[m][1] += a * second;
                }
            }
        }
    }
    for (int m = 0; m < rows; m++) {
        for (int w = 0; w < wide; w++) {
            vec_store(out + (size_t)m * out_row + (size_t)w * VEC, acc[m][w]);
        }
    }
}

#define PRODUCT_CASE(r)                                                                            \
    case r:                                                                                        \
        product(r, wide, add, s, v_row, v_step, u_row, depth, out, out_row);                       \
        break;

static inline __attribute__((always_inline)) void
product_rows(int rows, int wide, bool add, const struct segments *s, size_t v_row, size_t v_step,
             size_t u_row, size_t depth, float *out, size_t out_row) {
    switch (rows) {
        PRODUCT_CASE(1)
        PRODUCT_CASE(2)
        PRODUCT_CASE(3)
        PRODUCT_CASE(4)
        PRODUCT_CASE(5)
        PRODUCT_CASE(6)
#ifdef __AVX512F__
        PRODUCT_CASE(7)
        PRODUCT_CASE(8)
        PRODUCT_CASE(9)
        PRODUCT_CASE(10)
        PRODUCT_CASE(11)
        PRODUCT_CASE(12)
        PRODUCT_CASE(13)
        PRODUCT_CASE(14)
#endif
    }
}

#endif
