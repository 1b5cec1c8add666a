/* voxeld train SPEC.json [options]: one training without the daemon. The data set is checked,
 * planned and prepared, then the same session runs as under `serve`, supervised by this process.
 * JSON lines on stdout, the last of them the result. Its folder is STATE/train/DIGEST (of the job),
 * so the same command after an interruption resumes. Ctrl-C or SIGTERM: checkpoint and end. */
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/results/publish.h"
#include "daemon/results/recorder.h"
#include "daemon/roles/alone.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/supervisor.h"
#include "daemon/verbs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MAX_CRASHES 3

static atomic_bool stop;
static struct vx_session_mailbox mailbox = {.eventfd = -1};

static void on_term(int signum) {
    (void)signum;
    atomic_store(&stop, true);
    if (mailbox.eventfd >= 0) {
        vx_session_ask(&mailbox, VX_SESSION_STOP); /* an atomic and a write: safe in a handler */
    }
}

struct run {
    struct vx_alone job;
    struct vx_brief *brief;
    struct vx_recorder *recorder;
    json_t *quarantined; /* array of rows; NULL: none */
    int crashes;
};

static void on_line(void *ctx, const json_t *line) {
    struct run *r = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    vx_recorder_line(r->recorder, line);
    if (!event || strcmp(event, "result") != 0) { /* the result is said once it is published */
        vx_say(json_incref((json_t *)line));
    }
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_checkpoint) {
    struct run *r = ctx;
    r->crashes = had_new_checkpoint ? 1 : r->crashes + 1;
    vx_say(json_pack("{s:s, s:i, s:O}", "event", "crash", "crashes", r->crashes, "evidence",
                     evidence));
    return r->crashes < MAX_CRASHES;
}

static void on_worker_lost(void *ctx, const json_t *evidence) {
    (void)ctx;
    vx_say(json_pack("{s:s, s:O}", "event", "worker_lost", "evidence", evidence));
}

static void on_quarantined(void *ctx, const json_t *row, bool fresh) {
    struct run *r = ctx;
    r->quarantined = r->quarantined ? r->quarantined : json_array();
    json_array_append(r->quarantined, (json_t *)row);
    if (fresh) {
        vx_say(json_pack("{s:s, s:O}", "event", "case_quarantined", "quarantine", row));
    }
}

static int publish(struct run *r, json_t *result, struct vx_err *err) {
    const struct vx_brief *b = r->brief;
    vx_recorder_draw(r->recorder, NULL);
    vx_auto_json json_t *job =
        json_pack("{s:i, s:O, s:O}", "id", 0, "spec", b->spec, "result", result);
    struct vx_publish p = {.job_dir = b->dir, .replace = b->replace, .job = job};
    vx_brief_place(b, &p.place);
    vx_auto_free char *path = NULL;
    int rc = vx_publish(&p, &path, err);
    if (rc == VX_OK) {
        json_object_set_new(result, "results_path", json_string(path));
        json_t *line = json_copy(result);
        json_object_set_new(line, "event", json_string("result"));
        vx_say(line);
    }
    return rc;
}

static int run_session(struct run *r, struct vx_err *err) {
    int rc = vx_brief_read(r->job.resolved.brief_path, &r->brief, err);
    if (rc == VX_OK) {
        rc = vx_recorder_open(r->job.job_dir, &r->recorder, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_session_options options = {
        .brief = r->brief,
        .brief_path = r->job.resolved.brief_path,
        .mailbox = &mailbox,
        .events = {.ctx = r,
                   .line = on_line,
                   .crashed = on_crashed,
                   .worker_lost = on_worker_lost,
                   .quarantined = on_quarantined},
        .memory_limit = (uint64_t)r->job.config.memory_limit,
    };
    enum vx_session_end end;
    vx_auto_json json_t *result = NULL;
    rc = vx_session_run(&options, &end, &result, err);
    if (rc == VX_OK && end != VX_SESSION_SUCCEEDED) {
        rc = vx_fail(err, VX_E_CANCELLED, "stopped",
                     "stopped; the same command goes on from the checkpoint");
    }
    if (rc == VX_OK && r->quarantined) {
        json_object_set(result, "quarantined", r->quarantined);
    }
    return rc == VX_OK ? publish(r, result, err) : rc;
}

static int run(struct run *r, const char *spec_path, struct vx_err *err) {
    static const char *const none[] = {NULL};
    vx_auto_json json_t *json = NULL;
    int rc = vx_json_load_file(spec_path, 1 << 20, &json, err);
    if (rc == VX_OK) {
        rc = vx_alone_spec(&r->job, json, spec_path, VX_JOB_TRAIN, none, err);
    }
    if (rc == VX_OK) {
        rc = vx_alone_prepare(&r->job, &stop, err);
    }
    return rc == VX_OK ? run_session(r, err) : rc;
}

int vx_role_train(int argc, char **argv) {
    static const char usage[] = "usage: voxeld train SPEC.json --state DIR --data ROOT [options]\n";
    struct run r = {0};
    struct vx_err err = {0};
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fprintf(argc < 2 ? stderr : stdout, "%s%s", usage, vx_config_usage());
        return argc < 2 ? 2 : 0;
    }
    char *spec_path = argv[1];
    argv[1] = argv[0];
    int status = vx_alone_config(&r.job, argc - 1, argv + 1, usage);
    if (status == 0) {
        int rc = vx_session_mailbox_init(&mailbox, &err);
        signal(SIGTERM, on_term);
        signal(SIGINT, on_term);
        rc = rc == VX_OK ? run(&r, spec_path, &err) : rc;
        status = rc == VX_OK ? 0 : vx_say_error("train", &err);
    }
    vx_recorder_close(r.recorder);
    vx_brief_free(r.brief);
    json_decref(r.quarantined);
    vx_alone_release(&r.job);
    return status;
}
