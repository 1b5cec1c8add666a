/* See desk.h. Store operations own their argument until `done` frees it. */
#include "daemon/telemetry/desk.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "cache/policy.h"
#include "cache/storage.h"
#include "daemon/evidence/disk.h"
#include "daemon/session/brief.h"
#include "daemon/session/supervisor.h"
#include "db/event.h"
#include "db/sample.h"
#include "db/store.h"
#include "db/tuning.h"
#include "plan/planner.h"
#include "plan/plans.h"
#include "session/control.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* A loader that was restarted gets so long to make the trainer move again. */
#define HANG_PATIENCE_NS 30000000000ull

void vx_desk_value(enum vx_tune_knob knob, uint32_t value, char *buf, size_t size) {
    static const char *const tiers[] = {"open", "keep", "stage", "memory"};
    switch (knob) {
    case VX_KNOB_KEEP_OPEN:
        snprintf(buf, size, "%s", value ? "true" : "false");
        break;
    case VX_KNOB_TIER:
        snprintf(buf, size, "%s", value < 4 ? tiers[value] : "?");
        break;
    default:
        snprintf(buf, size, "%u", value);
        break;
    }
}

/* --- store operations --- */

static void done(int rc, const struct vx_err *err, void *arg) {
    if (rc != VX_OK && rc != VX_E_NOT_FOUND) {
        vx_log_warn("desk", "store_failed text=\"%s\"", err->text);
    }
    free(arg);
}

static void submit(struct vx_store *store, vx_store_op op, void *arg) {
    struct vx_err err = {0};
    if (arg) {
        int rc = vx_store_submit(store, op, arg, done, &err);
        if (rc != VX_OK) {
            done(rc, &err, arg);
        }
    }
}

struct text_row { /* an event or a sample; the text follows */
    int64_t job, ts_ms;
    int step;
    char text[];
};

static struct text_row *text_row(int64_t job, const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
    size_t n = text ? strlen(text) + 1 : 0;
    struct text_row *row = text ? malloc(sizeof *row + n) : NULL;
    if (row) {
        *row = (struct text_row){.job = job};
        memcpy(row->text, text, n);
    }
    free(text);
    return row;
}

static int verdict_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct text_row *r = arg;
    return vx_db_event_add(db, r->job, "verdict", r->text, NULL, err);
}

static int sample_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct text_row *r = arg;
    struct vx_sample_row row = {r->job, r->step, r->ts_ms, r->text};
    return vx_db_sample_add(db, &row, err);
}

static int begin_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_tuning_add(db, arg, NULL, err);
}

static int finish_op(struct vx_db *db, void *arg, struct vx_err *err) {
    const struct vx_tuning *t = arg;
    int n = 0;
    int rc = vx_db_tuning_on_trial(db, t->job_id, &n, err);
    return rc == VX_OK ? vx_db_tuning_finish(db, t->job_id, n, t->outcome, t->ended_ms, t->measured,
                                             t->noise, err)
                       : rc;
}

/* --- verdicts --- */

static void break_hang(struct vx_desk *desk, bool began) {
    if (!began) {
        desk->hang_ns = 0;
        return;
    }
    desk->hang_ns = vx_now_ns();
    desk->hang_trainer = false;
    vx_log_warn("desk", "hang job=%lld action=restart_loader", (long long)desk->job);
    vx_session_ask(desk->mailbox, VX_SESSION_RESTART_LOADER);
}

static void on_verdict(void *ctx, enum vx_verdict_code code, bool began, const json_t *verdict) {
    struct vx_desk *desk = ctx;
    json_t *event = json_copy((json_t *)verdict);
    json_object_set_new(event, "state", json_string(began ? "began" : "ended"));
    submit(desk->store, verdict_op, text_row(desk->job, event));
    json_decref(event);
    vx_log_info("desk", "verdict job=%lld code=%s state=%s", (long long)desk->job,
                vx_verdict_word(code), began ? "began" : "ended");
    if (code == VX_VERDICT_HANG) {
        break_hang(desk, began);
    }
}

/* --- decisions --- */

/* The tuner counts tiers, the session ways of reading. */
static int knob_value(const struct vx_decision *d) {
    static const int modes[] = {[VX_TUNE_TIER_OPEN] = VX_CACHE_OPEN,
                                [VX_TUNE_TIER_KEEP] = VX_CACHE_KEEP,
                                [VX_TUNE_TIER_STAGED] = VX_CACHE_STAGE,
                                [VX_TUNE_TIER_RAM] = VX_CACHE_MEMORY};
    bool tier = d->knob == VX_KNOB_TIER;
    return !tier ? (int)d->to : d->to < VX_COUNTOF(modes) ? modes[d->to] : VX_CACHE_AUTO;
}

