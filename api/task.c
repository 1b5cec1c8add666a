/* Store operations of requests: the connection sleeps while its operation waits for the commit. The
 * store thread only puts the request into a list and wakes the loop: libmicrohttpd, driven from
 * outside, would never notice a resume from another thread. */
#include "api/request.h"
#include "db/store.h"

#include <stdlib.h>

static int run(struct vx_db *db, void *arg, struct vx_err *err) {
    struct vx_req *r = arg;
    return r->task_op(db, r->task_arg, err);
}

/* Store thread. */
static void done(int rc, const struct vx_err *err, void *arg) {
    struct vx_req *r = arg;
    struct vx_api *api = r->api;
    r->task_rc = rc;
    r->task_err = *err;
    pthread_mutex_lock(&api->lock);
    r->next_finished = api->finished;
    api->finished = r;
    /* Under the lock: the loop may end the api as soon as it has seen the last task. */
    vx_api_wake(api);
    pthread_mutex_unlock(&api->lock);
}

enum MHD_Result vx_req_submit(struct vx_req *r,
                              int (*op)(struct vx_db *db, void *arg, struct vx_err *err), void *arg,
                              void (*free_arg)(void *)) {
    r->task_op = op;
    r->task_arg = arg;
    r->task_free = free_arg;
    struct vx_err err = {0};
    if (vx_store_submit(r->api->config.store, run, r, done, &err) != VX_OK) {
        return vx_problem_status(r, 503, &err);
    }
    r->api->store_tasks++;
    MHD_suspend_connection(r->conn);
    return MHD_YES;
}

void vx_tasks_finish(struct vx_api *api) {
    pthread_mutex_lock(&api->lock);
    struct vx_req *list = api->finished;
    api->finished = NULL;
    pthread_mutex_unlock(&api->lock);
    while (list) {
        struct vx_req *r = list;
        list = r->next_finished;
        r->phase = VX_REQ_FINISHING;
        api->store_tasks--;
        MHD_resume_connection(r->conn);
    }
}
