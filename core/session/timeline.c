#include "session/timeline.h"

#include "base/clock.h"
#include "base/err.h"
#include "session/control.h"
#include "session/seqlock.h"

#include <stddef.h>

enum {
    TABLE_HEAD = 0,
    TABLE_STEPS = 1,
    TABLE_PROGRESS = 2,
    TABLE_WORKERS = 3,
    TABLE_KEEPER = 4,
    TABLES = 5
};

struct head {
    uint64_t last_seq; /* number of the newest step record */
};

struct step_entry {
    struct vx_seq seq;
    struct vx_step_record record;
};

struct progress_entry {
    struct vx_seq seq;
    struct vx_progress record;
};

struct worker_entry {
    struct vx_seq seq;
    struct vx_worker_record record;
};

struct keeper_entry {
    struct vx_seq seq;
    struct vx_keeper_record record;
};

_Static_assert(sizeof(struct vx_keeper_record) % 8 == 0, "seqlock payload");
_Static_assert(sizeof(struct vx_step_record) % 8 == 0, "seqlock payload");
_Static_assert(sizeof(struct vx_progress) % 8 == 0, "seqlock payload");
_Static_assert(sizeof(struct vx_worker_record) % 8 == 0, "seqlock payload");
_Static_assert(offsetof(struct vx_step_record, phase_ns) == 32, "step record layout");
_Static_assert(offsetof(struct vx_step_record, loss) == 104, "step record layout");
_Static_assert(offsetof(struct vx_progress, phase_ns) == 8, "progress layout");
_Static_assert(offsetof(struct vx_progress, loss) == 144, "progress layout");
_Static_assert(offsetof(struct vx_worker_record, augment_ns) == 32, "worker record layout");
_Static_assert(VX_PHASE_COUNT <= VX_TIMELINE_PHASES, "phases fit the records");

static const char *name_of(const char *const *names, uint32_t n, uint32_t i) {
    return i < n ? names[i] : "?";
}

const char *vx_phase_name(uint32_t phase) {
    static const char *const names[VX_PHASE_COUNT] = {"wait_loader", "h2d",      "compute", "sync",
                                                      "checkpoint",  "validate", "other"};
    return name_of(names, VX_PHASE_COUNT, phase);
}

const char *vx_step_state_name(uint32_t state) {
    static const char *const names[VX_STEP_STATES] = {
        "starting", "training", "validating", "checkpointing", "total", "done", "failed"};
    return name_of(names, VX_STEP_STATES, state);
}

const char *vx_worker_state_name(uint32_t state) {
    static const char *const names[VX_WORKER_STATES] = {
        "none", "starting", "waiting", "reading", "augmenting", "left", "failed"};
    return name_of(names, VX_WORKER_STATES, state);
}

const char *vx_worker_reading_name(uint32_t reading) {
    static const char *const names[VX_WORKER_READINGS] = {"nothing", "case", "image", "seg"};
    return name_of(names, VX_WORKER_READINGS, reading);
}

const char *vx_nearing_name(uint32_t state) {
    static const char *const names[VX_NEARINGS] = {"nothing", "working", "done", "stopped"};
    return name_of(names, VX_NEARINGS, state);
}

int vx_timeline_create(struct vx_timeline *ret, struct vx_err *err) {
    const struct vx_shm_table tables[TABLES] = {
        {0, sizeof(struct head), 1},           {0, sizeof(struct step_entry), VX_STEP_RECORDS},
        {0, sizeof(struct progress_entry), 1}, {0, sizeof(struct worker_entry), VX_WORKERS_MAX},
        {0, sizeof(struct keeper_entry), 1},
    };
    ret->next_seq = 1;
    return vx_shm_create("voxeld-timeline", VX_SHM_TIMELINE, tables, TABLES, 0, &ret->shm, err);
}

static struct head *head(const struct vx_timeline *t) {
    return vx_shm_record(&t->shm, TABLE_HEAD, 0);
}

static uint64_t stride(const struct vx_timeline *t, uint32_t table) {
    return t->shm.table[table].stride;
}

int vx_timeline_map(int fd, bool writable, struct vx_timeline *ret, struct vx_err *err) {
    /* a writer needs room for its whole records; a reader copes with shorter ones */
    const uint64_t least[TABLES] = {
        sizeof(struct head), writable ? sizeof(struct step_entry) : sizeof(struct vx_seq) + 8,
        writable ? sizeof(struct progress_entry) : sizeof(struct vx_seq) + 8,
        writable ? sizeof(struct worker_entry) : sizeof(struct vx_seq) + 8,
        writable ? sizeof(struct keeper_entry) : sizeof(struct vx_seq) + 8};
    struct vx_timeline t = {VX_SHM_INIT, 0};
    int rc = vx_shm_map(fd, VX_SHM_TIMELINE, writable, least, TABLES, &t.shm, err);
    if (rc != VX_OK) {
        return rc;
    }
    t.next_seq = vx_timeline_last_seq(&t) + 1;
    *ret = t;
    return VX_OK;
}

