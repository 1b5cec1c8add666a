/* Three stages that overlap: order, room, errors, stopping. */
#include "base/err.h"
#include "infer/pipeline.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { ITEMS = 40, NEVER = ITEMS };

struct job {
    size_t fail_at[3]; /* item at which a stage fails; NEVER: it does not */
    size_t stop_at;    /* item at whose second stage the stop flag is set */
    atomic_bool stop;
    atomic_int alive, most_alive;
    atomic_long used, most_used;
    size_t next[3]; /* what each stage expects: its own thread only */
    pthread_t thread[3];
    long cost[ITEMS];
    bool slow[3]; /* that stage takes a while */
};

struct load {
    struct job *job;
    size_t item;
};

static void job_init(struct job *j) {
    memset(j, 0, sizeof *j);
    j->stop_at = NEVER;
    for (int s = 0; s < 3; s++) {
        j->fail_at[s] = NEVER;
    }
    for (int i = 0; i < ITEMS; i++) {
        j->cost[i] = 10;
    }
}

static void raise_to(atomic_long *most, long value) {
    long seen = atomic_load(most);
    while (value > seen && !atomic_compare_exchange_weak(most, &seen, value)) {
    }
}

static int work(struct job *j, int stage, size_t item, struct vx_err *err) {
    cr_assert_eq(item, j->next[stage]++, "stage %d got item %zu", stage, item);
    j->thread[stage] = pthread_self();
    if (j->slow[stage]) {
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return item == j->fail_at[stage]
               ? vx_fail(err, VX_E_IO, "made_up", "stage %d at item %zu", stage, item)
               : VX_OK;
}

static uint64_t cost(void *ctx, size_t item) {
    return (uint64_t)((struct job *)ctx)->cost[item];
}

static int first(void *ctx, size_t item, void **ret_load, struct vx_err *err) {
    struct job *j = ctx;
    long alive = atomic_fetch_add(&j->alive, 1) + 1;
    long used = atomic_fetch_add(&j->used, j->cost[item]) + j->cost[item];
    int seen = atomic_load(&j->most_alive);
    while (alive > seen && !atomic_compare_exchange_weak(&j->most_alive, &seen, (int)alive)) {
    }
    raise_to(&j->most_used, used);
    int rc = work(j, 0, item, err);
    if (rc != VX_OK) {
        atomic_fetch_sub(&j->alive, 1);
        return rc;
    }
    struct load *l = malloc(sizeof *l);
    *l = (struct load){j, item};
    *ret_load = l;
    return VX_OK;
}

static int second(void *ctx, size_t item, void *load, struct vx_err *err) {
    struct job *j = ctx;
    cr_assert_eq(((struct load *)load)->item, item);
    if (item == j->stop_at) {
        atomic_store(&j->stop, true);
    }
    return work(j, 1, item, err);
}

static int third(void *ctx, size_t item, void *load, struct vx_err *err) {
    cr_assert_eq(((struct load *)load)->item, item);
    return work(ctx, 2, item, err);
}

static void drop(void *load) {
    struct load *l = load;
    atomic_fetch_sub(&l->job->used, l->job->cost[l->item]);
    atomic_fetch_sub(&l->job->alive, 1);
    free(l);
}

static int run(struct job *j, uint64_t budget, struct vx_err *err) {
    struct vx_pipeline p = {.n_items = ITEMS,
                            .memory_bytes = budget,
                            .cost = cost,
                            .first = first,
                            .second = second,
                            .third = third,
                            .drop = drop,
                            .stop = &j->stop,
                            .ctx = j};
    int rc = vx_pipeline_run(&p, err);
    cr_assert_eq(atomic_load(&j->alive), 0, "%d loads were not dropped", atomic_load(&j->alive));
    return rc;
}

Test(infer_pipeline, keeps_order_and_overlaps) {
    for (int slow = 0; slow < 3; slow++) {
        struct job j;
        struct vx_err err = {0};
        job_init(&j);
        j.slow[slow] = true;
        cr_assert_eq(run(&j, 0, &err), VX_OK, "%s", err.text);
        cr_assert(j.next[0] == ITEMS && j.next[1] == ITEMS && j.next[2] == ITEMS);
        cr_expect(pthread_equal(j.thread[1], pthread_self()));
        cr_expect(!pthread_equal(j.thread[0], j.thread[1]) &&
                  !pthread_equal(j.thread[2], j.thread[1]));
        cr_expect_leq(atomic_load(&j.most_alive), 3);
        cr_expect_geq(atomic_load(&j.most_alive), 2, "nothing overlapped");
    }
}

Test(infer_pipeline, stays_within_the_budget_unless_one_item_is_larger) {
    struct job j;
    struct vx_err err = {0};
    job_init(&j);
    j.slow[1] = true;
    cr_assert_eq(run(&j, 25, &err), VX_OK);
    cr_expect_leq(atomic_load(&j.most_used), 25);
    cr_expect_eq(atomic_load(&j.most_alive), 2);
    job_init(&j);
    for (int i = 0; i < ITEMS; i++) {
        j.cost[i] = i % 2 ? 100 : 10;
    }
    cr_assert_eq(run(&j, 25, &err), VX_OK); /* the large ones go alone */
    cr_expect_leq(atomic_load(&j.most_used), 100);
    cr_expect_eq(j.next[2], ITEMS);
}

Test(infer_pipeline, an_error_of_any_stage_ends_it) {
    for (int stage = 0; stage < 3; stage++) {
        for (size_t at = 0; at < ITEMS; at += 13) {
            struct job j;
            struct vx_err err = {0};
            job_init(&j);
            j.fail_at[stage] = at;
            cr_assert_eq(run(&j, 0, &err), VX_E_IO);
            cr_expect_str_eq(err.reason, "made_up");
            cr_expect_eq(j.next[stage], at + 1);
            cr_expect_leq(j.next[0], at + 4, "%zu items were begun", j.next[0]);
        }
    }
}

Test(infer_pipeline, stops_when_told) {
    struct job j;
    struct vx_err err = {0};
    job_init(&j);
    j.stop_at = 5;
    cr_assert_eq(run(&j, 0, &err), VX_E_CANCELLED);
    cr_expect_eq(j.next[1], 6);
    cr_expect_leq(j.next[2], 5);
    job_init(&j);
    atomic_store(&j.stop, true);
    cr_assert_eq(run(&j, 0, &err), VX_E_CANCELLED);
    cr_expect_eq(j.next[0], 0);
}

Test(infer_pipeline, nothing_to_do_is_done) {
    struct job j;
    job_init(&j);
    struct vx_pipeline p = {
        .first = first, .second = second, .third = third, .drop = drop, .ctx = &j};
    cr_assert_eq(vx_pipeline_run(&p, NULL), VX_OK);
}
