#include "session/seqlock.h"

#include <assert.h>
#include <sched.h>
#include <string.h>

/* A writer's copy takes well under a microsecond; one that stays odd this long has lost its writer.
 */
#define TRIES 200

void vx_seq_write(struct vx_seq *seq, const void *payload, size_t size) {
    assert(size % 8 == 0);
    uint64_t *to = (uint64_t *)(seq + 1);
    const char *from = payload;
    /* odd already where an earlier writer died in here */
    uint32_t odd = __atomic_load_n(&seq->number, __ATOMIC_RELAXED) | 1u;
    __atomic_store_n(&seq->number, odd, __ATOMIC_RELAXED);
    for (size_t i = 0; i < size / 8; i++) {
        uint64_t word;
        memcpy(&word, from + 8 * i, 8);
        /* release: no word of the payload becomes visible before the odd number */
        __atomic_store_n(&to[i], word, __ATOMIC_RELEASE);
    }
    uint32_t even = odd + 1u == 0 ? 2u : odd + 1u; /* 0 means never written */
    __atomic_store_n(&seq->number, even, __ATOMIC_RELEASE);
}

static bool try_read(const struct vx_seq *seq, size_t known, char *out) {
    const uint64_t *from = (const uint64_t *)(seq + 1);
    uint32_t before = __atomic_load_n(&seq->number, __ATOMIC_ACQUIRE);
    if (before & 1u) {
        return false;
    }
    for (size_t i = 0; i < known / 8; i++) {
        /* acquire: the second look at the number cannot move before these */
        uint64_t word = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
        memcpy(out + 8 * i, &word, 8);
    }
    return __atomic_load_n(&seq->number, __ATOMIC_RELAXED) == before;
}

bool vx_seq_read(const struct vx_seq *seq, size_t stride, void *out, size_t size) {
    assert(size % 8 == 0 && stride >= sizeof *seq);
    size_t known = stride - sizeof *seq < size ? stride - sizeof *seq : size;
    memset((char *)out + known, 0, size - known);
    if (__atomic_load_n(&seq->number, __ATOMIC_ACQUIRE) == 0) {
        return false;
    }
    for (int i = 0; i < TRIES; i++) {
        if (try_read(seq, known, out)) {
            return true;
        }
        if (i % 16 == 15) {
            sched_yield(); /* the writer may have been preempted on this core */
        }
    }
    return false;
}
