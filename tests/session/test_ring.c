/* The slot protocol: order, reclaiming, rewinding, gates, and sleepers that wake. */
#include "base/clock.h"
#include "base/err.h"
#include "session/ring.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000ull

static void make(struct vx_ring *r, uint32_t slots, uint64_t first) {
    uint32_t size[3] = {2, 3, 5};
    struct vx_sample_schedule s = {2, 10, 2, 3}; /* 72 samples */
    struct vx_err err = {0};
    cr_assert_eq(vx_ring_create(2, size, &s, slots, first, r, &err), VX_OK, "%s", err.text);
}

static void fill(struct vx_ring *r, uint16_t worker, uint64_t q) {
    *vx_ring_slot(r, q) = (struct vx_slot){.q = q, .worker = worker};
    for (int i = 0; i < 60; i++) {
        vx_ring_image(r, q)[i] = (float)(q * 100) + (float)i;
    }
    for (int i = 0; i < 30; i++) {
        vx_ring_label(r, q)[i] = (int16_t)(q + (uint64_t)i);
    }
}

static uint64_t claim(struct vx_ring *r, uint16_t worker) {
    uint64_t q = ~0ull;
    cr_assert_eq(vx_ring_claim(r, worker, 0, &q), VX_OK);
    return q;
}

static void check_take(struct vx_ring *r, uint64_t expected) {
    uint64_t q;
    struct vx_sample s;
    cr_assert_eq(vx_ring_take(r, SECOND, &q, &s), VX_OK);
    cr_assert_eq(q, expected);
    cr_assert_eq(s.head->q, q);
    cr_assert_float_eq(s.image[59], (float)(q * 100 + 59), 1e-6);
    cr_assert_eq(s.label[29], (int16_t)(q + 29));
}

Test(session_ring, plan_follows_the_rule) {
    cr_assert_eq(vx_ring_plan(1 << 20, 1, 2, 0), 12);
    cr_assert_eq(vx_ring_plan(1 << 20, 12, 9, 0), 75);
    cr_assert_eq(vx_ring_plan(30 << 20, 12, 2, 0), 8); /* the cap */
    cr_assert_eq(vx_ring_plan(1ull << 30, 12, 2, 0), 6);
    cr_assert_eq(vx_ring_plan(1 << 20, 2, 366, 0), 734); /* two batches must fit */
    uint32_t size[3] = {40, 56, 40};
    uint64_t bytes = vx_ring_slot_bytes(1, size);
    cr_assert_geq(bytes, 89600 * 6 + sizeof(struct vx_slot));
    cr_assert_leq(bytes, 89600 * 6 + 8192);
}

Test(session_ring, samples_arrive_in_order_whatever_the_order_of_filling) {
    struct vx_ring r;
    make(&r, 8, 0);
    uint64_t a = claim(&r, 1), b = claim(&r, 2), c = claim(&r, 1);
    cr_assert(a == 0 && b == 1 && c == 2);
    fill(&r, 1, c);
    cr_assert(vx_ring_publish(&r, 1, c));
    cr_assert_eq(vx_ring_depth(&r), 0);
    fill(&r, 2, b);
    cr_assert(vx_ring_publish(&r, 2, b));
    struct vx_sample s;
    uint64_t q;
    cr_assert_eq(vx_ring_take(&r, 1000000, &q, &s), VX_E_TIMEOUT);
    fill(&r, 1, a);
    cr_assert(vx_ring_publish(&r, 1, a));
    cr_assert_eq(vx_ring_depth(&r), 3);
    check_take(&r, 0);
    check_take(&r, 1);
    vx_ring_release(&r, 1); /* any order */
    vx_ring_release(&r, 0);
    check_take(&r, 2);
    uint32_t counts[4];
    vx_ring_counts(&r, counts);
    cr_assert(counts[VX_SLOT_FREE] == 7 && counts[VX_SLOT_HELD] == 1);
    vx_ring_close(&r);
}

Test(session_ring, window_and_slots_bound_the_claims) {
    struct vx_ring r;
    uint64_t q;
    make(&r, 8, 0);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_eq(vx_ring_claim(&r, 1, 3, &q), VX_OK);
    }
    cr_assert_eq(vx_ring_claim(&r, 1, 3, &q), VX_E_BUSY);
    for (uint64_t i = 3; i < 8; i++) {
        cr_assert_eq(claim(&r, 1), i);
    }
    cr_assert_eq(vx_ring_claim(&r, 1, 0, &q), VX_E_BUSY);
    fill(&r, 1, 0);
    vx_ring_publish(&r, 1, 0);
    check_take(&r, 0);
    cr_assert_eq(vx_ring_claim(&r, 1, 0, &q), VX_E_BUSY, "held slots are not free");
    vx_ring_release(&r, 0);
    cr_assert_eq(claim(&r, 1), 8);
    vx_ring_close(&r);
    /* one below a batch counts as a batch */
    make(&r, 8, 0);
    cr_assert_eq(vx_ring_claim(&r, 1, 1, &q), VX_OK);
    cr_assert_eq(vx_ring_claim(&r, 1, 1, &q), VX_OK);
    cr_assert_eq(vx_ring_claim(&r, 1, 1, &q), VX_E_BUSY);
    vx_ring_close(&r);
}

