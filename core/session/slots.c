/* The protocol of the ring's slots: who may move a slot's word from which state to which.
 *
 * All moves are compare-and-swap or made by the slot's only owner, with sequential consistency
 * where one side stores and then looks at what the other stored (sleeping against waking, claiming
 * against pausing). */
#include "session/ring.h"

#include "base/clock.h"
#include "base/err.h"
#include "session/futex.h"
#include "session/ring_words.h"

static bool swap(uint64_t *word, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static uint64_t load(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/* One more sample can be claimed: one worker is enough. */
static void wake_worker(struct vx_ring_state *s) {
    __atomic_add_fetch(&s->work, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&s->sleepers, __ATOMIC_SEQ_CST)) {
        vx_futex_wake(&s->work, 1);
    }
}

void vx_ring_kick(struct vx_ring *r) {
    struct vx_ring_state *s = vx_ring_state(r);
    vx_futex_bump(&s->work);
    vx_futex_bump(&s->ready);
}

/* --- workers --- */

uint32_t vx_ring_work_mark(const struct vx_ring *r) {
    return __atomic_load_n(&vx_ring_state(r)->work, __ATOMIC_SEQ_CST);
}

void vx_ring_wait_work(struct vx_ring *r, uint32_t mark, uint64_t timeout_ns) {
    struct vx_ring_state *s = vx_ring_state(r);
    __atomic_add_fetch(&s->sleepers, 1, __ATOMIC_SEQ_CST);
    vx_futex_wait(&s->work, mark, timeout_ns);
    __atomic_sub_fetch(&s->sleepers, 1, __ATOMIC_SEQ_CST);
}

static int gate_status(const struct vx_ring_state *s) {
    switch (__atomic_load_n(&s->gate, __ATOMIC_SEQ_CST)) {
    case VX_GATE_OPEN:
        return VX_OK;
    case VX_GATE_PAUSED:
        return VX_E_BUSY;
    default:
        return VX_E_CANCELLED;
    }
}

int vx_ring_claim(struct vx_ring *r, uint16_t worker, uint32_t window, uint64_t *ret_q) {
    struct vx_ring_state *s = vx_ring_state(r);
    int gate = gate_status(s);
    if (gate != VX_OK) {
        return gate;
    }
    if (window == 0 || window > r->slots) {
        window = r->slots;
    } else if (window < r->desc.schedule.batch) {
        window = r->desc.schedule.batch;
    }
    uint64_t first = load(&s->next), end = vx_sample_end(&r->desc.schedule);
    uint64_t last = first + window < end ? first + window : end;
    for (uint64_t q = first; q < last; q++) {
        uint64_t *word = vx_ring_word(r, q % r->slots), generation = q / r->slots;
        uint64_t free_word = vx_slot_word(generation, 0, VX_SLOT_FREE);
        if (load(word) != free_word ||
            !swap(word, free_word, vx_slot_word(generation, worker, VX_SLOT_CLAIMED))) {
            continue;
        }
        /* The pauser stores the gate, then looks for claims; we claim, then look at the gate. So
         * either we see the gate, or it sees our claim. */
        gate = gate_status(s);
        if (gate != VX_OK) {
            vx_ring_unclaim(r, worker, q);
            return gate;
        }
        *ret_q = q;
        return VX_OK;
    }
    return VX_E_BUSY;
}

bool vx_ring_publish(struct vx_ring *r, uint16_t worker, uint64_t q) {
    struct vx_ring_state *s = vx_ring_state(r);
    uint64_t generation = q / r->slots;
    if (!swap(vx_ring_word(r, q % r->slots), vx_slot_word(generation, worker, VX_SLOT_CLAIMED),
              vx_slot_word(generation, 0, VX_SLOT_READY))) {
        return false;
    }
    if (__atomic_load_n(&s->wants, __ATOMIC_SEQ_CST) == q + 1) {
        vx_futex_bump(&s->ready);
    }
    return true;
}

void vx_ring_unclaim(struct vx_ring *r, uint16_t worker, uint64_t q) {
    uint64_t generation = q / r->slots;
    if (swap(vx_ring_word(r, q % r->slots), vx_slot_word(generation, worker, VX_SLOT_CLAIMED),
             vx_slot_word(generation, 0, VX_SLOT_FREE))) {
        wake_worker(vx_ring_state(r));
    }
}

/* --- trainer --- */

uint64_t vx_ring_next(const struct vx_ring *r) {
    return load(&vx_ring_state(r)->next);
}

uint32_t vx_ring_depth(const struct vx_ring *r) {
    uint64_t first = vx_ring_next(r);
    uint32_t n = 0;
    while (n < r->slots) {
        uint64_t q = first + n;
        if (load(vx_ring_word(r, q % r->slots)) != vx_slot_word(q / r->slots, 0, VX_SLOT_READY)) {
            break;
        }
        n++;
    }
    return n;
}

/* Sleeps until the slot of q is ready. */
static int wait_ready(struct vx_ring *r, uint64_t q, uint64_t timeout_ns) {
    struct vx_ring_state *s = vx_ring_state(r);
    const uint64_t *word = vx_ring_word(r, q % r->slots);
    uint64_t ready = vx_slot_word(q / r->slots, 0, VX_SLOT_READY);
    uint64_t start = 0;
    int rc = VX_OK;
    while (load(word) != ready) {
        uint32_t mark = __atomic_load_n(&s->ready, __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->wants, q + 1, __ATOMIC_SEQ_CST);
        if (load(word) == ready) {
            break;
        }
        if (gate_status(s) == VX_E_CANCELLED) {
            rc = VX_E_CANCELLED;
            break;
        }
        uint64_t now = vx_now_ns();
        start = start ? start : now;
        if (now - start >= timeout_ns) {
            rc = VX_E_TIMEOUT;
            break;
        }
        vx_futex_wait(&s->ready, mark, timeout_ns - (now - start));
    }
    __atomic_store_n(&s->wants, 0, __ATOMIC_SEQ_CST);
    return rc;
}

int vx_ring_take(struct vx_ring *r, uint64_t timeout_ns, uint64_t *ret_q, struct vx_sample *ret) {
    struct vx_ring_state *s = vx_ring_state(r);
    uint64_t q = load(&s->next), generation = q / r->slots;
    if (q >= vx_sample_end(&r->desc.schedule)) {
        return VX_E_NOT_FOUND;
    }
    do {
        int rc = wait_ready(r, q, timeout_ns);
        if (rc != VX_OK) {
            return rc;
        }
        /* again where vx_ring_discard took it away in between */
    } while (!swap(vx_ring_word(r, q % r->slots), vx_slot_word(generation, 0, VX_SLOT_READY),
                   vx_slot_word(generation, 0, VX_SLOT_HELD)));
    __atomic_store_n(&s->next, q + 1, __ATOMIC_SEQ_CST);
    wake_worker(s); /* the window moved */
    *ret_q = q;
    *ret = (struct vx_sample){vx_ring_slot(r, q), vx_ring_image(r, q), vx_ring_label(r, q)};
    return VX_OK;
}

void vx_ring_release(struct vx_ring *r, uint64_t q) {
    uint64_t generation = q / r->slots;
    if (swap(vx_ring_word(r, q % r->slots), vx_slot_word(generation, 0, VX_SLOT_HELD),
             vx_slot_word(generation + 1, 0, VX_SLOT_FREE))) {
        wake_worker(vx_ring_state(r));
    }
}

/* --- supervisor --- */

void vx_ring_set_gate(struct vx_ring *r, enum vx_gate gate) {
    __atomic_store_n(&vx_ring_state(r)->gate, (uint32_t)gate, __ATOMIC_SEQ_CST);
    vx_ring_kick(r);
}

void vx_session_gate(struct vx_control *c, struct vx_ring *r, enum vx_gate gate) {
    vx_control_set_gate(c, gate);
    vx_ring_set_gate(r, gate);
}

uint32_t vx_ring_reclaim(struct vx_ring *r, uint16_t worker) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->slots; i++) {
        uint64_t *word = vx_ring_word(r, i), was = load(word);
        if (vx_word_state(was) == VX_SLOT_CLAIMED && vx_word_owner(was) == worker) {
            n += swap(word, was, vx_slot_word(vx_word_generation(was), 0, VX_SLOT_FREE));
        }
    }
    /* also where it had claimed nothing: it may have died between publishing and waking, or have
     * eaten a wake-up */
    vx_ring_kick(r);
    return n;
}

