/* See worker_thread.h. Store calls here may wait for the disk: this is not the loop thread. */
#include "daemon/worker_thread.h"

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/bench/loader.h"
#include "daemon/post.h"
#include "daemon/predict/job.h"
#include "daemon/predict/plan.h"
#include "daemon/results/journal.h"
#include "daemon/results/publish.h"
#include "daemon/results/recorder.h"
#include "daemon/session/brief.h"
#include "daemon/session/supervisor.h"
#include "daemon/telemetry/desk.h"
#include "daemon/telemetry/telemetry.h"
#include "db/store.h"
#include "session/control.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct vx_worker_thread {
    struct vx_worker_thread_options o;
    char device[32], gpu[96]; /* gpu "": the CPU */
    pthread_t thread;
    pthread_mutex_t lock; /* guards job, path, quit, loader, has_loader, lost */
    pthread_cond_t wake;
    int64_t job; /* 0: idle */
    char *path;  /* of the brief; owned */
    bool quit;
    struct vx_loader_state loader;
    bool has_loader;
    struct vx_err lost; /* why the device is; code 0: it is not */
    bool left;          /* the job ended by that; set before its end is announced */
    struct vx_session_mailbox mailbox;
    atomic_bool stopping; /* the daemon wants to end */
    /* the running job; this thread only */
    struct vx_journal journal;
    struct vx_desk desk;
    struct vx_brief *brief;
    struct vx_recorder *recorder;
    json_t *quarantined; /* owned array of rows; NULL: none */
};

/* --- what is stored of the job --- */

static char *live_progress(struct vx_worker_thread *w) {
    vx_auto_json json_t *p = vx_telemetry_progress(w->o.telemetry, w->brief->job_id);
    return p ? json_dumps(p, JSON_COMPACT) : NULL;
}

/* --- session events --- */

static void on_line(void *ctx, const json_t *line) {
    struct vx_worker_thread *w = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    vx_recorder_line(w->recorder, line);
    if (!event) {
        return;
    }
    if (strcmp(event, "epoch") == 0) {
        vx_journal_epoch(&w->journal, line);
        vx_journal_note(&w->journal, (struct vx_note){.progress = live_progress(w)});
    } else if (strcmp(event, "checkpoint") == 0) {
        vx_journal_note(&w->journal, (struct vx_note){.checkpointed = true,
                                                      .checkpoint = json_integer_value(
                                                          json_object_get(line, "batches"))});
    } else if (strcmp(event, "phase") == 0) {
        const char *phase = json_string_value(json_object_get(line, "phase"));
        vx_journal_note(&w->journal, (struct vx_note){.phase = phase ? strdup(phase) : NULL});
    } else if (strcmp(event, "cache") == 0 || strcmp(event, "trajectory") == 0) {
        vx_auto_json json_t *data = json_copy((json_t *)line);
        json_object_del(data, "event");
        vx_journal_note(&w->journal, (struct vx_note){.event = strdup(event),
                                                      .data = json_dumps(data, JSON_COMPACT)});
    } else if (strcmp(event, "repair") == 0) {
        bool failed = json_object_get(line, "code") != NULL;
        vx_auto_json json_t *data = json_copy((json_t *)line);
        json_object_del(data, "event");
        vx_journal_note(&w->journal,
                        (struct vx_note){.event = strdup(failed ? "case_damaged" : "case_repaired"),
                                         .data = json_dumps(data, JSON_COMPACT)});
    }
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_checkpoint) {
    struct vx_worker_thread *w = ctx;
    const char *message = json_string_value(json_object_get(evidence, "message"));
    vx_recorder_say(w->recorder, "the training process crashed (exit status %d, signal %d): %s",
                    (int)json_integer_value(json_object_get(evidence, "exit_status")),
                    (int)json_integer_value(json_object_get(evidence, "signal")),
                    message ? message : "");
    return vx_journal_crash(&w->journal, evidence, had_new_checkpoint);
}

/* What somebody told before counts more than what the process made of it. */
static void on_device_lost(void *ctx, const json_t *evidence) {
    struct vx_worker_thread *w = ctx;
    const char *code = json_string_value(json_object_get(evidence, "code"));
    const char *text = json_string_value(json_object_get(evidence, "message"));
    pthread_mutex_lock(&w->lock);
    if (!w->lost.code) {
        vx_fail(&w->lost, VX_E_DEVICE, code && *code ? code : "device_lost", "%s",
                text ? text : "");
    }
    struct vx_err lost = w->lost;
    pthread_mutex_unlock(&w->lock);
    if (w->recorder) {
        vx_recorder_say(w->recorder, "%s was lost: %s", w->device, lost.text);
    }
    vx_journal_device_lost(&w->journal, evidence, w->device, w->gpu, &lost);
}

