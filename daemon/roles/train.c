/* voxeld train SPEC.json [options]: one training without the daemon. The data set is checked,
 * planned and prepared, then the same session runs as under `serve`, supervised by this process.
 * JSON lines on stdout, the last of them the result. Its folder is STATE/train/DIGEST (of the job),
 * so the same command after an interruption resumes. Ctrl-C or SIGTERM: checkpoint and end. */
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/plans_source.h"
#include "daemon/resolve.h"
#include "daemon/results/publish.h"
#include "daemon/results/recorder.h"
#include "daemon/roles/build.h"
#include "daemon/roles/examine.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/supervisor.h"
#include "daemon/verbs.h"
#include "spec/spec.h"

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
    struct vx_config config;
    struct vx_job_spec spec;
    json_t *spec_json;
    char *spec_text, *raw_dir, *job_dir;
    json_t *plans, *fingerprint;
    struct vx_resolved resolved;
    struct vx_brief *brief;
    struct vx_recorder *recorder;
    json_t *quarantined; /* array of rows; NULL: none */
    int crashes;
};

static const char *env(const char *name) {
    return getenv(name);
}

/* Names the job by what it asks for: its spec and, where people have one, the plan of their own. */
static int digest_of(const struct run *r, char ret[VX_SHA256_HEX], struct vx_err *err) {
    vx_auto_free char *dir = vx_strf("%s/%s", r->config.preprocessed, r->spec.dataset);
    vx_auto_free char *path = dir ? vx_plans_path(dir, r->spec.plans) : NULL;
    vx_auto_free char *plans = NULL, *both = NULL;
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    if (vx_path_exists(path)) {
        int rc = vx_read_file(path, 64u << 20, &plans, NULL, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    both = vx_strf("%s%s", r->spec_text, plans ? plans : "");
    if (!both) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    vx_sha256_hex(both, strlen(both), ret);
    return VX_OK;
}

static int read_spec(struct run *r, const char *path, struct vx_err *err) {
    vx_auto_json json_t *json = NULL;
    struct vx_json_problems problems = {0};
    int rc = vx_json_load_file(path, 1 << 20, &json, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (vx_spec_parse(json, &r->spec, &problems) != VX_OK) {
        vx_fail(err, VX_E_INVALID, "spec_invalid", "%s: %s", path, problems.list[0].text);
        return vx_err_at(err, "%s", problems.list[0].pointer);
    }
    r->spec_json = vx_spec_to_json(&r->spec);
    r->spec_text = r->spec_json ? vx_json_canonical(r->spec_json) : NULL;
    char digest[VX_SHA256_HEX];
    rc = r->spec_text ? digest_of(r, digest, err) : vx_fail(err, VX_E_NOMEM, NULL, "%s", path);
    if (rc != VX_OK) {
        return rc;
    }
    r->raw_dir = vx_strf("%s/%s", r->config.data, r->spec.dataset);
    r->job_dir = vx_strf("%s/train/%.16s", r->config.state, digest);
    return r->raw_dir && r->job_dir ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "%s", path);
}

/* Plan and fingerprint of an earlier run are kept: planning means reading every volume. */
static int find_plans(struct run *r, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/planned.json", r->job_dir);
    vx_auto_json json_t *both = NULL;
    if (path && vx_path_exists(path)) {
        int rc = vx_json_load_file(path, 64u << 20, &both, err);
        r->plans = json_incref(json_object_get(both, "plans"));
        r->fingerprint = json_incref(json_object_get(both, "fingerprint"));
        if (rc != VX_OK || (r->plans && r->fingerprint)) {
            return rc;
        }
    }
    struct vx_examination x = {0};
    int rc = path ? vx_mkdirs(r->job_dir, 0755, err) : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    if (rc == VX_OK) {
        rc = vx_examine(r->raw_dir, 0, true, &stop, &x, err);
    }
    if (rc == VX_OK && !x.valid) {
        rc = vx_fail(err, VX_E_INVALID, x.code, "%s; voxeld verify lists every problem", x.message);
    }
    if (rc == VX_OK) {
        r->plans = json_incref(x.plans);
        r->fingerprint = json_incref(x.fingerprint);
        json_decref(both);
        both = json_pack("{s:O, s:O}", "plans", r->plans, "fingerprint", r->fingerprint);
        rc =
            both ? vx_json_write_file(path, both, err) : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    vx_examination_release(&x);
    return rc;
}

static int prepare(struct run *r, struct vx_err *err) {
    vx_auto_free char *plans_text = json_dumps(r->plans, JSON_COMPACT);
    vx_auto_free char *print_text = json_dumps(r->fingerprint, JSON_COMPACT);
    struct vx_resolve_input in = {0,          r->spec_text, r->job_dir, r->raw_dir,
                                  plans_text, print_text,   &r->config, true};
    int rc = vx_resolve(&in, &r->resolved, err);
    if (rc != VX_OK || r->resolved.complete) {
        return rc;
    }
    vx_auto_json json_t *plans = NULL;
    vx_auto_free char *store = NULL;
    rc = vx_json_load_file(r->resolved.plans_path, 64u << 20, &plans, err);
    if (rc == VX_OK) {
        struct vx_build b = {r->raw_dir,
                             r->resolved.dataset_dir,
                             plans,
                             r->resolved.configuration,
                             (int)r->config.prepare_processes,
                             &stop};
        rc = vx_build_store(&b, &store, err);
    }
    return rc;
}

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
    int rc = vx_brief_read(r->resolved.brief_path, &r->brief, err);
    if (rc == VX_OK) {
        rc = vx_recorder_open(r->job_dir, &r->recorder, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_session_options options = {
        .brief = r->brief,
        .brief_path = r->resolved.brief_path,
        .mailbox = &mailbox,
        .events = {.ctx = r,
                   .line = on_line,
                   .crashed = on_crashed,
                   .worker_lost = on_worker_lost,
                   .quarantined = on_quarantined},
        .memory_limit = (uint64_t)r->config.memory_limit,
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

static void release(struct run *r) {
    vx_recorder_close(r->recorder);
    vx_brief_free(r->brief);
    vx_resolved_release(&r->resolved);
    json_decref(r->plans);
    json_decref(r->fingerprint);
    json_decref(r->spec_json);
    json_decref(r->quarantined);
    free(r->spec_text);
    free(r->raw_dir);
    free(r->job_dir);
    vx_config_release(&r->config);
}

static int run(struct run *r, const char *spec_path, struct vx_err *err) {
    int rc = read_spec(r, spec_path, err);
    if (rc == VX_OK) {
        rc = find_plans(r, err);
    }
    if (rc == VX_OK) {
        rc = prepare(r, err);
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
    int rc = vx_config_load(argc - 1, argv + 1, env, &r.config, &err);
    if (rc == VX_OK) {
        rc = vx_config_finish_serve(&r.config, &err);
    }
    if (rc != VX_OK) {
        fprintf(stderr, "voxeld train: %s\n%s", err.text, usage);
        vx_config_release(&r.config);
        return 2;
    }
    rc = vx_session_mailbox_init(&mailbox, &err);
    signal(SIGTERM, on_term);
    signal(SIGINT, on_term);
    if (rc == VX_OK) {
        rc = run(&r, spec_path, &err);
    }
    int status = rc == VX_OK ? 0 : vx_say_error("train", &err);
    release(&r);
    return status;
}
