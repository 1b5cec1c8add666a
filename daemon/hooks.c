/* What the HTTP interface asks of the daemon. Nothing here blocks: reads of the store, of
 * telemetry's snapshot and of a few file names. Thread: loop thread. */
#include "daemon/app.h"

#include "api/api.h"
#include "base/budget.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/datasets.h"
#include "daemon/devices/find.h"
#include "daemon/devices/list.h"
#include "daemon/devices/show.h"
#include "daemon/dispatch.h"
#include "daemon/keeper/stage_root.h"
#include "daemon/predict/plan.h"
#include "daemon/results/publish.h"
#include "daemon/session/live_loader.h"
#include "daemon/session/pretrained.h"
#include "daemon/telemetry/telemetry.h"
#include "db/dataset.h"
#include "db/job.h"
#include "db/store.h"
#include "spec/spec.h"

#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

/* A device that this daemon does not have is refused at once instead of waiting for ever. */
static int check_device(struct vx_app *app, const char *spec, struct vx_err *err) {
    vx_auto_json json_t *o = json_loads(spec, 0, NULL);
    const char *want =
        json_string_value(json_object_get(json_object_get(o, "resources"), "device"));
    const struct vx_device_list *list = vx_found_devices(app->devices);
    uint32_t mask = vx_devices_match(list, want ? want : "auto");
    if (!mask) {
        return vx_devices_refuse(list, want, err);
    }
    const char *precision = json_string_value(json_object_get(o, "precision"));
    if (precision && strcmp(precision, "fp32") == 0 && vx_devices_gpus(list, mask)) {
        vx_fail(err, VX_E_UNSUPPORTED, "precision_unsupported",
                "GPUs compute in bf16 here; ask for \"precision\": \"bf16\" or \"auto\"");
        return vx_err_at(err, "/precision");
    }
    return VX_OK;
}

static int check_pretrained(struct vx_app *app, const char *spec, struct vx_err *err) {
    vx_auto_json json_t *o = json_loads(spec, 0, NULL);
    const json_t *training = json_object_get(o, "training");
    const char *asked = json_string_value(json_object_get(training, "pretrained_weights"));
    char path[PATH_MAX];
    return asked ? vx_pretrained_find(&app->config, asked, path, sizeof path, err) : VX_OK;
}

static int check_stage(struct vx_app *app, const char *spec, struct vx_err *err) {
    vx_auto_json json_t *o = json_loads(spec, 0, NULL);
    const json_t *cache = json_object_get(json_object_get(o, "loader"), "cache");
    const char *asked = json_string_value(json_object_get(cache, "stage"));
    return asked ? vx_stage_admit(asked, &app->config, err) : VX_OK;
}

static int check_result(struct vx_app *app, const struct vx_job_new *job, struct vx_err *err) {
    vx_auto_json json_t *spec = json_loads(job->spec, 0, NULL);
    bool replace = json_is_true(json_object_get(json_object_get(spec, "results"), "replace"));
    struct vx_result_place place = {
        app->config.results, job->dataset,
        job->results_name,   json_string_value(json_object_get(spec, "plans")),
        job->configuration,  job->fold};
    vx_auto_free char *path = vx_publish_path(&place);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "checking the results folder");
    }
    if (!vx_path_exists(path) || replace) {
        return VX_OK;
    }
    vx_fail(err, VX_E_EXISTS, "result_exists",
            "%s exists already; give the job another results.name, or \"replace\": true to keep "
            "the old one aside",
            path);
    return vx_err_at(err, "/results/name");
}

static int check_prediction(struct vx_app *app, const struct vx_job_new *job, struct vx_err *err) {
    vx_auto_json json_t *stored = json_loads(job->spec, 0, NULL);
    struct vx_job_spec *spec = malloc(sizeof *spec);
    int rc = stored && spec ? vx_spec_from_stored(stored, spec, err)
                            : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    rc = rc == VX_OK ? vx_predict_admit(spec, &app->config, err) : rc;
    free(spec);
    return rc;
}

static int job_check(void *arg, const struct vx_job_new *job, struct vx_err *err) {
    struct vx_app *app = arg;
    if (strcmp(job->type, "predict") == 0) {
        int rc = check_prediction(app, job, err);
        return rc == VX_OK ? check_device(app, job->spec, err) : rc;
    }
    struct vx_dataset set = {0};
    int rc = vx_db_dataset_get(app->reader, job->dataset, &set, err);
    if (rc == VX_E_NOT_FOUND) {
        vx_fail(err, VX_E_NOT_FOUND, "unknown_dataset",
                "data set %s is not registered; POST it to /v1/datasets first", job->dataset);
        return vx_err_at(err, "/dataset");
    }
    if (rc != VX_OK) {
        return rc;
    }
    if (set.state == VX_DATASET_INVALID) {
        vx_fail(err, VX_E_INVALID, "dataset_invalid", "data set %s is not usable: %s", job->dataset,
                set.reason_message);
        rc = vx_err_at(err, "/dataset");
    }
    vx_dataset_release(&set);
    if (rc == VX_OK) {
        rc = check_device(app, job->spec, err);
    }
    if (rc == VX_OK) {
        rc = check_pretrained(app, job->spec, err);
    }
    if (rc == VX_OK) {
        rc = check_stage(app, job->spec, err);
    }
    return rc == VX_OK && strcmp(job->type, "train") == 0 ? check_result(app, job, err) : rc;
}