static void on_worker_lost(void *ctx, const json_t *evidence) {
    struct vx_worker_thread *w = ctx;
    const char *reason = json_string_value(json_object_get(evidence, "reason"));
    const char *name = json_string_value(json_object_get(evidence, "case"));
    vx_telemetry_worker_lost(w->o.telemetry, reason ? reason : "");
    vx_telemetry_lost(w->o.telemetry, w->brief->job_id, reason ? reason : "?", name ? name : "");
    vx_journal_note(&w->journal, (struct vx_note){.event = strdup("worker_lost"),
                                                  .data = json_dumps(evidence, JSON_COMPACT)});
}

static void on_quarantined(void *ctx, const json_t *row, bool fresh) {
    struct vx_worker_thread *w = ctx;
    const char *name = json_string_value(json_object_get(row, "case"));
    vx_telemetry_quarantined(w->o.telemetry, w->brief->job_id, name);
    w->quarantined = w->quarantined ? w->quarantined : json_array();
    json_array_append(w->quarantined, (json_t *)row);
    if (!fresh) {
        return;
    }
    const char *message = json_string_value(json_object_get(row, "message"));
    vx_recorder_say(w->recorder, "case %s is left out from now on: %s after %d workers: %s", name,
                    json_string_value(json_object_get(row, "reason")),
                    (int)json_integer_value(json_object_get(row, "deaths")),
                    message ? message : "");
    vx_journal_note(&w->journal, (struct vx_note){.event = strdup("case_quarantined"),
                                                  .data = json_dumps(row, JSON_COMPACT),
                                                  .progress = live_progress(w)});
}

/* Who turned a knob first, then where all of them stand; where the store is read from only once
 * that is an answer to the tuner's last wish. */
static void tell_tuner(struct vx_worker_thread *w, const struct vx_session_knobs *now,
                       const json_t *change) {
    int64_t job = w->brief->job_id;
    enum vx_tune_knob hand = change ? vx_desk_changed(&w->desk, change) : VX_KNOBS;
    if (hand != VX_KNOBS) {
        vx_telemetry_hand(w->o.telemetry, job, hand);
    }
    uint32_t turned[VX_KNOBS];
    vx_desk_setting(w->brief, now, turned);
    bool answered = !now->deciding && !vx_desk_asks(&w->desk, VX_KNOB_TIER);
    vx_telemetry_deciding(w->o.telemetry, job, now->deciding);
    for (int k = 0; k < VX_KNOBS; k++) {
        if (k != VX_KNOB_TIER || answered) {
            vx_telemetry_turned(w->o.telemetry, job, (enum vx_tune_knob)k, turned[k]);
        }
    }
}

static void on_knobs(void *ctx, const struct vx_session_knobs *now, const json_t *change) {
    struct vx_worker_thread *w = ctx;
    const struct vx_brief *b = w->brief;
    const struct vx_knobs planned = {.keep_files_open = b->keep_files_open,
                                     .cache_mode = vx_brief_cache_mode(b)};
    pthread_mutex_lock(&w->lock);
    w->loader =
        (struct vx_loader_state){.now = *now,
                                 .planned = {.workers = (int)b->workers,
                                             .window = (int)b->window,
                                             .keep_files_open = vx_knobs_keep_open(&planned),
                                             .cache_mode = (int)planned.cache_mode},
                                 .workers_max = (int)b->workers_max,
                                 .window_max = (int)b->slots};
    w->has_loader = true;
    pthread_mutex_unlock(&w->lock);
    tell_tuner(w, now, change);
    if (change) {
        vx_telemetry_workers(w->o.telemetry, b->job_id, (uint32_t)now->workers);
        vx_journal_note(&w->journal, (struct vx_note){.event = strdup("loader_changed"),
                                                      .data = json_dumps(change, JSON_COMPACT)});
    }
}

static void on_mapped(void *ctx, int timeline_fd, int ring_fd) {
    struct vx_worker_thread *w = ctx;
    const struct vx_brief *b = w->brief;
    struct vx_err err = {0};
    struct vx_telemetry_job job = {.job_id = b->job_id,
                                   .device = w->device,
                                   .epochs = b->schedule.epochs,
                                   .iterations = b->bench ? 0 : b->schedule.train_iterations,
                                   .val_iterations = b->schedule.val_iterations,
                                   .workers = (uint32_t)w->loader.now.workers};
    job.store_dir = b->cache_dir;
    w->desk.store = w->o.store;
    w->desk.mailbox = &w->mailbox;
    w->desk.job = b->job_id;
    w->desk.hang_ns = 0;
    vx_desk_telemetry(&w->desk, b, &w->loader.now, &job);
    if (vx_telemetry_attach(w->o.telemetry, &job, timeline_fd, ring_fd, &err) != VX_OK) {
        vx_log_warn("worker", "no_telemetry job=%lld text=\"%s\"", (long long)b->job_id, err.text);
    }
}

