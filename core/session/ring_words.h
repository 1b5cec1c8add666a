/* The ring's words in shared memory. Private to this room. */
#ifndef VX_SESSION_RING_WORDS_H
#define VX_SESSION_RING_WORDS_H

#include "session/ring.h"

#include <stddef.h>

enum {
    VX_RING_TABLE_STATE = 0,
    VX_RING_TABLE_DESC = 1,
    VX_RING_TABLE_WORDS = 2, /* one 64-byte line per slot, so that slots do not share lines */
    VX_RING_TABLE_SLOTS = 3,
    VX_RING_TABLES = 4
};

/* Words on lines of their own, by who writes them. */
struct vx_ring_state {
    uint64_t next; /* first sample not yet taken; trainer (supervisor: rewind) */
    uint64_t pad0[7];
    uint64_t wants; /* q + 1 of the sample the trainer sleeps for, 0: awake */
    uint32_t ready; /* futex the trainer sleeps on */
    uint32_t pad1[13];
    uint32_t work;     /* futex the workers sleep on */
    uint32_t sleepers; /* workers about to sleep or asleep; too high after a kill, never too low */
    uint32_t pad2[14];
    uint32_t gate; /* enum vx_gate; supervisor */
    uint32_t pad3[15];
};

_Static_assert(offsetof(struct vx_ring_state, wants) == 64, "ring state layout");
_Static_assert(offsetof(struct vx_ring_state, work) == 128, "ring state layout");
_Static_assert(offsetof(struct vx_ring_state, gate) == 192, "ring state layout");

static inline struct vx_ring_state *vx_ring_state(const struct vx_ring *r) {
    return vx_shm_record(&r->shm, VX_RING_TABLE_STATE, 0);
}

static inline uint64_t *vx_ring_word(const struct vx_ring *r, uint64_t slot) {
    return vx_shm_record(&r->shm, VX_RING_TABLE_WORDS, slot);
}

static inline uint64_t vx_slot_word(uint64_t generation, uint16_t owner, enum vx_slot_state state) {
    return (generation & 0xffffffffu) << 32 | (uint64_t)owner << 16 | (uint64_t)state;
}

static inline enum vx_slot_state vx_word_state(uint64_t word) {
    return (enum vx_slot_state)(word & 0xffffu);
}

static inline uint16_t vx_word_owner(uint64_t word) {
    return (uint16_t)(word >> 16);
}

static inline uint32_t vx_word_generation(uint64_t word) {
    return (uint32_t)(word >> 32);
}

#endif