static uint32_t tier_of(const struct vx_session_knobs *k) {
    return k->reading == VX_CACHE_MEMORY  ? VX_TUNE_TIER_RAM
           : k->reading == VX_CACHE_STAGE ? VX_TUNE_TIER_STAGED
           : k->keep_files_open           ? VX_TUNE_TIER_KEEP
                                          : VX_TUNE_TIER_OPEN;
}

void vx_desk_setting(const struct vx_brief *b, const struct vx_session_knobs *now,
                     uint32_t ret[VX_KNOBS]) {
    ret[VX_KNOB_WORKERS] = (uint32_t)now->workers;
    ret[VX_KNOB_PREFETCH] = now->window ? (uint32_t)now->window : b->slots;
    ret[VX_KNOB_KEEP_OPEN] = (uint32_t)now->keep_files_open;
    ret[VX_KNOB_TIER] = tier_of(now);
}

static void turn(struct vx_desk *desk, const struct vx_decision *d) {
    struct vx_session_knobs wish = {-1, -1, -1, -1, 0};
    int *const places[VX_KNOBS] = {&wish.workers, &wish.window, &wish.keep_files_open,
                                   &wish.cache_mode};
    *places[d->knob] = knob_value(d);
    atomic_store(&desk->asked[d->knob], knob_value(d));
    vx_session_turn(desk->mailbox, &wish);
}

static const char *outcome_of(enum vx_decision_kind kind) {
    switch (kind) {
    case VX_DECISION_CHANGE:
        return "trial";
    case VX_DECISION_FORCED:
    case VX_DECISION_ENDED: /* it stays until somebody turns it */
        return "applied";
    case VX_DECISION_KEPT:
        return "kept";
    case VX_DECISION_REVERTED:
        return "reverted";
    default:
        return "advised";
    }
}

static void on_decided(void *ctx, const struct vx_decision *d) {
    struct vx_desk *desk = ctx;
    struct vx_tuning *row = calloc(1, sizeof *row);
    bool ends = d->kind == VX_DECISION_KEPT || d->kind == VX_DECISION_REVERTED ||
                d->kind == VX_DECISION_ENDED;
    if (d->kind == VX_DECISION_CHANGE || d->kind == VX_DECISION_FORCED ||
        d->kind == VX_DECISION_REVERTED) {
        turn(desk, d);
    }
    if (!row) {
        return;
    }
    *row = (struct vx_tuning){.job_id = desk->job,
                              .ts_ms = vx_wall_ms(),
                              .who = "tuner",
                              .predicted = d->predicted < 0 ? d->predicted : (double)NAN,
                              .measured = ends ? d->measured : (double)NAN,
                              .noise = ends ? d->noise : (double)NAN};
    row->ended_ms = d->kind == VX_DECISION_CHANGE ? 0 : row->ts_ms;
    snprintf(row->knob, sizeof row->knob, "%s", vx_knob_word(d->knob));
    snprintf(row->why, sizeof row->why, "%s", vx_verdict_word(d->why));
    snprintf(row->outcome, sizeof row->outcome, "%s", outcome_of(d->kind));
    vx_desk_value(d->knob, d->from, row->from_value, sizeof row->from_value);
    vx_desk_value(d->knob, d->to, row->to_value, sizeof row->to_value);
    vx_log_info("desk", "tuning job=%lld knob=%s from=%s to=%s why=%s outcome=%s",
                (long long)desk->job, row->knob, row->from_value, row->to_value, row->why,
                row->outcome);
    submit(desk->store, ends ? finish_op : begin_op, row);
}

bool vx_desk_asks(const struct vx_desk *desk, enum vx_tune_knob knob) {
    return atomic_load(&desk->asked[knob]) >= 0;
}