static void on_unmapped(void *ctx) {
    struct vx_worker_thread *w = ctx;
    vx_journal_note(&w->journal, (struct vx_note){.progress = live_progress(w)});
    vx_telemetry_detach(w->o.telemetry, w->brief->job_id);
}

/* --- the end of a job --- */

static int publish(struct vx_worker_thread *w, json_t *result, struct vx_err *err) {
    const struct vx_brief *b = w->brief;
    vx_recorder_draw(w->recorder, NULL);
    vx_auto_json json_t *job = json_pack("{s:I, s:O, s:O}", "id", (json_int_t)b->job_id, "spec",
                                         b->spec, "result", result);
    struct vx_publish p = {
        .job_dir = b->dir, .job_id = b->job_id, .replace = b->replace, .job = job};
    vx_brief_place(b, &p.place);
    vx_auto_free char *path = NULL;
    int rc = vx_publish(&p, &path, err);
    if (rc == VX_OK) {
        json_object_set_new(result, "results_path", json_string(path));
    }
    return rc;
}

/* Another job may have published there since this one was accepted: better said now than after days
 * of training. */
static int check_place(const struct vx_brief *b, struct vx_err *err) {
    struct vx_result_place place;
    vx_brief_place(b, &place);
    vx_auto_free char *path = vx_publish_path(&place);
    return path ? vx_publish_check(path, b->job_id, b->replace, err)
                : vx_fail(err, VX_E_NOMEM, NULL, "starting job %lld", (long long)b->job_id);
}

/* *ret_result: new reference or NULL. */
static enum vx_session_end train(struct vx_worker_thread *w, const char *path, json_t **ret_result,
                                 struct vx_err *err) {
    enum vx_session_end end = VX_SESSION_FAILED;
    int rc = vx_brief_read(path, &w->brief, err);
    bool bench = rc == VX_OK && w->brief->bench;
    if (rc == VX_OK && !bench) {
        rc = check_place(w->brief, err);
    }
    if (rc == VX_OK) {
        rc = vx_recorder_open(w->brief->dir, &w->recorder, err);
    }
    if (rc == VX_OK) {
        struct vx_session_options options = {
            .brief = w->brief,
            .brief_path = path,
            .device = w->gpu[0] ? "cuda:0" : "cpu",
            .gpu = w->gpu[0] ? w->gpu : NULL,
            .mailbox = &w->mailbox,
            .events = {.ctx = w,
                       .line = on_line,
                       .crashed = on_crashed,
                       .device_lost = w->gpu[0] ? on_device_lost : NULL,
                       .worker_lost = on_worker_lost,
                       .quarantined = on_quarantined,
                       .knobs = on_knobs,
                       .mapped = on_mapped,
                       .unmapped = on_unmapped},
            .memory_limit = w->o.memory_limit,
        };
        (bench ? vx_bench_run : vx_session_run)(&options, &end, ret_result, err);
        pthread_mutex_lock(&w->lock);
        w->has_loader = false;
        pthread_mutex_unlock(&w->lock);
    }
    if (*ret_result && w->quarantined) {
        json_object_set(*ret_result, "quarantined", w->quarantined);
    }
    json_decref(vx_steal(w->quarantined));
    if (*ret_result && vx_journal_has(&w->journal, "trajectory")) {
        json_object_set_new(*ret_result, "trajectory", json_string("approximate"));
    }
    if (end == VX_SESSION_SUCCEEDED && !bench && publish(w, *ret_result, err) != VX_OK) {
        end = VX_SESSION_FAILED;
    }
    vx_recorder_close(vx_steal(w->recorder));
    vx_brief_free(vx_steal(w->brief));
    return end;
}

static enum vx_session_end predict(struct vx_worker_thread *w, const char *path,
                                   json_t **ret_result, struct vx_err *err) {
    enum vx_session_end end;
    struct vx_predict_job job = {.brief_path = path,
                                 .journal = &w->journal,
                                 .mailbox = &w->mailbox,
                                 .device = w->gpu[0] ? "cuda:0" : "cpu",
                                 .gpu = w->gpu[0] ? w->gpu : NULL,
                                 .memory_limit = w->o.memory_limit,
                                 .device_lost = w->gpu[0] ? on_device_lost : NULL,
                                 .ctx = w};
    vx_predict_job(&job, &end, ret_result, err);
    return end;
}

