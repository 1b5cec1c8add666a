/* Inside this room only: the state that requests share. Everything belongs to the loop thread
 * except `finished`, which the store thread appends to under its lock. */
#ifndef VX_API_SERVER_H
#define VX_API_SERVER_H

#include "api/api.h"
#include "api/meter.h"
#include "api/rendered.h"

#include <microhttpd.h>
#include <pthread.h>
#include <sys/types.h>

struct vx_db;
struct vx_loop_side; /* the libuv handles, http.c */
struct vx_req;
struct vx_stream;

enum vx_listener_kind { VX_LISTENER_TCP, VX_LISTENER_UNIX };

/* One libmicrohttpd daemon. */
struct vx_listener {
    struct vx_api *api; /* borrowed, outlives this */
    enum vx_listener_kind kind;
    struct MHD_Daemon *mhd;
};

struct vx_api {
    struct vx_api_config config; /* strings are owned copies, limits are filled in */
    char **hosts;                /* owned copy of allowed_hosts, NULL-terminated; may be NULL */
    struct vx_db *reader;
    struct vx_listener listeners[2];
    int port;
    gid_t group; /* whose members may use the Unix socket; (gid_t)-1: none */
    bool draining;

    size_t active_requests;
    size_t store_tasks; /* operations whose outcome is not known yet */
    struct vx_stream *streams;
    unsigned n_streams;
    int64_t newest_event; /* the newest that event streams were woken for */
    struct vx_meter *meter;
    struct vx_rendered rendered[VX_RENDERED]; /* job documents that are still true */

    pthread_mutex_t lock; /* guards finished */
    struct vx_req *finished;

    struct vx_loop_side *side;
};

/* http.c: makes the loop call vx_api_work soon. Any thread. */
void vx_api_wake(struct vx_api *api);
/* task.c: resumes the requests whose store operation is done. */
void vx_tasks_finish(struct vx_api *api);
/* stream.c: resumes event streams; all of them when `everyone`, else only if there are new events.
 */
void vx_streams_wake(struct vx_api *api, bool everyone);

#endif
