/* Eight channels at a time: 16 bytes of bfloat16, in memory and as floats. Private to this room. */
#ifndef VX_DEVICE_CUDA_KERNELS_LANES_H
#define VX_DEVICE_CUDA_KERNELS_LANES_H

#include "augment/voxel.h"
#include "device/cuda/kernels/phases.h"

struct vx_pack8 {
    uint32_t u[4];
};

/* Round to nearest even; NaN stays NaN. */
VX_INLINE uint32_t vx_bf16_bits(float x) {
    uint32_t u = vx_float_bits(x);
    return (u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

VX_INLINE uint32_t vx_bf16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return vx_bf16_bits(low) | vx_bf16_bits(high) << 16;
#endif
}

/* element: index of the first of eight in a bfloat16 array. */
VX_INLINE struct vx_pack8 vx_load8(const void *data, int64_t element) {
    const char *p = (const char *)data + element * 2;
    struct vx_pack8 pack;
#ifdef __CUDA_ARCH__
    uint4 v = *(const uint4 *)p;
    pack.u[0] = v.x;
    pack.u[1] = v.y;
    pack.u[2] = v.z;
    pack.u[3] = v.w;
#else
    memcpy(&pack, p, sizeof pack);
#endif
    return pack;
}

VX_INLINE void vx_unpack8(const struct vx_pack8 *pack, float ret[8]) {
    VX_UNROLL for (int i = 0; i < 4; i++) {
        ret[2 * i] = vx_bits_float(pack->u[i] << 16);
        ret[2 * i + 1] = vx_bits_float(pack->u[i] & 0xffff0000u);
    }
}

VX_INLINE void vx_store8(void *data, int64_t element, const float value[8]) {
    char *p = (char *)data + element * 2;
    struct vx_pack8 pack;
    VX_UNROLL for (int i = 0; i < 4; i++) {
        pack.u[i] = vx_bf16_pair(value[2 * i], value[2 * i + 1]);
    }
#ifdef __CUDA_ARCH__
    *(uint4 *)p = make_uint4(pack.u[0], pack.u[1], pack.u[2], pack.u[3]);
#else
    memcpy(p, &pack, sizeof pack);
#endif
}

/* Eight floats; element a multiple of 4. */
VX_INLINE void vx_load_floats(const float *data, int64_t element, float ret[8]) {
#ifdef __CUDA_ARCH__
    float4 a = *(const float4 *)(data + element), b = *(const float4 *)(data + element + 4);
    ret[0] = a.x, ret[1] = a.y, ret[2] = a.z, ret[3] = a.w;
    ret[4] = b.x, ret[5] = b.y, ret[6] = b.z, ret[7] = b.w;
#else
    memcpy(ret, data + element, 8 * sizeof(float));
#endif
}

VX_INLINE void vx_store_floats(float *data, int64_t element, const float value[8]) {
#ifdef __CUDA_ARCH__
    *(float4 *)(data + element) = make_float4(value[0], value[1], value[2], value[3]);
    *(float4 *)(data + element + 4) = make_float4(value[4], value[5], value[6], value[7]);
#else
    memcpy(data + element, value, 8 * sizeof(float));
#endif
}

/* values[first..first + 8) of an array of count; 0 past its end, or without an array. */
VX_INLINE void vx_load_channels(const float *values, int first, int count, float ret[8]) {
    VX_UNROLL for (int i = 0; i < 8; i++) {
        ret[i] = values && first + i < count ? values[first + i] : 0.0f;
    }
}

#endif