static void job_submitted(void *arg, int64_t id) {
    (void)id;
    vx_dispatch_kick(((struct vx_app *)arg)->dispatch);
}

static void cancel_requested(void *arg, int64_t id) {
    vx_dispatch_cancel(((struct vx_app *)arg)->dispatch, id);
}

static int dataset_locate(void *arg, const char *name, const char *asked, char *ret_path,
                          size_t size, struct vx_err *err) {
    return vx_datasets_locate(((struct vx_app *)arg)->datasets, name, asked, ret_path, size, err);
}

static void dataset_submitted(void *arg, const char *name) {
    vx_datasets_check(((struct vx_app *)arg)->datasets, name);
}

static json_t *devices(void *arg) {
    return vx_devices_json(arg);
}

static json_t *disk_of(const char *path) {
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) {
        return json_pack("{s:s}", "path", path);
    }
    return json_pack("{s:s, s:I, s:I}", "path", path, "total_bytes",
                     (json_int_t)fs.f_blocks * (json_int_t)fs.f_frsize, "free_bytes",
                     (json_int_t)fs.f_bavail * (json_int_t)fs.f_frsize);
}

static json_t *system_info(void *arg) {
    struct vx_app *app = arg;
    struct utsname host;
    struct vx_memory memory = {0};
    uname(&host);
    vx_budget_memory("", &memory);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:I, s:I, s:I, s:{s:o, s:o, s:o, s:o}, "
                     "s:{s:I, s:I, s:I, s:I}}",
                     "version", VX_VERSION, "commit", VX_COMMIT, "hostname", host.nodename,
                     "kernel", host.release, "cpu_model", app->cpu_model, "cores", app->cores,
                     "cpu_utilisation", vx_telemetry_cpu(app->telemetry), "memory_bytes",
                     (json_int_t)memory.total_bytes, "memory_available_bytes",
                     (json_int_t)memory.available_bytes, "uptime_seconds",
                     (json_int_t)((vx_wall_ms() - app->started_ms) / 1000), "folders", "state",
                     disk_of(app->config.state), "data", disk_of(app->config.data), "preprocessed",
                     disk_of(app->config.preprocessed), "results", disk_of(app->config.results),
                     "limits", "cpu_threads", (json_int_t)app->config.cpu_threads, "loader_workers",
                     (json_int_t)app->config.loader_workers, "prepare_processes",
                     (json_int_t)app->config.prepare_processes, "child_memory_bytes",
                     (json_int_t)app->config.memory_limit);
}

static json_t *progress(void *arg, int64_t id) {
    return vx_telemetry_progress(((struct vx_app *)arg)->telemetry, id);
}

static json_t *bottleneck(void *arg, int64_t id, const char *accept_language) {
    return vx_telemetry_bottleneck(((struct vx_app *)arg)->telemetry, id,
                                   vx_language_of(accept_language));
}

static int loader(void *arg, int64_t id, const json_t *wish, bool *ret_changed, json_t **ret,
                  struct vx_err *err) {
    struct vx_app *app = arg;
    return vx_live_loader(vx_dispatch_runner(app->dispatch, id), wish, ret_changed, ret, err);
}

static void metrics(void *arg, struct vx_buf *out) {
    struct vx_app *app = arg;
    vx_telemetry_metrics(app->telemetry, out);
    vx_devices_metrics(app, out);
    struct vx_store_stats s;
    vx_store_get_stats(app->store, &s);
    vx_buf_printf(
        out,
        "# HELP voxeld_store_operations_total Operations of the store.\n"
        "# TYPE voxeld_store_operations_total counter\nvoxeld_store_operations_total %llu\n"
        "# HELP voxeld_store_commits_total Commits of the store.\n"
        "# TYPE voxeld_store_commits_total counter\nvoxeld_store_commits_total %llu\n"
        "# HELP voxeld_store_commit_seconds_total Time spent in commits.\n"
        "# TYPE voxeld_store_commit_seconds_total counter\nvoxeld_store_commit_seconds_total "
        "%.6f\n",
        (unsigned long long)s.operations, (unsigned long long)s.commits,
        (double)s.commit_ns * 1e-9);
}

static bool ready(void *arg, char *ret_why, size_t size) {
    struct vx_app *app = arg;
    if (app->draining || !app->ready) {
        snprintf(ret_why, size, "%s",
                 app->draining ? "the daemon is stopping" : "the daemon is starting");
        return false;
    }
    return true;
}

void vx_app_hooks(struct vx_app *app, struct vx_api_hooks *ret) {
    *ret = (struct vx_api_hooks){
        .arg = app,
        .job_check = job_check,
        .job_submitted = job_submitted,
        .cancel_requested = cancel_requested,
        .dataset_locate = dataset_locate,
        .dataset_submitted = dataset_submitted,
        .devices = devices,
        .system = system_info,
        .progress = progress,
        .bottleneck = bottleneck,
        .loader = loader,
        .metrics = metrics,
        .ready = ready,
    };
}