bool vx_ring_made(const struct vx_ring *r, uint64_t q) {
    uint64_t word = load(vx_ring_word(r, q % r->slots));
    enum vx_slot_state state = vx_word_state(word);
    uint32_t ahead = vx_word_generation(word) - (uint32_t)(q / r->slots);
    return vx_ring_next(r) > q || (ahead == 0 && state != VX_SLOT_FREE && state != VX_SLOT_CLAIMED);
}

/* Frees sample q where it is ready and shows the case; true where the trainer has taken it. */
static bool discard_slot(struct vx_ring *r, uint32_t case_index, uint64_t q) {
    uint64_t *word = vx_ring_word(r, q % r->slots), generation = q / r->slots;
    const struct vx_slot *head = vx_ring_slot(r, q);
    for (;;) {
        uint64_t was = load(word);
        uint32_t ahead = vx_word_generation(was) - (uint32_t)generation;
        bool ready = ahead == 0 && vx_word_state(was) == VX_SLOT_READY;
        bool taken = ahead == 1 || (ahead == 0 && vx_word_state(was) == VX_SLOT_HELD);
        if ((!ready && !taken) || head->q != q || head->case_index != case_index) {
            return false;
        }
        if (taken || swap(word, was, vx_slot_word(generation, 0, VX_SLOT_FREE))) {
            return taken;
        }
    }
}

