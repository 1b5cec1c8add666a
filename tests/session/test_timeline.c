/* Timeline records: what is written is what is read, in order, never torn. */
#include "base/err.h"
#include "session/seqlock.h"
#include "session/timeline.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

Test(session_timeline, keeps_the_newest_steps_in_order) {
    static struct vx_step_record out[VX_STEP_RECORDS + 10];
    struct vx_timeline t, reader, again;
    cr_assert_eq(vx_timeline_create(&t, NULL), VX_OK);
    cr_assert_eq(vx_timeline_map(dup(t.shm.fd), false, &reader, NULL), VX_OK);
    cr_assert_eq(vx_timeline_steps(&reader, 0, out, 10), 0);
    for (uint64_t i = 1; i <= VX_STEP_RECORDS + 100; i++) {
        struct vx_step_record r = {.seq = 77, .k = i * 3, .loss = (double)i};
        r.phase_ns[VX_PHASE_COMPUTE] = i;
        vx_timeline_add_step(&t, &r);
    }
    size_t n = vx_timeline_steps(&reader, 0, out, VX_STEP_RECORDS + 10);
    cr_assert_eq(n, VX_STEP_RECORDS);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(out[i].seq, 101 + i);
        cr_assert_eq(out[i].k, 3 * out[i].seq);
        cr_assert_eq(out[i].phase_ns[VX_PHASE_COMPUTE], out[i].seq);
    }
    cr_assert_eq(vx_timeline_steps(&reader, VX_STEP_RECORDS + 98, out, 10), 2);
    cr_assert_eq(out[1].seq, VX_STEP_RECORDS + 100);
    cr_assert_eq(vx_timeline_steps(&reader, 200, out, 5), 5);
    cr_assert_eq(out[0].seq, 201);
    /* a new step process goes on counting */
    cr_assert_eq(vx_timeline_map(dup(t.shm.fd), true, &again, NULL), VX_OK);
    vx_timeline_add_step(&again, &out[0]);
    cr_assert_eq(vx_timeline_last_seq(&reader), VX_STEP_RECORDS + 101);
    cr_assert_eq(vx_timeline_steps(&reader, VX_STEP_RECORDS + 200, out, 10), 0);
    /* a count that was written over ends nobody's telemetry */
    *(uint64_t *)vx_shm_record(&t.shm, 0, 0) = UINT64_MAX;
    cr_assert_eq(vx_timeline_steps(&reader, 0, out, 10), 0);
    vx_timeline_close(&again);
    vx_timeline_close(&reader);
    vx_timeline_close(&t);
}

Test(session_timeline, progress_and_workers) {
    struct vx_timeline t;
    struct vx_progress p = {.k = 12, .epochs = 3, .loss = 0.5}, seen;
    struct vx_worker_record w = {.samples = 9, .state = VX_WORKER_READING}, wseen;
    cr_assert_eq(vx_timeline_create(&t, NULL), VX_OK);
    cr_assert_not(vx_timeline_progress(&t, &seen));
    cr_assert_not(vx_timeline_worker(&t, 5, &wseen));
    vx_timeline_set_progress(&t, &p);
    vx_timeline_set_worker(&t, 5, &w);
    vx_timeline_set_worker(&t, 64, &w); /* no such entry: ignored */
    cr_assert(vx_timeline_progress(&t, &seen));
    cr_assert(vx_timeline_worker(&t, 5, &wseen));
    cr_assert_not(vx_timeline_worker(&t, 64, &wseen));
    cr_assert_eq(seen.k, 12);
    cr_assert_gt(seen.heartbeat_ns, 0);
    cr_assert_eq(wseen.samples, 9);
    cr_assert_gt(wseen.heartbeat_ns, 0);
    cr_assert_str_eq(vx_worker_state_name(VX_WORKER_READING), "reading");
    cr_assert_str_eq(vx_phase_name(VX_PHASE_OTHER), "other");
    cr_assert_str_eq(vx_step_state_name(99), "?");
    vx_timeline_close(&t);
}

struct shared {
    struct vx_seq seq;
    uint64_t words[32];
};

static void *write_counts(void *arg) {
    struct shared *s = arg;
    uint64_t payload[32];
    for (uint64_t i = 1; i <= 200000; i++) {
        for (int j = 0; j < 32; j++) {
            payload[j] = i;
        }
        vx_seq_write(&s->seq, payload, sizeof payload);
    }
    return NULL;
}

Test(session_seqlock, readers_never_see_half_a_record) {
    static _Alignas(64) struct shared s;
    pthread_t writer;
    uint64_t seen[32];
    cr_assert_not(vx_seq_read(&s.seq, sizeof s, seen, sizeof seen));
    pthread_create(&writer, NULL, write_counts, &s);
    uint64_t last = 0;
    while (last < 200000) {
        if (!vx_seq_read(&s.seq, sizeof s, seen, sizeof seen)) {
            continue;
        }
        cr_assert_geq(seen[0], last);
        last = seen[0];
        for (int j = 1; j < 32; j++) {
            cr_assert_eq(seen[j], last);
        }
    }
    pthread_join(writer, NULL);
}

Test(session_seqlock, a_dead_writer_blocks_nobody) {
    _Alignas(64) struct shared s = {{0, 0}, {0}};
    uint64_t payload[4] = {1, 2, 3, 4}, seen[6];
    vx_seq_write(&s.seq, payload, sizeof payload);
    s.seq.number++; /* died in the middle of the next record */
    cr_assert_not(vx_seq_read(&s.seq, 8 + sizeof payload, seen, sizeof payload));
    vx_seq_write(&s.seq, payload, sizeof payload);
    /* a reader that knows more fields than the writer sees zeroes there */
    memset(seen, 0xff, sizeof seen);
    cr_assert(vx_seq_read(&s.seq, 8 + sizeof payload, seen, sizeof seen));
    cr_assert_eq(seen[3], 4);
    cr_assert_eq(seen[4], 0);
    cr_assert_eq(seen[5], 0);
}
