/* The pipeline under everything at once: stages of random length, errors in every stage, a stop at
 * any moment, a budget that lets now one item go and now three. Loads pass through three threads
 * without a lock of their own: that nobody touches one that another has is what a sanitizer sees;
 * that every one is dropped exactly once is counted. */
#include "infer/pipeline.h"
#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RUNS = 400, ITEMS = 30, WORDS = 64 };

struct run {
    uint32_t seed[3]; /* of each stage's thread */
    size_t fail_stage, fail_at;
    long stop_after_ns;
    atomic_bool stop;
    atomic_int made, dropped;
    size_t next[3];
};

/* Written by every stage, read by the next. */
struct load {
    struct run *run;
    size_t item, stages;
    uint32_t words[WORDS];
};

static uint32_t draw(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void broken(const char *what, size_t item) {
    fprintf(stderr, "pipeline race: %s at item %zu\n", what, item);
    abort();
}

static int stage(struct run *r, size_t number, size_t item, struct load *l, struct vx_err *err) {
    if (item != r->next[number]++) {
        broken("out of order", item);
    }
    if (l && (l->item != item || l->stages++ != number)) {
        broken("a load of another stage", item);
    }
    for (size_t i = 0; l && i < WORDS; i++) {
        if (l->words[i] != (uint32_t)(item * 7 + i + (number ? number - 1 : 0))) {
            broken("a load that another has written", item);
        }
        l->words[i] = (uint32_t)(item * 7 + i + number);
    }
    if (draw(&r->seed[number]) % 4 == 0) {
        nanosleep(&(struct timespec){0, (long)(draw(&r->seed[number]) % 200000)}, NULL);
    }
    return r->fail_stage == number && r->fail_at == item ? vx_fail(err, VX_E_IO, NULL, "made up")
                                                         : VX_OK;
}

static int first(void *ctx, size_t item, void **ret_load, struct vx_err *err) {
    struct run *r = ctx;
    struct load *l = malloc(sizeof *l);
    *l = (struct load){r, item, 0, {0}};
    for (size_t i = 0; i < WORDS; i++) {
        l->words[i] = (uint32_t)(item * 7 + i);
    }
    int rc = stage(r, 0, item, l, err);
    if (rc != VX_OK) {
        free(l);
        return rc;
    }
    atomic_fetch_add(&r->made, 1);
    *ret_load = l;
    return VX_OK;
}

static int second(void *ctx, size_t item, void *load, struct vx_err *err) {
    return stage(ctx, 1, item, load, err);
}

static int third(void *ctx, size_t item, void *load, struct vx_err *err) {
    return stage(ctx, 2, item, load, err);
}

static void drop(void *load) {
    struct load *l = load;
    atomic_fetch_add(&l->run->dropped, 1);
    free(l);
}

static uint64_t cost(void *ctx, size_t item) {
    (void)ctx;
    return item % 3 + 1;
}

static void *stopper(void *arg) {
    struct run *r = arg;
    nanosleep(&(struct timespec){0, r->stop_after_ns}, NULL);
    atomic_store(&r->stop, true);
    return NULL;
}

int main(void) {
    uint32_t seed = 1;
    int ended[3] = {0}; /* whole, by error, by stop */
    for (int n = 0; n < RUNS; n++) {
        struct run r = {.seed = {draw(&seed), draw(&seed), draw(&seed)},
                        .fail_stage = draw(&seed) % 6,
                        .fail_at = draw(&seed) % ITEMS,
                        .stop_after_ns = (long)(draw(&seed) % 2000000)};
        bool stopping = draw(&seed) % 3 == 0;
        pthread_t thread;
        struct vx_err err = {0};
        struct vx_pipeline p = {.n_items = ITEMS,
                                .memory_bytes = draw(&seed) % 8,
                                .cost = cost,
                                .first = first,
                                .second = second,
                                .third = third,
                                .drop = drop,
                                .stop = &r.stop,
                                .ctx = &r};
        bool started = stopping && pthread_create(&thread, NULL, stopper, &r) == 0;
        int rc = vx_pipeline_run(&p, &err);
        if (started) {
            pthread_join(thread, NULL);
        }
        if (atomic_load(&r.made) != atomic_load(&r.dropped)) {
            broken("a load is lost or dropped twice", (size_t)n);
        }
        if (rc == VX_OK && (r.next[2] != ITEMS || r.fail_stage < 3)) {
            broken("whole without being so", (size_t)n);
        }
        ended[rc == VX_OK ? 0 : rc == VX_E_IO ? 1 : 2]++;
    }
    printf("pipeline race: %d whole, %d by an error, %d by a stop\n", ended[0], ended[1], ended[2]);
    return ended[0] && ended[1] && ended[2] ? 0 : 1;
}