int vx_ring_discard(struct vx_ring *r, uint32_t case_index, uint64_t *ret_from) {
    if (gate_status(vx_ring_state(r)) == VX_OK) {
        return VX_E_STATE;
    }
    if (!vx_ring_quiet(r)) {
        return VX_E_BUSY;
    }
    uint64_t first = vx_ring_next(r), from = first;
    for (uint64_t q = first; q < first + r->slots; q++) {
        from = discard_slot(r, case_index, q) ? q + 1 : from;
    }
    *ret_from = from;
    return VX_OK;
}

void vx_ring_counts(const struct vx_ring *r, uint32_t ret_counts[4]) {
    for (int i = 0; i < 4; i++) {
        ret_counts[i] = 0;
    }
    for (uint32_t i = 0; i < r->slots; i++) {
        ret_counts[vx_word_state(load(vx_ring_word(r, i))) & 3u]++;
    }
}

bool vx_ring_quiet(const struct vx_ring *r) {
    uint32_t counts[4];
    vx_ring_counts(r, counts);
    return counts[VX_SLOT_CLAIMED] == 0;
}

/* Moves one slot to the generation of q; false where a worker has just claimed it. */
static bool rewind_slot(struct vx_ring *r, uint64_t q) {
    uint64_t *word = vx_ring_word(r, q % r->slots);
    for (;;) {
        uint64_t was = load(word);
        enum vx_slot_state state = vx_word_state(was);
        if (state == VX_SLOT_CLAIMED) {
            return false;
        }
        bool made = state == VX_SLOT_READY || state == VX_SLOT_HELD;
        bool keep = made && vx_word_generation(was) == (uint32_t)(q / r->slots);
        uint64_t now = vx_slot_word(q / r->slots, 0, keep ? VX_SLOT_READY : VX_SLOT_FREE);
        if (swap(word, was, now)) {
            return true;
        }
    }
}

int vx_ring_rewind(struct vx_ring *r, uint64_t first_q) {
    struct vx_ring_state *s = vx_ring_state(r);
    if (gate_status(s) == VX_OK) {
        return VX_E_STATE;
    }
    if (!vx_ring_quiet(r)) {
        return VX_E_BUSY;
    }
    for (uint64_t q = first_q; q < first_q + r->slots; q++) {
        /* A worker that looked at the gate just before it closed may still claim, see the gate, and
         * give back: what was moved so far stays free or ready for whoever rewinds again. */
        if (!rewind_slot(r, q)) {
            return VX_E_BUSY;
        }
    }
    __atomic_store_n(&s->wants, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&s->next, first_q, __ATOMIC_SEQ_CST);
    vx_ring_kick(r);
    return VX_OK;
}
