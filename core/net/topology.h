/* The plan's architecture as plain numbers, checked. Private to this room. Thread: any. */
#ifndef VX_NET_TOPOLOGY_H
#define VX_NET_TOPOLOGY_H

#include <stdbool.h>

struct vx_err;
struct vx_plan_config;

#define VX_NET_MAX_STAGES 9 /* VX_MAX_HEADS + 1 */
#define VX_NET_MAX_CONVS  8

struct vx_topology {
    int stages;
    int features[VX_NET_MAX_STAGES];
    int kernel[VX_NET_MAX_STAGES][3]; /* D, H, W; 2d: [0] = 1 */
    int stride[VX_NET_MAX_STAGES][3];
    int convs[VX_NET_MAX_STAGES];         /* blocks per encoder stage */
    int decoder_convs[VX_NET_MAX_STAGES]; /* blocks per decoder step, bottleneck up */
    int size[VX_NET_MAX_STAGES][3];       /* D, H, W of the tensors of each stage */
    bool batch_dice;
};

/* patch: D, H, W; all 0 takes the plan's. VX_E_INVALID names the field that is wrong. */
int vx_topology_from_plan(const struct vx_plan_config *cfg, const int patch[3],
                          struct vx_topology *ret, struct vx_err *err);

#endif
