/* Pretended work of a worker, for measuring and testing what surrounds it: samples that cost
 * nothing, or samples whose augmentation takes a given time, partly of a core and partly asleep, or
 * that leave memory behind. Nobody trains with it: the arrays keep what they held. Thread: any. */
#ifndef VX_LOADER_PRETEND_H
#define VX_LOADER_PRETEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_pretence {
    bool synthetic;      /* neither read nor augmented: as if the batch lay there already */
    bool cold;           /* nothing that was read stays in the page cache */
    uint64_t augment_ns; /* in place of augmenting; 0: the real thing */
    uint64_t cpu_ns;     /* of it on a core; the rest is slept. At most augment_ns */
    size_t leak_bytes;   /* that each sample leaves behind */
};

/* Spends one sample's augment_ns; longer where the core is shared with others. */
void vx_pretend_augment(const struct vx_pretence *p);
/* One sample's leak_bytes, touched and never freed. Thread: one. */
void vx_pretend_leak(const struct vx_pretence *p);

#endif
