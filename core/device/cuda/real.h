/* The table of api.h on a real GPU. Private to this room. */
#ifndef VX_DEVICE_CUDA_REAL_H
#define VX_DEVICE_CUDA_REAL_H

struct cuda_api;

extern const struct cuda_api cuda_real_api;

#endif
