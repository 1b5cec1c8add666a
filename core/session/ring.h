/* The ring: S slots of one sample each, filled by workers in any order, consumed by the trainer in
 * the order of q.
 *
 * Sample q lives in slot q mod S, generation q / S. Each slot has one 64-bit word {generation:32,
 * owner:16, state:16}:
 *
 *     FREE(g) -> CLAIMED(g, worker) -> READY(g) -> HELD(g) -> FREE(g + 1)
 *
 * A worker claims the first q of [next, next + window) whose slot is FREE in q's generation. There
 * is no shared counter of claims, so nothing is lost when a worker dies: the supervisor frees what
 * it had claimed, and another worker makes the same bytes again. Waits are futexes on two words:
 * `ready` (the trainer sleeps on it) and `work` (the workers do); the supervisor wakes both at
 * every gate change, reclaim and rewind. No polling.
 *
 * A slot holds struct vx_slot, then C float32 channels [C][D][H][W], then int16 labels [D][H][W],
 * all labels >= 0. One sample view stays valid until it is released. Thread: each function says who
 * may call it. */
#ifndef VX_SESSION_RING_H
#define VX_SESSION_RING_H

#include "session/control.h"
#include "session/schedule.h"
#include "session/shm.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_err;

enum vx_slot_state { VX_SLOT_FREE = 0, VX_SLOT_CLAIMED = 1, VX_SLOT_READY = 2, VX_SLOT_HELD = 3 };
enum vx_slot_dtype { VX_DTYPE_NONE = 0, VX_DTYPE_F32 = 1, VX_DTYPE_I16 = 2 };
enum vx_slot_flag {
    VX_SLOT_FORCED = 1u /* foreground was forced */,
    VX_SLOT_SPATIAL = 2u /* was rotated or scaled */
};

/* Shapes and places of a slot's arrays, the same for all slots. Offsets from the slot's start,
 * strides in bytes. */
struct vx_ring_desc {
    uint32_t channels;
    uint32_t size[3]; /* D, H, W; D = 1 in 2d */
    uint32_t image_dtype, label_dtype,
        previous_dtype; /* enum vx_slot_dtype; previous stage: none yet */
    uint32_t reserved;
    uint64_t image_offset, label_offset, previous_offset;
    uint64_t image_stride[4]; /* C, D, H, W */
    uint64_t label_stride[3]; /* D, H, W */
    uint64_t slot_bytes;      /* used bytes of a slot */
    struct vx_sample_schedule schedule;
};

/* The head of a slot, written by the worker that fills it. */
struct vx_slot {
    uint64_t q, k;
    uint32_t stream, j, epoch;
    uint32_t case_index;  /* in the recipe's case list */
    int32_t lo[3];        /* start of the (initial) patch in the cached volume; may be negative */
    uint32_t flags;       /* enum vx_slot_flag */
    int32_t forced_class; /* -1: none */
    uint32_t worker;
    uint64_t read_ns, augment_ns;
};

struct vx_ring {
    struct vx_shm shm;
    struct vx_ring_desc desc; /* copied when created or mapped */
    uint32_t slots;           /* S */
};

/* One sample as the trainer sees it; pointers into the slot. */
struct vx_sample {
    const struct vx_slot *head;
    const float *image;   /* [C][D][H][W] */
    const int16_t *label; /* [D][H][W], >= 0 */
};

/* How many slots: max(12, 4 * workers_max + 3 * batch), fewer where that would pass cap_bytes (0:
 * 256 MiB), yet never below 2 * batch + 2. The trainer holds the batch that runs and the one that
 * waits behind it, and a third one can be whole meanwhile; four slots a worker let the others go on
 * while one makes a heavy sample (tests/sim/test_rules.c has the figures). slot_bytes from
 * vx_ring_slot_bytes. workers_max: the most workers the session may ever have. */
uint32_t vx_ring_plan(uint64_t slot_bytes, uint32_t workers_max, uint32_t batch,
                      uint64_t cap_bytes);
/* Bytes a slot takes in memory, rounded to pages. */
uint64_t vx_ring_slot_bytes(uint32_t channels, const uint32_t size[3]);

/* Supervisor: makes a ring whose first sample is first_q (vx_sample_q of the batch to start at). */
int vx_ring_create(uint32_t channels, const uint32_t size[3],
                   const struct vx_sample_schedule *schedule, uint32_t slots, uint64_t first_q,
                   struct vx_ring *ret, struct vx_err *err);