Test(session_ring, the_job_ends) {
    struct vx_ring r;
    uint64_t q;
    struct vx_sample s;
    make(&r, 8, 70);
    cr_assert_eq(claim(&r, 1), 70);
    cr_assert_eq(claim(&r, 1), 71);
    cr_assert_eq(vx_ring_claim(&r, 1, 0, &q), VX_E_BUSY);
    for (q = 70; q < 72; q++) {
        fill(&r, 1, q);
        vx_ring_publish(&r, 1, q);
    }
    check_take(&r, 70);
    check_take(&r, 71);
    cr_assert_eq(vx_ring_take(&r, SECOND, &q, &s), VX_E_NOT_FOUND);
    vx_ring_close(&r);
}

Test(session_ring, a_dead_workers_claims_come_back) {
    struct vx_ring r;
    make(&r, 8, 0);
    claim(&r, 1);
    claim(&r, 2);
    claim(&r, 1);
    fill(&r, 2, 1);
    vx_ring_publish(&r, 2, 1);
    cr_assert_eq(vx_ring_reclaim(&r, 1), 2);
    cr_assert_eq(vx_ring_reclaim(&r, 1), 0);
    cr_assert_not(vx_ring_publish(&r, 1, 0), "what was taken back cannot be published");
    cr_assert_eq(claim(&r, 3), 0);
    cr_assert_not(vx_ring_publish(&r, 1, 0), "nor by its old owner once it has a new one");
    cr_assert_eq(claim(&r, 3), 2);
    cr_assert_eq(claim(&r, 3), 3);
    vx_ring_unclaim(&r, 3, 2);
    cr_assert_eq(claim(&r, 4), 2);
    vx_ring_close(&r);
}

Test(session_ring, rewind_keeps_what_still_fits) {
    struct vx_ring r;
    uint64_t q;
    make(&r, 8, 0);
    for (q = 0; q < 10; q++) {
        cr_assert_eq(claim(&r, 1), q);
        fill(&r, 1, q);
        vx_ring_publish(&r, 1, q);
        if (q < 6) {
            check_take(&r, q);
            if (q < 4) {
                vx_ring_release(&r, q);
            }
        }
    }
    /* free: none but what q = 10, 11 will take; held: 4, 5; ready: 6..9 */
    cr_assert_eq(vx_ring_rewind(&r, 4), VX_E_STATE);
    vx_ring_set_gate(&r, VX_GATE_PAUSED);
    cr_assert_eq(vx_ring_rewind(&r, 4), VX_OK);
    cr_assert_eq(vx_ring_depth(&r), 6);
    cr_assert_eq(vx_ring_claim(&r, 1, 0, &q), VX_E_BUSY);
    vx_ring_set_gate(&r, VX_GATE_OPEN);
    check_take(&r, 4);
    cr_assert_eq(claim(&r, 1), 10);
    vx_ring_set_gate(&r, VX_GATE_PAUSED);
    cr_assert_eq(vx_ring_rewind(&r, 0), VX_E_BUSY, "a claim is open");
    vx_ring_unclaim(&r, 1, 10);
    cr_assert_eq(vx_ring_rewind(&r, 0), VX_OK);
    vx_ring_set_gate(&r, VX_GATE_OPEN);
    for (q = 0; q < 4; q++) {
        cr_assert_eq(claim(&r, 1), q);
        fill(&r, 1, q);
        vx_ring_publish(&r, 1, q);
    }
    /* 4..7 were kept, 8 and 9 gave way to 0 and 1 */
    cr_assert_eq(vx_ring_depth(&r), 8);
    for (q = 0; q < 8; q++) {
        check_take(&r, q);
    }
    vx_ring_close(&r);
}

Test(session_ring, rewinding_far_forward_or_back_loses_nothing) {
    struct vx_ring r;
    make(&r, 8, 60);
    cr_assert_eq(claim(&r, 1), 60);
    fill(&r, 1, 60);
    vx_ring_publish(&r, 1, 60);
    vx_ring_set_gate(&r, VX_GATE_PAUSED);
    cr_assert_eq(vx_ring_rewind(&r, 4), VX_OK);
    vx_ring_set_gate(&r, VX_GATE_OPEN);
    for (uint64_t q = 4; q < 72; q++) {
        cr_assert_eq(claim(&r, 1), q);
        fill(&r, 1, q);
        vx_ring_publish(&r, 1, q);
        check_take(&r, q);
        vx_ring_release(&r, q);
    }
    vx_ring_close(&r);
}

/* Makes q showing a case. */
static void show(struct vx_ring *r, uint64_t q, uint32_t case_index) {
    cr_assert_eq(claim(r, 1), q);
    fill(r, 1, q);
    vx_ring_slot(r, q)->case_index = case_index;
    cr_assert(vx_ring_publish(r, 1, q));
}

