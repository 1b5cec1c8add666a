/* The tree of everything a daemon owns. Thread: loop thread, except where a member says otherwise.
 */
#ifndef VX_DAEMON_APP_H
#define VX_DAEMON_APP_H

#include "daemon/config.h"
#include "daemon/home.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

struct vx_api_hooks;

struct vx_app {
    struct vx_config config;
    struct vx_home home;
    uv_loop_t loop;
    uv_signal_t sigterm, sigint, sighup;
    uv_timer_t tick; /* duties of once a second */
    uv_timer_t watchdog;
    uint64_t watchdog_ms;
    char *db_path, *jobs_dir;
    struct vx_store *store;
    struct vx_db *reader; /* of the loop thread */
    struct vx_post *post;
    struct vx_children *children;
    struct vx_telemetry *telemetry;
    struct vx_datasets *datasets;
    struct vx_found_devices *devices;
    struct vx_dispatch *dispatch;
    struct vx_api *api;
    bool ready;    /* everything runs */
    bool draining; /* a stop was asked for */
    int exit_status;
    int cores;
    char cpu_model[128];
    int64_t started_ms;
};

/* hooks.c: what the HTTP interface asks of the daemon. */
void vx_app_hooks(struct vx_app *app, struct vx_api_hooks *ret);

#endif