static void run_job(struct vx_worker_thread *w, int64_t job, const char *path) {
    struct vx_err err = {0};
    vx_auto_json json_t *result = NULL;
    vx_log_info("worker", "job_started job=%lld device=%s", (long long)job, w->device);
    w->journal = (struct vx_journal){w->o.store, job};
    enum vx_session_end end =
        vx_predict_is_brief(path) ? predict(w, path, &result, &err) : train(w, path, &result, &err);
    w->left = end == VX_SESSION_DEVICE_LOST;
    if (w->left) {
        vx_fail(&err, VX_E_DEVICE, "device_lost",
                "%s was lost (%.300s); the job goes on from its checkpoint on another device",
                w->device, w->lost.text);
    }
    vx_auto_free char *text = result ? json_dumps(result, JSON_COMPACT) : NULL;
    vx_journal_end(&w->journal, end, text, &err, w->mailbox.eventfd, &w->stopping);
}

static void announce_end(void *arg) {
    struct vx_worker_thread *w = arg;
    pthread_mutex_lock(&w->lock);
    int64_t job = w->job;
    struct vx_err lost = w->lost;
    w->job = 0;
    pthread_mutex_unlock(&w->lock);
    w->o.ended(w->o.ctx, w, job, w->left ? &lost : NULL);
}

static void *thread_main(void *arg) {
    struct vx_worker_thread *w = arg;
    for (;;) {
        pthread_mutex_lock(&w->lock);
        while (!w->quit && !w->path) {
            pthread_cond_wait(&w->wake, &w->lock);
        }
        vx_auto_free char *path = vx_steal(w->path);
        int64_t job = w->job;
        bool quit = w->quit;
        pthread_mutex_unlock(&w->lock);
        if (quit) {
            return NULL;
        }
        run_job(w, job, path);
        vx_post(w->o.post, announce_end, w);
    }
}

struct vx_worker_thread *vx_worker_thread_create(const struct vx_worker_thread_options *options,
                                                 struct vx_err *err) {
    struct vx_worker_thread *w = calloc(1, sizeof *w);
    if (!w || vx_session_mailbox_init(&w->mailbox, err) != VX_OK) {
        free(w);
        vx_fail(err, VX_E_NOMEM, NULL, "starting the thread of %s", options->device);
        return NULL;
    }
    w->o = *options;
    snprintf(w->device, sizeof w->device, "%s", options->device);
    snprintf(w->gpu, sizeof w->gpu, "%s", options->gpu ? options->gpu : "");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    int rc = pthread_create(&w->thread, NULL, thread_main, w);
    if (rc != 0) {
        vx_fail_errno(err, rc, NULL, "starting the thread of %s", options->device);
        vx_session_mailbox_release(&w->mailbox);
        free(w);
        return NULL;
    }
    pthread_setname_np(w->thread, w->device);
    return w;
}

const char *vx_worker_thread_device(const struct vx_worker_thread *w) {
    return w->device;
}

int64_t vx_worker_thread_job(const struct vx_worker_thread *w) {
    return w->job; /* changed on the loop thread only, where this is called */
}

int vx_worker_thread_start(struct vx_worker_thread *w, int64_t job_id, const char *brief_path,
                           struct vx_err *err) {
    char *path = strdup(brief_path);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting job %lld", (long long)job_id);
    }
    uint64_t stale;
    ssize_t n = read(w->mailbox.eventfd, &stale, sizeof stale); /* asked of the job before */
    (void)n;
    struct vx_session_knobs stale_wish;
    vx_session_wishes(&w->mailbox, &stale_wish);
    atomic_store(&w->mailbox.requests, 0);
    atomic_store(&w->stopping, false);
    pthread_mutex_lock(&w->lock);
    w->job = job_id;
    w->lost = (struct vx_err){0};
    w->path = path;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    return VX_OK;
}

void vx_worker_thread_cancel(struct vx_worker_thread *w) {
    vx_session_ask(&w->mailbox, VX_SESSION_CANCEL);
}

void vx_worker_thread_lose(struct vx_worker_thread *w, const char *code, const char *text) {
    pthread_mutex_lock(&w->lock);
    if (!w->lost.code) {
        vx_fail(&w->lost, VX_E_DEVICE, code, "%s", text);
    }
    pthread_mutex_unlock(&w->lock);
    vx_session_ask(&w->mailbox, VX_SESSION_DEVICE_GONE);
}

void vx_worker_thread_stop(struct vx_worker_thread *w) {
    atomic_store(&w->stopping, true);
    vx_session_ask(&w->mailbox, VX_SESSION_STOP);
}

bool vx_worker_thread_loader(struct vx_worker_thread *w, struct vx_loader_state *ret) {
    pthread_mutex_lock(&w->lock);
    bool has = w->has_loader;
    if (has) {
        *ret = w->loader;
    }
    pthread_mutex_unlock(&w->lock);
    return has;
}

void vx_worker_thread_turn(struct vx_worker_thread *w, const struct vx_session_knobs *wish) {
    vx_session_turn(&w->mailbox, wish);
}

void vx_worker_thread_free(struct vx_worker_thread *w) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    vx_session_mailbox_release(&w->mailbox);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
