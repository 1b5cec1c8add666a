/* `voxeld serve`: builds the tree of struct vx_app, runs the loop, takes it down in reverse.
 *
 * A stop (SIGTERM, SIGINT, SIGHUP: the terminal was closed) drains: submissions get 503, waiting
 * jobs go back to the queue, trainings write a checkpoint and end, then the HTTP interface, the
 * store and the loop are closed and the exit status is 0. Further signals change nothing. */
#include "daemon/app.h"

#include "api/api.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/children.h"
#include "daemon/datasets.h"
#include "daemon/devices/find.h"
#include "daemon/dispatch.h"
#include "daemon/notify.h"
#include "daemon/post.h"
#include "daemon/telemetry/procstat.h"
#include "daemon/telemetry/telemetry.h"
#include "daemon/verbs.h"
#include "db/job.h"
#include "db/store.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TICK_MS 1000

static void on_commit(int64_t last_event_id, void *arg) {
    (void)last_event_id;
    vx_api_notify_events(((struct vx_app *)arg)->api);
}

static void kick_soon(void *arg) {
    struct vx_app *app = arg;
    if (app->dispatch) {
        vx_dispatch_kick(app->dispatch);
    }
}

/* --- taking down --- */

static void close_handle(uv_handle_t *handle) {
    if (handle->loop && !uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void on_api_stopped(void *arg) {
    struct vx_app *app = arg;
    app->api = NULL;
    vx_children_stop(app->children);
    close_handle((uv_handle_t *)&app->tick);
    close_handle((uv_handle_t *)&app->watchdog);
    vx_post_close(app->post);
}

static void on_drained(void *arg) {
    struct vx_app *app = arg;
    vx_log_notice("serve", "drained");
    vx_store_on_commit(app->store, NULL, NULL);
    vx_api_stop(app->api, on_api_stopped, app);
}

static void on_signal(uv_signal_t *handle, int signum) {
    struct vx_app *app = handle->data;
    if (app->draining) {
        return;
    }
    vx_log_notice("serve", "stopping signal=%d", signum);
    app->draining = true;
    vx_notify_stopping();
    vx_post_give_up(app->post);
    vx_datasets_drain(app->datasets);
    vx_dispatch_drain(app->dispatch);
}

/* --- duties --- */

static void on_tick(uv_timer_t *timer) {
    struct vx_app *app = timer->data;
    vx_dispatch_kick(app->dispatch); /* a net under every kick that an event should have given */
    char status[128];
    int64_t counts[VX_JOB_STATES];
    if (!app->draining && vx_db_job_counts(app->reader, counts, NULL) == VX_OK) {
        snprintf(
            status, sizeof status, "%lld running, %lld waiting", (long long)counts[VX_JOB_RUNNING],
            (long long)(counts[VX_JOB_QUEUED] + counts[VX_JOB_PREPARING] + counts[VX_JOB_READY]));
        vx_notify_status(status);
    }
}

static void on_watchdog(uv_timer_t *timer) {
    (void)timer;
    vx_notify_watchdog();
}

static void start_timers(struct vx_app *app) {
    uv_signal_init(&app->loop, &app->sigterm);
    uv_signal_init(&app->loop, &app->sigint);
    uv_signal_init(&app->loop, &app->sighup);
    uv_timer_init(&app->loop, &app->tick);
    uv_timer_init(&app->loop, &app->watchdog);
    app->sigterm.data = app->sigint.data = app->sighup.data = app->tick.data = app->watchdog.data =
        app;
    uv_signal_start(&app->sigterm, on_signal, SIGTERM);
    uv_signal_start(&app->sigint, on_signal, SIGINT);
    uv_signal_start(&app->sighup, on_signal, SIGHUP);
    /* Never closed: closing would restore the default action, and a second signal during the end
     * would then kill the daemon. Without a reference they do not keep the loop alive. */
    uv_unref((uv_handle_t *)&app->sigterm);
    uv_unref((uv_handle_t *)&app->sigint);
    uv_unref((uv_handle_t *)&app->sighup);
    uv_timer_start(&app->tick, on_tick, TICK_MS, TICK_MS);
    app->watchdog_ms = vx_notify_watchdog_ms();
    if (app->watchdog_ms) {
        uv_timer_start(&app->watchdog, on_watchdog, app->watchdog_ms, app->watchdog_ms);
    }
}

/* --- building up --- */

static int open_store(struct vx_app *app, struct vx_err *err) {
    app->db_path = vx_strf("%s/voxeld.db", app->config.state);
    app->jobs_dir = vx_strf("%s/jobs", app->config.state);
    if (!app->db_path || !app->jobs_dir) {
        return vx_fail(err, VX_E_NOMEM, NULL, "opening the store");
    }
    int rc = vx_store_open(app->db_path, &app->store, err);
    return rc == VX_OK ? vx_db_reader_open(app->db_path, &app->reader, err) : rc;
}

static int recover_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_jobs_recover(db, arg, err);
}

/* Before the loop runs, so waiting for the disk harms nobody. */
static int recover(struct vx_app *app, struct vx_err *err) {
    int n = 0;
    int rc = vx_store_call(app->store, recover_op, &n, err);
    if (rc == VX_OK && n > 0) {
        vx_log_notice("serve", "recovered jobs=%d", n);
    }
    return rc;
}

static int start_parts(struct vx_app *app, struct vx_err *err) {
    app->post = vx_post_create(&app->loop, err);
    app->telemetry = app->post ? vx_telemetry_create(app->config.nvml, app->config.dcgm_names == 1,
                                                     (uint32_t)app->config.cores, err)
                               : NULL;
    if (!app->telemetry) {
        return VX_E_INTERNAL;
    }
    app->children = vx_children_create(&app->loop, (uint64_t)app->config.memory_limit);
    if (!app->children) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting the children's supervisor");
    }
    struct vx_datasets_options datasets = {.root = app->config.data,
                                           .store = app->store,
                                           .post = app->post,
                                           .reader = app->reader,
                                           .children = app->children,
                                           .changed = kick_soon,
                                           .ctx = app};
    app->datasets = vx_datasets_create(&datasets, err);
    int rc = vx_devices_find(&app->loop, &app->config, app->telemetry, app->children, &app->devices,
                             err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_dispatch_options dispatch = {.loop = &app->loop,
                                           .store = app->store,
                                           .post = app->post,
                                           .reader = app->reader,
                                           .children = app->children,
                                           .telemetry = app->telemetry,
                                           .config = &app->config,
                                           .jobs_dir = app->jobs_dir,
                                           .devices = vx_found_devices(app->devices),
                                           .drained = on_drained,
                                           .ctx = app};
    app->dispatch = app->datasets ? vx_dispatch_create(&dispatch, err) : NULL;
    return app->dispatch ? VX_OK : VX_E_INTERNAL;
}

static int start_api(struct vx_app *app, struct vx_err *err) {
    struct vx_api_config api = {.store = app->store,
                                .db_path = app->db_path,
                                .jobs_dir = app->jobs_dir,
                                .host = app->config.host,
                                .port = app->config.port,
                                .unix_path = app->config.unix_path,
                                .token = app->home.token,
                                .version = VX_VERSION,
                                .commit = VX_COMMIT};
    vx_app_hooks(app, &api.hooks);
    int rc = vx_api_start(&app->loop, &api, &app->api, err);
    if (rc == VX_OK) {
        vx_store_on_commit(app->store, on_commit, app);
    }
    return rc;
}

static int announce(struct vx_app *app, struct vx_err *err) {
    int port = vx_api_port(app->api);
    bool v6 = strchr(app->config.host, ':') != NULL;
    if (app->config.port_file) {
        char text[16];
        int len = snprintf(text, sizeof text, "%d\n", port);
        int rc = vx_write_file_atomic(app->config.port_file, text, (size_t)len, 0644, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    app->ready = true;
    printf("voxeld ready http://%s%s%s:%d/", v6 ? "[" : "", app->config.host, v6 ? "]" : "", port);
    if (vx_notify_journal()) {
        printf(" (append ?token= and the content of %s/token)\n", app->config.state);
    } else {
        printf("?token=%s\n", app->home.token);
    }
    fflush(stdout);
    vx_notify_ready("waiting for jobs");
    vx_log_notice("serve", "ready port=%d state=\"%s\" data=\"%s\"", port, app->config.state,
                  app->config.data);
    return VX_OK;
}

static int make_folders(struct vx_app *app, struct vx_err *err) {
    int rc = vx_mkdirs(app->config.preprocessed, 0755, err);
    return rc == VX_OK ? vx_mkdirs(app->config.results, 0755, err) : rc;
}

static int build(struct vx_app *app, struct vx_err *err) {
    app->started_ms = vx_wall_ms();
    app->cores = (int)vx_budget_cores("");
    vx_cpu_model(app->cpu_model, sizeof app->cpu_model);
    struct vx_memory memory;
    if (!app->config.memory_limit && vx_budget_memory("", &memory)) {
        app->config.memory_limit = (int64_t)(memory.total_bytes / 2);
    }
    int rc = vx_home_open(app->config.state, &app->home, err);
    if (rc == VX_OK) {
        rc = make_folders(app, err);
    }
    if (rc == VX_OK) {
        rc = open_store(app, err);
    }
    if (rc == VX_OK) {
        rc = recover(app, err);
    }
    if (rc == VX_OK) {
        rc = start_parts(app, err);
    }
    if (rc == VX_OK) {
        start_timers(app);
        rc = start_api(app, err);
    }
    if (rc == VX_OK) {
        rc = announce(app, err);
    }
    return rc;
}

static void release(struct vx_app *app) {
    vx_dispatch_free(app->dispatch);
    vx_found_devices_free(app->devices);
    vx_telemetry_free(app->telemetry);
    vx_store_close(app->store);
    vx_db_close(app->reader);
    vx_datasets_free(app->datasets);
    vx_children_free(app->children);
    vx_post_free(app->post);
    vx_home_close(&app->home);
    free(app->db_path);
    free(app->jobs_dir);
    vx_config_release(&app->config);
}

static const char *env(const char *name) {
    return getenv(name);
}

int vx_role_serve(int argc, char **argv) {
    static struct vx_app app = {.home = {.lock_fd = -1}}; /* its signal handles live to the end */
    struct vx_err err = {0};
    int rc = vx_config_load(argc, argv, env, &app.config, &err);
    if (rc == VX_OK && app.config.help) {
        printf("usage: voxeld serve --state DIR --data ROOT [options]\n%s", vx_config_usage());
        vx_config_release(&app.config);
        return 0;
    }
    if (rc == VX_OK) {
        rc = vx_config_finish_serve(&app.config, &err);
    }
    if (rc != VX_OK) {
        fprintf(stderr, "voxeld serve: %s\n", err.text);
        vx_config_release(&app.config);
        return 2;
    }
    uv_loop_init(&app.loop);
    rc = build(&app, &err);
    if (rc == VX_OK) {
        vx_datasets_resume(app.datasets);
        vx_dispatch_kick(app.dispatch);
        uv_run(&app.loop, UV_RUN_DEFAULT);
    } else {
        fprintf(stderr, "voxeld serve: %s\n", err.text);
        vx_log_err("serve", "not_started reason=%s text=\"%s\"", err.reason, err.text);
    }
    release(&app);
    vx_log_notice("serve", "ended");
    return rc == VX_OK ? 0 : 1;
}