Test(session_ring, a_discarded_case_is_made_again_from_where_nothing_of_it_was_taken) {
    static const uint32_t cases[] = {3, 5, 5, 3, 3, 5, 3, 5};
    struct vx_ring r;
    uint64_t from, q;
    make(&r, 8, 0);
    for (q = 0; q < 8; q++) {
        show(&r, q, cases[q]);
    }
    check_take(&r, 0);
    check_take(&r, 1);
    vx_ring_release(&r, 0);
    cr_assert_eq(vx_ring_discard(&r, 5, &from), VX_E_STATE, "the gate is open");
    q = claim(&r, 1);
    cr_assert_eq(q, 8);
    vx_ring_set_gate(&r, VX_GATE_PAUSED);
    cr_assert_eq(vx_ring_discard(&r, 5, &from), VX_E_BUSY, "8 is being made");
    vx_ring_unclaim(&r, 1, q);
    cr_assert_eq(vx_ring_discard(&r, 5, &from), VX_OK);
    cr_assert_eq(from, 2, "0 and 1 were taken");
    cr_assert_eq(vx_ring_depth(&r), 0);
    cr_assert_eq(vx_ring_discard(&r, 4, &from), VX_OK);
    cr_assert_eq(from, 2, "of a case that never came");
    for (q = 0; q < 10; q++) {
        bool made = q < 2 || (q < 8 && cases[q] == 3);
        cr_assert_eq(vx_ring_made(&r, q), made, "%d", (int)q);
    }
    vx_ring_set_gate(&r, VX_GATE_OPEN);
    show(&r, 2, 6);
    show(&r, 5, 6);
    show(&r, 7, 6);
    for (q = 2; q < 8; q++) {
        check_take(&r, q);
        cr_assert_neq(vx_ring_slot(&r, q)->case_index, 5);
    }
    vx_ring_close(&r);
}

struct sleeper {
    struct vx_ring *ring;
    int rc;
    uint64_t woke_ns;
};

static void *sleep_for_sample(void *arg) {
    struct sleeper *s = arg;
    uint64_t q;
    struct vx_sample sample;
    s->rc = vx_ring_take(s->ring, 20 * SECOND, &q, &sample);
    s->woke_ns = vx_now_ns();
    return NULL;
}

static void *sleep_for_work(void *arg) {
    struct sleeper *s = arg;
    uint64_t q;
    for (;;) {
        uint32_t mark = vx_ring_work_mark(s->ring);
        s->rc = vx_ring_claim(s->ring, 9, 0, &q);
        if (s->rc != VX_E_BUSY) {
            s->woke_ns = vx_now_ns();
            return NULL;
        }
        vx_ring_wait_work(s->ring, mark, 20 * SECOND);
    }
}

Test(session_ring, sleepers_wake_for_samples_slots_and_the_gate) {
    struct vx_ring r;
    pthread_t t;
    make(&r, 8, 0);
    struct sleeper s = {&r, 0, 0};
    uint64_t q = claim(&r, 1);
    pthread_create(&t, NULL, sleep_for_sample, &s);
    usleep(30000);
    fill(&r, 1, q);
    uint64_t start = vx_now_ns();
    vx_ring_publish(&r, 1, q);
    pthread_join(t, NULL);
    cr_assert_eq(s.rc, VX_OK);
    cr_assert_lt(s.woke_ns - start, 10 * SECOND, "it slept until its timeout");

    for (q = 1; q < 8; q++) {
        claim(&r, 1);
    }
    pthread_create(&t, NULL, sleep_for_work, &s);
    usleep(30000);
    start = vx_now_ns();
    vx_ring_release(&r, 0);
    pthread_join(t, NULL);
    cr_assert_eq(s.rc, VX_OK);
    cr_assert_lt(s.woke_ns - start, 10 * SECOND, "it slept until its timeout");

    pthread_create(&t, NULL, sleep_for_sample, &s);
    usleep(30000);
    vx_ring_set_gate(&r, VX_GATE_STOPPED);
    pthread_join(t, NULL);
    cr_assert_eq(s.rc, VX_E_CANCELLED);
    pthread_create(&t, NULL, sleep_for_work, &s);
    pthread_join(t, NULL);
    cr_assert_eq(s.rc, VX_E_CANCELLED);
    vx_ring_close(&r);
}

Test(session_ring, works_across_processes) {
    struct vx_ring r;
    make(&r, 8, 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct vx_ring mine;
        if (vx_ring_map(dup(r.shm.fd), &mine, NULL) != VX_OK) {
            _exit(1);
        }
        for (int i = 0; i < 72; i++) {
            uint64_t q;
            uint32_t mark = vx_ring_work_mark(&mine);
            while (vx_ring_claim(&mine, 1, 0, &q) != VX_OK) {
                vx_ring_wait_work(&mine, mark, SECOND);
                mark = vx_ring_work_mark(&mine);
            }
            fill(&mine, 1, q);
            vx_ring_publish(&mine, 1, q);
        }
        _exit(0);
    }
    for (uint64_t q = 0; q < 72; q++) {
        check_take(&r, q);
        vx_ring_release(&r, q);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    vx_ring_close(&r);
}