void vx_timeline_close(struct vx_timeline *t) {
    vx_shm_close(&t->shm);
}

void vx_timeline_add_step(struct vx_timeline *t, const struct vx_step_record *r) {
    struct vx_step_record copy = *r;
    copy.seq = t->next_seq++;
    uint64_t count = t->shm.table[TABLE_STEPS].count;
    struct step_entry *e = vx_shm_record(&t->shm, TABLE_STEPS, (copy.seq - 1) % count);
    vx_seq_write(&e->seq, &copy, sizeof copy);
    __atomic_store_n(&head(t)->last_seq, copy.seq, __ATOMIC_RELEASE);
}

void vx_timeline_set_progress(struct vx_timeline *t, const struct vx_progress *p) {
    struct vx_progress copy = *p;
    copy.heartbeat_ns = vx_now_ns();
    struct progress_entry *e = vx_shm_record(&t->shm, TABLE_PROGRESS, 0);
    vx_seq_write(&e->seq, &copy, sizeof copy);
}

void vx_timeline_set_worker(struct vx_timeline *t, uint32_t w, const struct vx_worker_record *r) {
    struct vx_worker_record copy = *r;
    copy.heartbeat_ns = vx_now_ns();
    struct worker_entry *e = vx_shm_record(&t->shm, TABLE_WORKERS, w);
    if (e) {
        vx_seq_write(&e->seq, &copy, sizeof copy);
    }
}

void vx_timeline_set_keeper(struct vx_timeline *t, const struct vx_keeper_record *r) {
    struct vx_keeper_record copy = *r;
    copy.heartbeat_ns = vx_now_ns();
    struct keeper_entry *e = vx_shm_record(&t->shm, TABLE_KEEPER, 0);
    vx_seq_write(&e->seq, &copy, sizeof copy);
}

uint64_t vx_timeline_last_seq(const struct vx_timeline *t) {
    return __atomic_load_n(&head(t)->last_seq, __ATOMIC_ACQUIRE);
}

size_t vx_timeline_steps(const struct vx_timeline *t, uint64_t after, struct vx_step_record *out,
                         size_t max) {
    uint64_t last = vx_timeline_last_seq(t), count = t->shm.table[TABLE_STEPS].count;
    uint64_t first = after + 1;
    if (last >= count && first < last - count + 1) {
        first = last - count + 1;
    }
    size_t n = 0;
    for (uint64_t i = 0; first <= last && i <= last - first && n < max; i++) {
        uint64_t s = first + i;
        const struct step_entry *e = vx_shm_record(&t->shm, TABLE_STEPS, (s - 1) % count);
        /* a record with another number was overwritten meanwhile */
        if (vx_seq_read(&e->seq, stride(t, TABLE_STEPS), &out[n], sizeof out[n]) &&
            out[n].seq == s) {
            n++;
        }
    }
    return n;
}

bool vx_timeline_progress(const struct vx_timeline *t, struct vx_progress *ret) {
    const struct progress_entry *e = vx_shm_record(&t->shm, TABLE_PROGRESS, 0);
    struct vx_progress copy;
    if (!vx_seq_read(&e->seq, stride(t, TABLE_PROGRESS), &copy, sizeof copy)) {
        return false;
    }
    *ret = copy;
    return true;
}

bool vx_timeline_worker(const struct vx_timeline *t, uint32_t w, struct vx_worker_record *ret) {
    const struct worker_entry *e = vx_shm_record(&t->shm, TABLE_WORKERS, w);
    struct vx_worker_record copy;
    if (!e || !vx_seq_read(&e->seq, stride(t, TABLE_WORKERS), &copy, sizeof copy)) {
        return false;
    }
    *ret = copy;
    return true;
}

bool vx_timeline_keeper(const struct vx_timeline *t, struct vx_keeper_record *ret) {
    const struct keeper_entry *e = vx_shm_record(&t->shm, TABLE_KEEPER, 0);
    struct vx_keeper_record copy;
    if (!vx_seq_read(&e->seq, stride(t, TABLE_KEEPER), &copy, sizeof copy)) {
        return false;
    }
    *ret = copy;
    return true;
}
