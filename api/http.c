/* libmicrohttpd on a libuv loop: its epoll descriptor is polled by the loop, its timeout becomes a
 * timer. Learned by measuring: MHD_run must be repeated until it has nothing more to do; a resume
 * counts only on this thread and needs a pump at once; everything must be awake before
 * MHD_stop_daemon. The only file here that knows libuv. */
#include "api/listen.h"
#include "api/request.h"
#include "base/clock.h"
#include "db/event.h"
#include "db/store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define PUMP_SPINS   16
#define DRAIN_MS     5000
#define DRAIN_TICK   20
#define HANDLES_EACH 2

struct vx_loop_side {
    struct {
        uv_poll_t poll;
        uv_timer_t timeout;
        bool used;
    } of[2]; /* as vx_api.listeners */
    uv_async_t wake;
    uv_timer_t heartbeat, drain;
    int open_handles;
    uint64_t drain_until_ns;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

static void on_timeout(uv_timer_t *timer);

static void pump(struct vx_api *api, int i) {
    struct vx_listener *l = &api->listeners[i];
    if (!l->mhd) {
        return;
    }
    MHD_UNSIGNED_LONG_LONG ms = 0;
    enum MHD_Result timed = MHD_YES;
    for (int spin = 0; spin < PUMP_SPINS && timed == MHD_YES && ms == 0; spin++) {
        MHD_run(l->mhd);
        timed = MHD_get_timeout(l->mhd, &ms);
    }
    if (timed == MHD_YES) {
        uv_timer_start(&api->side->of[i].timeout, on_timeout, ms, 0);
    } else {
        uv_timer_stop(&api->side->of[i].timeout);
    }
}

static void pump_all(struct vx_api *api) {
    pump(api, VX_LISTENER_TCP);
    pump(api, VX_LISTENER_UNIX);
}

static void on_timeout(uv_timer_t *timer) {
    struct vx_listener *l = timer->data;
    pump(l->api, l->kind);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    struct vx_listener *l = poll->data;
    pump(l->api, l->kind);
}

static void on_wake(uv_async_t *async) {
    struct vx_api *api = async->data;
    vx_tasks_finish(api);
    vx_streams_wake(api, false);
    pump_all(api);
}

static void on_heartbeat(uv_timer_t *timer) {
    struct vx_api *api = timer->data;
    vx_streams_wake(api, true);
    pump_all(api);
}

void vx_api_wake(struct vx_api *api) {
    uv_async_send(&api->side->wake);
}

void vx_api_notify_events(struct vx_api *api) {
    vx_api_wake(api);
}

static void api_free(struct vx_api *api) {
    vx_db_close(api->reader);
    vx_meter_free(api->meter);
    vx_rendered_release(api->rendered);
    vx_listen_release(api);
    pthread_mutex_destroy(&api->lock);
    free(api->side);
    free(api);
}

/* ---- the end ---- */

static void one_closed(struct vx_api *api) {
    if (--api->side->open_handles > 0) {
        return;
    }
    void (*stopped)(void *) = api->side->stopped;
    void *arg = api->side->stopped_arg;
    api_free(api);
    if (stopped) {
        stopped(arg);
    }
}

static void on_listener_closed(uv_handle_t *handle) {
    one_closed(((struct vx_listener *)handle->data)->api);
}

static void on_own_closed(uv_handle_t *handle) {
    one_closed(handle->data);
}

/* Stops libmicrohttpd and closes every handle; the last close frees api. */
static void shut(struct vx_api *api) {
    struct vx_loop_side *side = api->side;
    for (int i = 0; i < 2; i++) {
        if (side->of[i].used) {
            uv_poll_stop(&side->of[i].poll);
        }
        if (api->listeners[i].mhd) {
            MHD_stop_daemon(api->listeners[i].mhd);
            api->listeners[i].mhd = NULL;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (side->of[i].used) {
            uv_close((uv_handle_t *)&side->of[i].poll, on_listener_closed);
            uv_close((uv_handle_t *)&side->of[i].timeout, on_listener_closed);
        }
    }
    uv_close((uv_handle_t *)&side->wake, on_own_closed);
    uv_close((uv_handle_t *)&side->heartbeat, on_own_closed);
    uv_close((uv_handle_t *)&side->drain, on_own_closed);
}

/* Until nobody waits for an answer any more. Store operations are always waited for: their outcome
 * has no other place to go to. */
static void on_drain(uv_timer_t *timer) {
    struct vx_api *api = timer->data;
    vx_streams_wake(api, true);
    pump_all(api);
    bool late = vx_now_ns() >= api->side->drain_until_ns;
    if (api->store_tasks == 0 && (api->active_requests == 0 || late)) {
        /* A stream that a pump has just put to sleep again must not be asleep now. */
        vx_streams_wake(api, true);
        shut(api);
    }
}

void vx_api_stop(struct vx_api *api, void (*done)(void *arg), void *arg) {
    if (api->draining) {
        return;
    }
    api->draining = true;
    api->side->stopped = done;
    api->side->stopped_arg = arg;
    api->side->drain_until_ns = vx_now_ns() + (uint64_t)DRAIN_MS * 1000000;
    vx_listen_close(api);
    uv_timer_start(&api->side->drain, on_drain, 0, DRAIN_TICK);
}

/* ---- the start ---- */

static int watch(uv_loop_t *loop, struct vx_api *api, int i, struct vx_err *err) {
    struct vx_listener *l = &api->listeners[i];
    if (!l->mhd) {
        return VX_OK;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    int e = info ? uv_poll_init(loop, &api->side->of[i].poll, info->epoll_fd) : UV_EBADF;
    if (e != 0) {
        return vx_fail(err, VX_E_IO, NULL, "cannot watch the HTTP server's sockets: %s",
                       uv_strerror(e));
    }
    uv_timer_init(loop, &api->side->of[i].timeout);
    api->side->of[i].poll.data = api->side->of[i].timeout.data = l;
    api->side->of[i].used = true;
    api->side->open_handles += HANDLES_EACH;
    uv_poll_start(&api->side->of[i].poll, UV_READABLE, on_ready);
    return VX_OK;
}

static int make_handles(uv_loop_t *loop, struct vx_api *api, struct vx_err *err) {
    struct vx_loop_side *side = api->side;
    int e = uv_async_init(loop, &side->wake, on_wake);
    if (e != 0) {
        return vx_fail(err, VX_E_IO, NULL, "cannot make a wake-up handle: %s", uv_strerror(e));
    }
    uv_timer_init(loop, &side->heartbeat);
    uv_timer_init(loop, &side->drain);
    side->wake.data = side->heartbeat.data = side->drain.data = api;
    side->open_handles = 3;
    uv_timer_start(&side->heartbeat, on_heartbeat, api->config.limits.heartbeat_ms,
                   api->config.limits.heartbeat_ms);
    return VX_OK;
}

static void set_default_limits(struct vx_api_limits *l) {
    l->body_bytes = l->body_bytes ? l->body_bytes : 1 << 20;
    l->header_bytes = l->header_bytes ? l->header_bytes : 16 << 10;
    l->connections = l->connections ? l->connections : 256;
    l->connections_per_ip = l->connections_per_ip ? l->connections_per_ip : 128;
    l->idle_seconds = l->idle_seconds ? l->idle_seconds : 30;
    l->streams = l->streams ? l->streams : 64;
    l->streams_per_client = l->streams_per_client ? l->streams_per_client : 8;
    l->unfinished_jobs = l->unfinished_jobs ? l->unfinished_jobs : 1000;
    l->json_depth = l->json_depth ? l->json_depth : 16;
    l->heartbeat_ms = l->heartbeat_ms ? l->heartbeat_ms : 15000;
}

int vx_api_start(struct uv_loop_s *loop, const struct vx_api_config *config, struct vx_api **ret,
                 struct vx_err *err) {
    struct vx_api *api = calloc(1, sizeof *api);
    struct vx_loop_side *side = calloc(1, sizeof *side);
    struct vx_meter *meter = vx_meter_create();
    if (!api || !side || !meter) {
        free(api);
        free(side);
        vx_meter_free(meter);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    api->side = side;
    api->meter = meter;
    pthread_mutex_init(&api->lock, NULL);
    int rc = vx_listen_copy_config(api, config, err);
    set_default_limits(&api->config.limits);
    rc = rc == VX_OK ? vx_db_reader_open(config->db_path, &api->reader, err) : rc;
    rc = rc == VX_OK ? vx_db_event_last(api->reader, &api->newest_event, err) : rc;
    rc = rc == VX_OK ? make_handles(loop, api, err) : rc;
    if (rc != VX_OK) {
        api_free(api);
        return rc;
    }
    rc = vx_listen_open(api, err);
    for (int i = 0; rc == VX_OK && i < 2; i++) {
        rc = watch(loop, api, i, err);
    }
    if (rc != VX_OK) {
        vx_listen_close(api);
        shut(api); /* frees api when the loop runs next */
        return rc;
    }
    pump_all(api);
    *ret = api;
    return VX_OK;
}

int vx_api_port(const struct vx_api *api) {
    return api->port;
}
