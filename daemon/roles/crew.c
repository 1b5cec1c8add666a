/* See crew.h. */
#include "daemon/roles/crew.h"

#include "base/err.h"
#include "base/own.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct running {
    const struct vx_crew *crew;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t freed;
    size_t next, done;
    unsigned active;
    uint64_t used;
    int rc;
    struct vx_err err;
};

static bool over(const struct running *r) {
    return r->rc != VX_OK || r->next >= r->crew->n_items ||
           (r->crew->stop && atomic_load(r->crew->stop));
}

/* Takes the next item, waiting until its memory fits. False: nothing is left to do. Called with the
 * lock held. */
static bool take(struct running *r, size_t *ret_item, uint64_t *ret_cost) {
    while (!over(r)) {
        size_t item = r->next;
        uint64_t cost = r->crew->cost ? r->crew->cost(r->crew->ctx, item) : 0;
        bool fits =
            !r->crew->memory_bytes || r->active == 0 || r->used + cost <= r->crew->memory_bytes;
        if (fits) {
            r->next++;
            r->active++;
            r->used += cost;
            *ret_item = item;
            *ret_cost = cost;
            return true;
        }
        pthread_cond_wait(&r->freed, &r->lock);
    }
    return false;
}

static void *hand(void *arg) {
    struct running *r = arg;
    size_t item;
    uint64_t cost;
    pthread_mutex_lock(&r->lock);
    while (take(r, &item, &cost)) {
        pthread_mutex_unlock(&r->lock);
        struct vx_err err = {0};
        int rc = r->crew->work(r->crew->ctx, item, &err);
        pthread_mutex_lock(&r->lock);
        r->active--;
        r->used -= cost;
        if (rc != VX_OK && r->rc == VX_OK) {
            r->rc = rc;
            r->err = err;
        }
        if (rc == VX_OK) {
            r->done++;
            if (r->crew->done) {
                r->crew->done(r->crew->ctx, r->done);
            }
        }
        pthread_cond_broadcast(&r->freed);
    }
    pthread_cond_broadcast(&r->freed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int vx_crew_run(const struct vx_crew *crew, struct vx_err *err) {
    struct running r = {.crew = crew};
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.freed, NULL);
    size_t n = crew->threads < 1 ? 1 : (size_t)crew->threads;
    n = n < crew->n_items ? n : crew->n_items;
    vx_auto_free pthread_t *threads = calloc(n + 1, sizeof *threads);
    size_t started = 0;
    while (threads && started + 1 < n && pthread_create(&threads[started], NULL, hand, &r) == 0) {
        started++;
    }
    hand(&r); /* the caller works too: also where no thread could be started */
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_cond_destroy(&r.freed);
    pthread_mutex_destroy(&r.lock);
    if (r.rc != VX_OK) {
        if (err) {
            *err = r.err;
        }
        return r.rc;
    }
    return r.done == crew->n_items
               ? VX_OK
               : vx_fail(err, VX_E_CANCELLED, "stopped", "stopped before the end");
}