/* step and workers: maps it writable; owns fd on success. */
int vx_ring_map(int fd, struct vx_ring *ret, struct vx_err *err);
void vx_ring_close(struct vx_ring *r);

/* --- workers --- */

/* Read before vx_ring_claim, handed to vx_ring_wait_work: a change in between is then never slept
 * over. */
uint32_t vx_ring_work_mark(const struct vx_ring *r);
/* Claims the first sample that nobody has. VX_OK; VX_E_BUSY: nothing to do now (the window is full,
 * the rest of the schedule is made, or the gate is paused: wait, as a release, reclaim or rewind
 * brings work); VX_E_CANCELLED: the gate is stopped. window 0: as many as there are slots; one
 * smaller than a batch counts as a batch. */
int vx_ring_claim(struct vx_ring *r, uint16_t worker, uint32_t window, uint64_t *ret_q);
void vx_ring_wait_work(struct vx_ring *r, uint32_t mark, uint64_t timeout_ns);
/* The claimed slot's parts, for writing. */
struct vx_slot *vx_ring_slot(const struct vx_ring *r, uint64_t q);
float *vx_ring_image(const struct vx_ring *r, uint64_t q);
int16_t *vx_ring_label(const struct vx_ring *r, uint64_t q);
/* Hands the sample to the trainer and wakes it when it waits for this one. False where the claim
 * was taken back. */
bool vx_ring_publish(struct vx_ring *r, uint16_t worker, uint64_t q);
/* Gives a claim back unfilled (leaving, unreadable case). */
void vx_ring_unclaim(struct vx_ring *r, uint16_t worker, uint64_t q);

/* --- trainer --- */

/* The next q to take; after creation or rewind the first one. */
uint64_t vx_ring_next(const struct vx_ring *r);
/* Samples ready from q = next onwards without a gap. */
uint32_t vx_ring_depth(const struct vx_ring *r);
/* Waits for sample vx_ring_next() and holds it. VX_E_TIMEOUT after timeout_ns; VX_E_CANCELLED where
 * the gate is stopped and the sample not ready. Up to S - 1 samples may be held at a time. */
int vx_ring_take(struct vx_ring *r, uint64_t timeout_ns, uint64_t *ret_q, struct vx_sample *ret);
/* Gives a held slot back to the workers; any order. */
void vx_ring_release(struct vx_ring *r, uint64_t q);

/* --- supervisor --- */

/* Pause, open or stop the claiming of samples; a running sample is finished. Wakes all sleepers. */
void vx_ring_set_gate(struct vx_ring *r, enum vx_gate gate);
/* Both: vx_control_set_gate and vx_ring_set_gate. */
void vx_session_gate(struct vx_control *c, struct vx_ring *r, enum vx_gate gate);
/* After worker was reaped (never before): frees what it had claimed and wakes; returns how many. */
uint32_t vx_ring_reclaim(struct vx_ring *r, uint16_t worker);
/* True where sample q lies ready, or was taken by the trainer. */
bool vx_ring_made(const struct vx_ring *r, uint64_t q);
/* A case is not to be shown any more: ready samples that show it are freed, to be made again from
 * other cases. *ret_from is the first sample from which on nothing of the case has been taken or
 * lies ready; the trainer may go on taking all the while. The gate must be paused (VX_E_STATE), and
 * no worker may be filling a slot (VX_E_BUSY: try again); the gate stays as it is. */
int vx_ring_discard(struct vx_ring *r, uint32_t case_index, uint64_t *ret_from);
/* True when no slot is claimed. */
bool vx_ring_quiet(const struct vx_ring *r);
/* After step ended and before a new one starts: next becomes first_q. Samples already made that fit
 * are kept, also those the dead step held. The gate must be paused or stopped (VX_E_STATE).
 * VX_E_BUSY while a worker still fills a slot: wait a little (or reap and reclaim it) and call
 * again; nothing may take samples in between. The gate stays as it is: call vx_ring_set_gate
 * afterwards. */
int vx_ring_rewind(struct vx_ring *r, uint64_t first_q);
/* Wakes every sleeper (knob changes, leave requests). */
void vx_ring_kick(struct vx_ring *r);
/* Counts of slots per state, for telemetry. */
void vx_ring_counts(const struct vx_ring *r, uint32_t ret_counts[4]);

#endif
