#include "session/control.h"

#include "base/err.h"
#include "session/futex.h"
#include "session/seqlock.h"

#include <stddef.h>

enum { TABLE_WORDS = 0, TABLE_KNOBS = 1, TABLE_WORKERS = 2, TABLE_EXCLUSIONS = 3, TABLES = 4 };

struct words {
    uint32_t changed; /* futex */
    uint32_t gate;    /* enum vx_gate */
};

struct knobs_record {
    struct vx_seq seq;
    struct vx_knobs knobs;
};

struct worker_record {
    int32_t pid;
    uint32_t want; /* enum vx_worker_want */
    uint32_t answers;
};

struct exclusions_record {
    struct vx_seq seq;
    struct vx_exclusions exclusions;
};

_Static_assert(sizeof(struct vx_knobs) % 8 == 0, "seqlock payload");
_Static_assert(sizeof(struct vx_exclusions) % 8 == 0, "seqlock payload");
_Static_assert(offsetof(struct vx_exclusion, from_k) == 16, "exclusion layout");
_Static_assert(offsetof(struct vx_knobs, nice) == 16, "knobs layout");
_Static_assert(offsetof(struct words, gate) == 4, "control layout");

static struct words *words(const struct vx_control *c) {
    return vx_shm_record(&c->shm, TABLE_WORDS, 0);
}

int vx_control_create(const struct vx_knobs *knobs, struct vx_control *ret, struct vx_err *err) {
    const struct vx_shm_table tables[TABLES] = {
        {0, sizeof(struct words), 1},
        {0, sizeof(struct knobs_record), 1},
        {0, sizeof(struct worker_record), VX_WORKERS_MAX},
        {0, sizeof(struct exclusions_record), 1},
    };
    int rc = vx_shm_create("voxeld-control", VX_SHM_CONTROL, tables, TABLES, 0, &ret->shm, err);
    if (rc == VX_OK) {
        const struct exclusions_record none = {0};
        struct exclusions_record *r = vx_shm_record(&ret->shm, TABLE_EXCLUSIONS, 0);
        vx_seq_write(&r->seq, &none.exclusions, sizeof none.exclusions);
        vx_control_set_knobs(ret, knobs);
    }
    return rc;
}

int vx_control_map(int fd, struct vx_control *ret, struct vx_err *err) {
    const uint64_t least[TABLES] = {sizeof(struct words), sizeof(struct vx_seq) + 8,
                                    sizeof(struct worker_record), sizeof(struct vx_seq) + 8};
    return vx_shm_map(fd, VX_SHM_CONTROL, false, least, TABLES, &ret->shm, err);
}

void vx_control_close(struct vx_control *c) {
    vx_shm_close(&c->shm);
}

bool vx_knobs_keep_open(const struct vx_knobs *k) {
    return k->cache_mode == VX_CACHE_KEEP || (k->cache_mode != VX_CACHE_OPEN && k->keep_files_open);
}

void vx_control_set_knobs(struct vx_control *c, const struct vx_knobs *knobs) {
    struct knobs_record *r = vx_shm_record(&c->shm, TABLE_KNOBS, 0);
    vx_seq_write(&r->seq, knobs, sizeof *knobs);
    vx_futex_bump(&words(c)->changed);
}

void vx_control_set_exclusions(struct vx_control *c, const struct vx_exclusions *x) {
    struct exclusions_record *r = vx_shm_record(&c->shm, TABLE_EXCLUSIONS, 0);
    struct vx_exclusions copy = *x;
    copy.version = r->exclusions.version + 1;
    vx_seq_write(&r->seq, &copy, sizeof copy);
    vx_futex_bump(&words(c)->changed);
}

void vx_control_set_gate(struct vx_control *c, enum vx_gate gate) {
    __atomic_store_n(&words(c)->gate, (uint32_t)gate, __ATOMIC_SEQ_CST);
    vx_futex_bump(&words(c)->changed);
}

void vx_control_set_worker(struct vx_control *c, uint32_t worker, int32_t pid,
                           enum vx_worker_want want) {
    struct worker_record *r = vx_shm_record(&c->shm, TABLE_WORKERS, worker);
    if (r) {
        __atomic_store_n(&r->pid, pid, __ATOMIC_RELAXED);
        __atomic_store_n(&r->want, (uint32_t)want, __ATOMIC_RELEASE);
        vx_futex_bump(&words(c)->changed);
    }
}

bool vx_control_knobs(const struct vx_control *c, struct vx_knobs *ret) {
    const struct knobs_record *r = vx_shm_record(&c->shm, TABLE_KNOBS, 0);
    struct vx_knobs k;
    if (!vx_seq_read(&r->seq, c->shm.table[TABLE_KNOBS].stride, &k, sizeof k)) {
        return false;
    }
    *ret = k;
    return true;
}

bool vx_control_exclusions(const struct vx_control *c, struct vx_exclusions *ret) {
    const struct exclusions_record *r = vx_shm_record(&c->shm, TABLE_EXCLUSIONS, 0);
    struct vx_exclusions x;
    if (!vx_seq_read(&r->seq, c->shm.table[TABLE_EXCLUSIONS].stride, &x, sizeof x) ||
        x.n > VX_EXCLUSIONS_MAX) {
        return false;
    }
    *ret = x;
    return true;
}

enum vx_gate vx_control_gate(const struct vx_control *c) {
    return (enum vx_gate)__atomic_load_n(&words(c)->gate, __ATOMIC_SEQ_CST);
}

enum vx_worker_want vx_control_worker(const struct vx_control *c, uint32_t worker,
                                      int32_t *ret_pid) {
    const struct worker_record *r = vx_shm_record(&c->shm, TABLE_WORKERS, worker);
    if (!r) {
        return VX_WANT_NONE;
    }
    uint32_t want = __atomic_load_n(&r->want, __ATOMIC_ACQUIRE);
    if (ret_pid) {
        *ret_pid = __atomic_load_n(&r->pid, __ATOMIC_RELAXED);
    }
    return (enum vx_worker_want)want;
}

void vx_control_answer(struct vx_control *c, uint32_t worker) {
    struct worker_record *r = vx_shm_record(&c->shm, TABLE_WORKERS, worker);
    if (r) {
        __atomic_add_fetch(&r->answers, 1, __ATOMIC_RELEASE);
        vx_futex_bump(&words(c)->changed);
    }
}

uint32_t vx_control_answers(const struct vx_control *c, uint32_t worker) {
    const struct worker_record *r = vx_shm_record(&c->shm, TABLE_WORKERS, worker);
    return r ? __atomic_load_n(&r->answers, __ATOMIC_ACQUIRE) : 0;
}

uint32_t vx_control_changed(const struct vx_control *c) {
    return __atomic_load_n(&words(c)->changed, __ATOMIC_SEQ_CST);
}

void vx_control_wait(const struct vx_control *c, uint32_t seen, uint64_t timeout_ns) {
    vx_futex_wait(&words(c)->changed, seen, timeout_ns);
}
