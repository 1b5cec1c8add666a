/* The networks of tests/oracle/configs.py, by name. */
#ifndef VX_TESTS_NET_CONFIGS_H
#define VX_TESTS_NET_CONFIGS_H

#include "plan/plans.h"

#include <string.h>

struct net_case {
    const char *name;
    int patch[3];
    int stages;
    int features[9];
    int stride[9][3];
    int flat_kernels; /* the first so many stages have kernel 1, 3, 3 */
    int channels, classes;
    bool batch_dice;
    int64_t parameters;
};

#define NET_TWOS3                                                                                  \
    {1, 1, 1}, {2, 2, 2}, {                                                                        \
        2, 2, 2                                                                                    \
    }

static const struct net_case NET_CASES[] = {
    {"hippocampus",
     {40, 56, 40},
     4,
     {32, 64, 128, 256},
     {NET_TWOS3, {2, 2, 2}},
     0,
     1,
     3,
     false,
     5603177},
    {"hippocampus_2d",
     {1, 56, 40},
     4,
     {32, 64, 128, 256},
     {{1, 1, 1}, {1, 2, 2}, {1, 2, 2}, {1, 2, 2}},
     4,
     1,
     3,
     true,
     1928489},
    {"demo", {40, 56, 40}, 3, {16, 32, 64}, {NET_TWOS3}, 0, 1, 3, false, 340022},
    {"aniso", {8, 32, 32}, 3, {16, 32, 64}, {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}}, 1, 2, 4, true, 0},
    {"prostate",
     {20, 320, 256},
     7,
     {32, 64, 128, 256, 320, 320, 320},
     {{1, 1, 1}, {1, 2, 2}, {1, 2, 2}, {2, 2, 2}, {2, 2, 2}, {1, 2, 2}, {1, 2, 2}},
     2,
     1,
     3,
     false,
     0},
    {"liver",
     {128, 128, 128},
     6,
     {32, 64, 128, 256, 320, 320},
     {NET_TWOS3, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}},
     0,
     1,
     3,
     false,
     31196399},
};

static inline struct vx_plan_config net_config(const struct net_case *c) {
    struct vx_plan_config p = {.batch_size = 2, .n_stages = c->stages, .batch_dice = c->batch_dice};
    for (int s = 0; s < c->stages; s++) {
        p.features[s] = c->features[s];
        memcpy(p.strides[s], c->stride[s], sizeof(p.strides[s]));
        p.kernels[s][0] = s < c->flat_kernels ? 1 : 3;
        p.kernels[s][1] = p.kernels[s][2] = 3;
        p.convs_encoder[s] = 2;
        if (s + 1 < c->stages) {
            p.convs_decoder[s] = 2;
        }
    }
    memcpy(p.patch_size, c->patch, sizeof(p.patch_size));
    return p;
}

#endif
