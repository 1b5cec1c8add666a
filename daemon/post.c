/* See post.h. */
#include "daemon/post.h"

#include "base/err.h"
#include "base/log.h"
#include "db/store.h"

#include <uv.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct item {
    struct item *next;
    void (*fn)(void *arg);
    void *arg;
};

#define AGAIN_MS 1000 /* between two tries of a call that must not be lost */

struct call;

struct vx_post {
    uv_async_t async;
    uv_timer_t again;     /* loop thread only, like the two below */
    struct call *refused; /* wait for another try */
    bool giving_up;
    pthread_mutex_t lock; /* guards the list; nothing is called under it */
    struct item *first, **end;
};

static void run_waiting(struct vx_post *p) {
    for (;;) {
        pthread_mutex_lock(&p->lock);
        struct item *list = p->first;
        p->first = NULL;
        p->end = &p->first;
        pthread_mutex_unlock(&p->lock);
        if (!list) {
            return;
        }
        while (list) {
            struct item *next = list->next;
            list->fn(list->arg);
            free(list);
            list = next;
        }
    }
}

static void on_again(uv_timer_t *timer);

static void on_async(uv_async_t *async) {
    run_waiting(async->data);
}

struct vx_post *vx_post_create(uv_loop_t *loop, struct vx_err *err) {
    struct vx_post *p = calloc(1, sizeof *p);
    if (!p || uv_async_init(loop, &p->async, on_async) != 0) {
        free(p);
        vx_fail(err, VX_E_NOMEM, NULL, "cannot set up the loop's mailbox");
        return NULL;
    }
    uv_timer_init(loop, &p->again);
    p->async.data = p->again.data = p;
    p->end = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void vx_post(struct vx_post *p, void (*fn)(void *arg), void *arg) {
    struct item *item = malloc(sizeof *item);
    if (!item) {
        vx_log_err("post", "out_of_memory");
        abort(); /* a lost completion would leave a job hanging for ever; a restart resumes it */
    }
    *item = (struct item){NULL, fn, arg};
    pthread_mutex_lock(&p->lock);
    *p->end = item;
    p->end = &item->next;
    pthread_mutex_unlock(&p->lock);
    uv_async_send(&p->async);
}

void vx_post_close(struct vx_post *p) {
    run_waiting(p);
    uv_close((uv_handle_t *)&p->async, NULL);
    uv_close((uv_handle_t *)&p->again, NULL);
}

void vx_post_free(struct vx_post *p) {
    if (p) {
        pthread_mutex_destroy(&p->lock);
        free(p);
    }
}

struct call {
    struct vx_post *post;
    struct vx_store *store;
    vx_post_op op;
    void *arg;
    vx_post_then then;
    bool firmly;
    bool said; /* that it is tried again */
    int rc;
    struct vx_err err;
    struct call *next; /* in refused */
};

static int run_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct call *c = arg;
    return c->op(db, c->arg, err);
}

static void try_later(struct call *c) {
    struct vx_post *p = c->post;
    if (!c->said) {
        c->said = true;
        vx_log_err("post", "store_refused trying=again text=\"%s\"", c->err.text);
    }
    c->next = p->refused;
    p->refused = c;
    if (!uv_is_active((uv_handle_t *)&p->again)) {
        uv_timer_start(&p->again, on_again, AGAIN_MS, 0);
    }
}

static void on_loop(void *arg) {
    struct call *c = arg;
    if (c->firmly && !c->post->giving_up && vx_store_passing(c->rc)) {
        try_later(c);
        return;
    }
    if (c->then) {
        c->then(c->arg, c->rc, c->rc == VX_OK ? NULL : &c->err);
    }
    free(c);
}

static void on_done(int rc, const struct vx_err *err, void *arg) {
    struct call *c = arg;
    c->rc = rc;
    if (err) {
        c->err = *err;
    }
    vx_post(c->post, on_loop, c);
}

static void submit(struct call *c) {
    int rc = vx_store_submit(c->store, run_op, c, on_done, &c->err);
    if (rc != VX_OK) {
        c->rc = rc;
        vx_post(c->post, on_loop, c);
    }
}

static struct call *take_refused(struct vx_post *p) {
    struct call *list = p->refused;
    p->refused = NULL;
    return list;
}

static void on_again(uv_timer_t *timer) {
    for (struct call *c = take_refused(timer->data), *next; c; c = next) {
        next = c->next;
        submit(c);
    }
}

void vx_post_give_up(struct vx_post *p) {
    p->giving_up = true;
    uv_timer_stop(&p->again);
    for (struct call *c = take_refused(p), *next; c; c = next) {
        next = c->next;
        vx_post(p, on_loop, c);
    }
}

static void begin(struct vx_post *p, struct vx_store *store, vx_post_op op, void *arg,
                  vx_post_then then, bool firmly) {
    struct call *c = calloc(1, sizeof *c);
    if (!c) {
        vx_log_err("post", "out_of_memory");
        abort();
    }
    *c = (struct call){
        .post = p, .store = store, .op = op, .arg = arg, .then = then, .firmly = firmly};
    submit(c);
}

void vx_post_store(struct vx_post *p, struct vx_store *store, vx_post_op op, void *arg,
                   vx_post_then then) {
    begin(p, store, op, arg, then, false);
}

void vx_post_store_firmly(struct vx_post *p, struct vx_store *store, vx_post_op op, void *arg,
                          vx_post_then then) {
    begin(p, store, op, arg, then, true);
}
