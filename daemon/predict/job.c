/* See job.h. */
#include "daemon/predict/job.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/predict/run.h"
#include "daemon/results/journal.h"
#include "daemon/results/recorder.h"

#include <string.h>

#define STORE_EVERY_NS 500000000ull

struct job {
    const struct vx_predict_job *o;
    struct vx_recorder *recorder;
    int64_t done, cases; /* cases finished, and all of them */
    uint64_t begun_ns;   /* when the first case of this process began */
    int64_t begun_done;  /* cases that were finished then */
    uint64_t stored_ns;  /* when progress was last stored */
};

/* Seconds until the end at the pace since this process began; null before the first case of it. */
static json_t *eta_of(const struct job *j) {
    int64_t made = j->done - j->begun_done;
    if (made <= 0) {
        return json_null();
    }
    double seconds = (double)(vx_now_ns() - j->begun_ns) * 1e-9;
    return json_real(seconds / (double)made * (double)(j->cases - j->done));
}

/* line: of the event that moved it. */
static char *progress_of(const struct job *j, const json_t *line) {
    vx_auto_json json_t *p =
        json_pack("{s:s, s:I, s:I, s:o}", "phase", "predicting", "done", (json_int_t)j->done,
                  "total", (json_int_t)j->cases, "eta_seconds", eta_of(j));
    static const char *const keys[] = {"case", "tiles_done", "tiles"};
    for (size_t i = 0; p && i < VX_COUNTOF(keys); i++) {
        json_t *value = json_object_get(line, keys[i]);
        if (value) {
            json_object_set(p, keys[i], value);
        }
    }
    return p ? json_dumps(p, JSON_COMPACT) : NULL;
}

/* Kept cases were said by an earlier process: they move the progress and are no event. */
static void on_case(struct job *j, const json_t *line) {
    struct vx_note note = {.checkpointed = true};
    bool kept = json_is_true(json_object_get(line, "kept"));
    j->done = json_integer_value(json_object_get(line, "done"));
    j->cases = json_integer_value(json_object_get(line, "cases"));
    if (kept) {
        j->begun_done = j->done;
    }
    note.checkpoint = j->done;
    note.progress = progress_of(j, NULL);
    if (!kept) {
        vx_auto_json json_t *data = json_copy((json_t *)line);
        json_object_del(data, "event");
        json_object_del(data, "kept");
        note.event = strdup("case");
        note.data = json_dumps(data, JSON_COMPACT);
    }
    j->stored_ns = vx_now_ns();
    vx_journal_note(j->o->journal, note);
}

static void on_line(void *ctx, const json_t *line) {
    struct job *j = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    vx_recorder_line(j->recorder, line);
    if (!event) {
        return;
    }
    if (strcmp(event, "case") == 0) {
        on_case(j, line);
    } else if (strcmp(event, "progress") == 0) {
        if (vx_now_ns() - j->stored_ns > STORE_EVERY_NS) {
            j->stored_ns = vx_now_ns();
            vx_journal_note(j->o->journal, (struct vx_note){.progress = progress_of(j, line)});
        }
    } else if (strcmp(event, "model") == 0) {
        j->cases = json_integer_value(json_object_get(line, "cases"));
        j->begun_done = 0;
        j->begun_ns = vx_now_ns();
    } else if (strcmp(event, "phase") == 0) {
        const char *phase = json_string_value(json_object_get(line, "phase"));
        vx_journal_note(j->o->journal, (struct vx_note){.phase = phase ? strdup(phase) : NULL});
    }
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_case) {
    struct job *j = ctx;
    const char *message = json_string_value(json_object_get(evidence, "message"));
    vx_recorder_say(j->recorder, "the prediction crashed (exit status %d, signal %d): %s",
                    (int)json_integer_value(json_object_get(evidence, "exit_status")),
                    (int)json_integer_value(json_object_get(evidence, "signal")),
                    message ? message : "");
    return vx_journal_crash(j->o->journal, evidence, had_new_case);
}

static void on_device_lost(void *ctx, const json_t *evidence) {
    struct job *j = ctx;
    j->o->device_lost(j->o->ctx, evidence);
}

int vx_predict_job(const struct vx_predict_job *o, enum vx_session_end *ret_end,
                   json_t **ret_result, struct vx_err *err) {
    struct job j = {.o = o};
    vx_auto_json json_t *brief = NULL;
    *ret_end = VX_SESSION_FAILED;
    int rc = vx_json_load_file(o->brief_path, 1 << 20, &brief, err);
    const char *dir = json_string_value(json_object_get(brief, "dir"));
    if (rc == VX_OK && !dir) {
        rc = vx_fail(err, VX_E_CORRUPT, "brief_invalid", "%s names no folder", o->brief_path);
    }
    rc = rc == VX_OK ? vx_recorder_open(dir, &j.recorder, err) : rc;
    if (rc == VX_OK) {
        struct vx_predict_run run = {.brief = brief,
                                     .mailbox = o->mailbox,
                                     .device = o->device,
                                     .gpu = o->gpu,
                                     .memory_limit = o->memory_limit,
                                     .line = on_line,
                                     .crashed = on_crashed,
                                     .device_lost = o->device_lost ? on_device_lost : NULL,
                                     .ctx = &j};
        rc = vx_predict_run(&run, ret_end, ret_result, err);
    }
    vx_recorder_close(j.recorder);
    return rc;
}
