/* The checkpoint thread. `mutex` guards state and result; the copy belongs to the thread while
 * state is WRITING and to the engine otherwise. */
#include "train/writer.h"

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "device/oplist.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum writer_state { IDLE, WRITING, LEAVING };

struct vx_writer {
    struct vx_ckpt copy;
    char *path; /* of the last one started */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum writer_state state;
    bool has_result; /* of a write that vx_writer_result has not told about */
    int rc;
    struct vx_err err;
};

static void *writer_main(void *arg) {
    struct vx_writer *w = arg;
    pthread_mutex_lock(&w->mutex);
    while (w->state != LEAVING) {
        if (w->state == IDLE) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        pthread_mutex_unlock(&w->mutex);
        struct vx_err err = {0};
        int rc = vx_ckpt_write(w->path, &w->copy, &err);
        pthread_mutex_lock(&w->mutex);
        w->rc = rc;
        w->err = err;
        w->has_result = true;
        w->state = IDLE;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* Signals are for the engine's thread: its stop flag. */
static int start_thread(struct vx_writer *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int allocate_copy(const struct vx_oplist *net, struct vx_ckpt *c, struct vx_err *err) {
    for (int i = 0; i < net->n_params; i++) {
        const struct vx_param *p = &net->params[i];
        int64_t shape[VX_CKPT_MAX_RANK];
        for (int a = 0; a < p->ndim; a++) {
            shape[a] = p->shape[a];
        }
        if (!vx_ckpt_add(c, p->name, p->ndim, shape, true)) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the checkpoint's copy of %s",
                           p->name);
        }
    }
    return VX_OK;
}

int vx_writer_create(const struct vx_oplist *net, struct vx_writer **ret, struct vx_err *err) {
    struct vx_writer *w = calloc(1, sizeof(*w));
    if (!w) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the checkpoint writer");
    }
    vx_ckpt_init(&w->copy);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    int rc = allocate_copy(net, &w->copy, err);
    if (rc == VX_OK) {
        int errnum = start_thread(w);
        rc =
            errnum ? vx_fail_errno(err, errnum, NULL, "cannot start the checkpoint thread") : VX_OK;
    }
    if (rc != VX_OK) {
        vx_ckpt_release(&w->copy);
        free(w);
        return rc;
    }
    *ret = w;
    return VX_OK;
}

void vx_writer_free(struct vx_writer *w) {
    if (!w) {
        return;
    }
    vx_writer_begin(w);
    pthread_mutex_lock(&w->mutex);
    w->state = LEAVING;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    vx_ckpt_release(&w->copy);
    free(w->path);
    free(w);
}

bool vx_writer_busy(struct vx_writer *w) {
    pthread_mutex_lock(&w->mutex);
    bool busy = w->state == WRITING;
    pthread_mutex_unlock(&w->mutex);
    return busy;
}

struct vx_ckpt *vx_writer_begin(struct vx_writer *w) {
    pthread_mutex_lock(&w->mutex);
    while (w->state == WRITING) {
        pthread_cond_wait(&w->changed, &w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
    return &w->copy;
}

int vx_writer_start(struct vx_writer *w, const char *path, struct vx_err *err) {
    char *mine = strdup(path);
    if (!mine) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a path");
    }
    vx_writer_begin(w);
    free(w->path);
    w->path = mine;
    pthread_mutex_lock(&w->mutex);
    w->state = WRITING;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    return VX_OK;
}

int vx_writer_result(struct vx_writer *w, const char **ret_path, uint64_t *ret_k,
                     struct vx_err *err) {
    *ret_path = NULL;
    pthread_mutex_lock(&w->mutex);
    int rc = VX_OK;
    if (w->state == IDLE && w->has_result) {
        w->has_result = false;
        rc = w->rc;
        if (rc == VX_OK) {
            *ret_path = w->path;
            *ret_k = (uint64_t)w->copy.k;
        } else if (err) {
            *err = w->err;
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}