enum vx_tune_knob vx_desk_changed(struct vx_desk *desk, const json_t *change) {
    static const char *const names[VX_KNOBS] = {"workers", "window", "keep_files_open",
                                                "cache_mode"};
    const char *name = json_string_value(json_object_get(change, "knob"));
    int from = (int)json_integer_value(json_object_get(change, "from"));
    int to = (int)json_integer_value(json_object_get(change, "to")), knob = 0;
    while (knob < VX_KNOBS &&
           (!name || (strcmp(names[knob], name) != 0 &&
                      strcmp(vx_knob_word((enum vx_tune_knob)knob), name) != 0))) {
        knob++;
    }
    if (knob == VX_KNOBS) {
        return VX_KNOBS;
    }
    int asked = to;
    if (atomic_compare_exchange_strong(&desk->asked[knob], &asked, -1)) {
        return VX_KNOBS; /* the tuner's own */
    }
    struct vx_tuning *row = calloc(1, sizeof *row);
    if (!row) {
        return (enum vx_tune_knob)knob;
    }
    int64_t now = vx_wall_ms();
    *row = (struct vx_tuning){.job_id = desk->job,
                              .ts_ms = now,
                              .ended_ms = now,
                              .who = "user",
                              .why = "request",
                              .outcome = "applied",
                              .predicted = (double)NAN,
                              .measured = (double)NAN,
                              .noise = (double)NAN};
    snprintf(row->knob, sizeof row->knob, "%s", vx_knob_word((enum vx_tune_knob)knob));
    if (knob == VX_KNOB_TIER) {
        snprintf(row->from_value, sizeof row->from_value, "%s",
                 vx_reading_word((enum vx_reading)from));
        snprintf(row->to_value, sizeof row->to_value, "%s", vx_reading_word((enum vx_reading)to));
    } else {
        vx_desk_value((enum vx_tune_knob)knob, (uint32_t)from, row->from_value,
                      sizeof row->from_value);
        vx_desk_value((enum vx_tune_knob)knob, (uint32_t)to, row->to_value, sizeof row->to_value);
    }
    submit(desk->store, begin_op, row);
    return (enum vx_tune_knob)knob;
}

/* --- samples, once a second --- */

static void on_sample(void *ctx, int step, int64_t ts_ms, const json_t *sample) {
    struct vx_desk *desk = ctx;
    struct text_row *row = text_row(desk->job, sample);
    if (row) {
        row->step = step;
        row->ts_ms = ts_ms;
    }
    submit(desk->store, sample_op, row);
    if (desk->hang_ns && !desk->hang_trainer && vx_now_ns() - desk->hang_ns > HANG_PATIENCE_NS) {
        desk->hang_trainer = true;
        vx_log_warn("desk", "hang job=%lld action=restart_trainer", (long long)desk->job);
        vx_session_ask(desk->mailbox, VX_SESSION_RESTART_STEP);
    }
}

/* --- the session --- */

static enum vx_tune_mode mode_of(const struct vx_brief *b) {
    const char *word =
        json_string_value(json_object_get(json_object_get(b->spec, "loader"), "tune"));
    return word && strcmp(word, "off") == 0      ? VX_TUNE_OFF
           : word && strcmp(word, "advise") == 0 ? VX_TUNE_ADVISE
                                                 : VX_TUNE_AUTO;
}

void vx_desk_telemetry(struct vx_desk *desk, const struct vx_brief *b,
                       const struct vx_session_knobs *now, struct vx_telemetry_job *ret) {
    for (int k = 0; k < VX_KNOBS; k++) {
        atomic_store(&desk->asked[k], -1);
    }
    ret->facts = (struct vx_session_facts){.batch = b->schedule.batch,
                                           .slots = b->slots,
                                           .trainer_cores =
                                               b->bench ? 0.1 : vx_brief_threads(b, ret->device)};
    struct vx_plan_config plan;
    if (vx_plans_read_config(b->plans, b->configuration, &plan, NULL) == VX_OK) {
        ret->facts.sample_bytes = vx_plan_sample_bytes(&plan, (int)b->classes);
    }
    struct stat store;
    if (stat(b->cache_dir, &store) == 0) {
        vx_disk_read_limit("", major(store.st_dev), minor(store.st_dev), &ret->facts.read_limit);
    }
    struct vx_storage storage;
    if (vx_storage_probe(b->cache_dir, &storage, NULL) == VX_OK &&
        storage.kind != VX_STORAGE_UNKNOWN) {
        ret->facts.storage_known = true;
        ret->facts.storage = storage.kind == VX_STORAGE_NETWORK      ? VX_TUNE_NETWORK
                             : storage.kind == VX_STORAGE_ROTATIONAL ? VX_TUNE_ROTATIONAL
                             : storage.kind == VX_STORAGE_MEMORY     ? VX_TUNE_MEMORY
                                                                     : VX_TUNE_SOLID;
    }
    ret->facts.stage = b->stage_dir != NULL;
    ret->deciding = now->deciding;
    vx_desk_setting(b, now, ret->setting);
    ret->limits = (struct vx_tuner_limits){{1, b->schedule.batch + 1, 0, 0},
                                           {b->workers_max, b->slots, 1, VX_TUNE_TIER_RAM}};
    ret->mode = mode_of(b);
    ret->events = (struct vx_telemetry_events){desk, on_verdict, on_decided, on_sample};
}
