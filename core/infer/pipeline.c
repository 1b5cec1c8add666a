#include "infer/pipeline.h"
#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>

/* An item between two stages. */
struct parcel {
    bool full;
    size_t item;
    uint64_t cost;
    void *load;
};

struct line {
    const struct vx_pipeline *p;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t moved;
    struct parcel made, finished; /* before the second and the third stage */
    bool made_all, finished_all;
    size_t n_alive, n_done;
    uint64_t used;
    int rc;
    struct vx_err err;
};

/* These are called with the lock held. */

static bool over(const struct line *l) {
    return l->rc != VX_OK || (l->p->stop && atomic_load(l->p->stop));
}

static void fail(struct line *l, int rc, const struct vx_err *err) {
    if (l->rc == VX_OK) {
        l->rc = rc;
        l->err = *err;
    }
}

static void leave(struct line *l, const struct parcel *parcel) {
    l->n_alive--;
    l->used -= parcel->cost;
    pthread_cond_broadcast(&l->moved);
}

static bool fits(const struct line *l, uint64_t cost) {
    return l->n_alive == 0 || l->p->memory_bytes == 0 || l->used + cost <= l->p->memory_bytes;
}

static void wait_for_room(struct line *l, uint64_t cost) {
    while (!over(l) && (l->made.full || !fits(l, cost))) {
        pthread_cond_wait(&l->moved, &l->lock);
    }
}

/* --- stages; each unlocks for its work --- */

static void *run_first(void *arg) {
    struct line *l = arg;
    const struct vx_pipeline *p = l->p;
    for (size_t i = 0; i < p->n_items; i++) {
        struct parcel parcel = {true, i, p->cost ? p->cost(p->ctx, i) : 0, NULL};
        struct vx_err err = {0};
        pthread_mutex_lock(&l->lock);
        wait_for_room(l, parcel.cost);
        bool end = over(l);
        l->n_alive += !end;
        l->used += end ? 0 : parcel.cost;
        pthread_mutex_unlock(&l->lock);
        if (end) {
            break;
        }
        int rc = p->first(p->ctx, i, &parcel.load, &err);
        pthread_mutex_lock(&l->lock);
        if (rc == VX_OK) {
            l->made = parcel;
        } else {
            fail(l, rc, &err);
            leave(l, &parcel);
        }
        pthread_cond_broadcast(&l->moved);
        pthread_mutex_unlock(&l->lock);
    }
    pthread_mutex_lock(&l->lock);
    l->made_all = true;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Hands a parcel to the third stage, which works on one at a time. */
static bool pass_on(struct line *l, const struct parcel *parcel) {
    while (!over(l) && l->finished.full) {
        pthread_cond_wait(&l->moved, &l->lock);
    }
    if (over(l)) {
        return false;
    }
    l->finished = *parcel;
    pthread_cond_broadcast(&l->moved);
    return true;
}

static void run_second(struct line *l) {
    const struct vx_pipeline *p = l->p;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!over(l) && !l->made.full && !l->made_all) {
            pthread_cond_wait(&l->moved, &l->lock);
        }
        if (over(l) || !l->made.full) {
            break;
        }
        struct parcel parcel = l->made;
        struct vx_err err = {0};
        l->made.full = false;
        pthread_cond_broadcast(&l->moved);
        pthread_mutex_unlock(&l->lock);
        int rc = p->second(p->ctx, parcel.item, parcel.load, &err);
        pthread_mutex_lock(&l->lock);
        if (rc != VX_OK) {
            fail(l, rc, &err);
        }
        if (rc != VX_OK || !pass_on(l, &parcel)) {
            pthread_mutex_unlock(&l->lock);
            p->drop(parcel.load);
            pthread_mutex_lock(&l->lock);
            leave(l, &parcel);
        }
    }
    l->finished_all = true;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}

static void *run_third(void *arg) {
    struct line *l = arg;
    const struct vx_pipeline *p = l->p;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->finished.full && !l->finished_all) {
            pthread_cond_wait(&l->moved, &l->lock);
        }
        if (!l->finished.full) {
            break;
        }
        struct parcel parcel = l->finished; /* stays full until it is done: one at a time */
        struct vx_err err = {0};
        bool wanted = !over(l);
        pthread_mutex_unlock(&l->lock);
        int rc = wanted ? p->third(p->ctx, parcel.item, parcel.load, &err) : VX_OK;
        p->drop(parcel.load);
        pthread_mutex_lock(&l->lock);
        if (rc != VX_OK) {
            fail(l, rc, &err);
        }
        l->n_done += wanted && rc == VX_OK;
        l->finished.full = false;
        leave(l, &parcel);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int run(struct line *l, struct vx_err *err) {
    pthread_t first, third;
    if (pthread_create(&third, NULL, run_third, l) != 0) {
        return vx_fail(err, VX_E_NOMEM, NULL, "a thread could not be started");
    }
    bool started = pthread_create(&first, NULL, run_first, l) == 0;
    if (!started) {
        struct vx_err none = {0};
        vx_fail(&none, VX_E_NOMEM, NULL, "a thread could not be started");
        pthread_mutex_lock(&l->lock);
        fail(l, none.code, &none);
        pthread_mutex_unlock(&l->lock);
    }
    run_second(l);
    if (started) {
        pthread_join(first, NULL);
    }
    pthread_join(third, NULL);
    if (l->made.full) {
        l->p->drop(l->made.load);
    }
    if (l->rc == VX_OK && l->n_done < l->p->n_items) {
        l->rc = vx_fail(&l->err, VX_E_CANCELLED, "stopped", "stopped after %zu of %zu", l->n_done,
                        l->p->n_items);
    }
    if (l->rc != VX_OK && err) {
        *err = l->err;
    }
    return l->rc;
}

int vx_pipeline_run(const struct vx_pipeline *pipeline, struct vx_err *err) {
    struct line l = {.p = pipeline};
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.moved, NULL);
    int rc = run(&l, err);
    pthread_cond_destroy(&l.moved);
    pthread_mutex_destroy(&l.lock);
    return rc;
}
