/* See health.h. */
#include "daemon/devices/health.h"

#include "daemon/evidence/gpu.h"

#include <stdio.h>

#define MOST_DOUBLINGS 5

void vx_health_fault(struct vx_health *h, const char *code, const char *text, uint64_t now_ns,
                     uint64_t pause_ns) {
    uint32_t doublings = h->in_row < MOST_DOUBLINGS ? h->in_row : MOST_DOUBLINGS;
    h->unhealthy = true;
    h->again_ns = now_ns + (pause_ns << doublings);
    h->in_row++;
    h->faults++;
    snprintf(h->code, sizeof h->code, "%s", code);
    snprintf(h->text, sizeof h->text, "%s", text);
}

bool vx_health_look(struct vx_health *h, const struct vx_gpu *look, uint64_t now_ns,
                    uint64_t pause_ns) {
    char code[48], text[320];
    bool fell = look->lost && !h->lost, back = !look->lost && h->lost;
    bool xid = look->faults != h->xids_seen;
    h->lost = look->lost;
    if ((xid || fell) && h->unhealthy && h->in_row > 0) {
        h->in_row--; /* more of the same trouble */
    }
    h->xids_seen = look->faults;
    if (xid) {
        const char *words = vx_xid_fault(look->fault_last);
        snprintf(code, sizeof code, "xid_%u", look->fault_last);
        snprintf(text, sizeof text, "the driver reports Xid %u: %s", look->fault_last,
                 words ? words : "an error of the GPU");
        vx_health_fault(h, code, text, now_ns, pause_ns);
    } else if (fell) {
        vx_health_fault(h, "gpu_lost", "NVIDIA's library says that it has fallen off the bus",
                        now_ns, pause_ns);
    } else if (back) {
        h->again_ns = now_ns;
    }
    return xid || fell;
}

bool vx_health_due(const struct vx_health *h, uint64_t now_ns) {
    return h->unhealthy && !h->lost && now_ns >= h->again_ns;
}

void vx_health_tried(struct vx_health *h) {
    h->unhealthy = false;
    h->code[0] = h->text[0] = '\0';
}

void vx_health_did_well(struct vx_health *h) {
    h->in_row = 0;
}
