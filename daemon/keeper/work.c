/* Warming, staging and holding, at a pace that leaves the storage to the workers. */
#include "daemon/keeper/keeper.h"

#include "base/budget.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_NS 1000000000ull
/* Memory that is left to everybody else, at least; and an eighth of what there is. */
#define SPARE_BYTES ((uint64_t)256 << 20)

bool keeper_interrupted(const struct keeper *k) {
    struct vx_knobs knobs;
    return vx_control_gate(&k->control) == VX_GATE_STOPPED ||
           (vx_control_knobs(&k->control, &knobs) && knobs.cache_mode != (uint32_t)k->asked);
}

void keeper_nap(struct keeper *k, uint64_t ns) {
    uint64_t end = vx_now_ns() + ns, now;
    uint32_t seen = vx_control_changed(&k->control);
    while ((now = vx_now_ns()) < end && !keeper_interrupted(k)) {
        vx_control_wait(&k->control, seen, end - now < SECOND_NS ? end - now : SECOND_NS);
        seen = vx_control_changed(&k->control);
    }
}

/* --- pace --- */

/* Is a worker held up by reading? One that reads from memory is done too soon to be seen. */
static bool readers_wait(const struct keeper *k) {
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        struct vx_worker_record r;
        if (vx_timeline_worker(&k->timeline, w, &r) && r.state == VX_WORKER_READING) {
            return true;
        }
    }
    return false;
}

void keeper_show(struct keeper *k, bool always) {
    uint64_t now = vx_now_ns();
    vx_timeline_set_keeper(&k->timeline, &k->record);
    if (always || now - k->said_ns > SECOND_NS) {
        k->said_ns = now;
        vx_say(json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:i}", "event", "cache_progress", "mode",
                         vx_reading_word(k->mode), "state", vx_nearing_name(k->record.state),
                         "done_bytes", (json_int_t)k->record.bytes_done, "total_bytes",
                         (json_int_t)k->record.bytes_total, "done", (int)k->record.cases_done,
                         "total", (int)k->record.cases_total));
    }
}

/* Looked at twice a second at most. */
static bool short_of_memory(struct keeper *k) {
    struct vx_memory m;
    uint64_t now = vx_now_ns();
    if (now - k->memory_looked_ns < SECOND_NS / 2 || !vx_budget_memory("", &m)) {
        return false;
    }
    k->memory_looked_ns = now;
    uint64_t spare = m.total_bytes / 8 > SPARE_BYTES ? m.total_bytes / 8 : SPARE_BYTES;
    return m.available_bytes < spare;
}

static void rest(struct keeper *k, uint64_t bytes, uint64_t ns) {
    uint64_t pause = vx_warm_pause_ns(bytes, ns, readers_wait(k));
    if (pause > 0) {
        keeper_nap(k, pause);
    }
}

/* ctx: struct keeper */
static bool on_step(void *ctx, uint64_t bytes, uint64_t ns) {
    struct keeper *k = ctx;
    k->record.bytes_done += bytes;
    keeper_show(k, false);
    rest(k, bytes, ns);
    return !keeper_interrupted(k);
}

/* --- ends --- */

static void finish(struct keeper *k, enum vx_nearing state, const char *reason) {
    double seconds = (double)(vx_now_ns() - k->began_ns) * 1e-9;
    k->finished = true;
    k->record.state = state;
    keeper_show(k, true);
    vx_log_notice("keeper", "%s job=%lld mode=%s cases=%u of=%u seconds=%.1f text=\"%s\"",
                  vx_nearing_name(state), (long long)k->brief->job_id, vx_reading_word(k->mode),
                  k->record.cases_done, k->record.cases_total, seconds, reason);
    vx_say(json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:f, s:s}", "event", "cache", "mode",
                     vx_reading_word(k->mode), "state", vx_nearing_name(state), "done",
                     (int)k->record.cases_done, "total", (int)k->record.cases_total, "done_bytes",
                     (json_int_t)k->record.bytes_done, "seconds", seconds, "reason", reason));
}

/* What one case failed with: another may do better, or there is no use. */
static bool skips(int rc) {
    return rc == VX_E_CORRUPT || rc == VX_E_NOT_FOUND || rc == VX_E_IO;
}

/* A damaged case is the workers' to report: they know how badly it is needed. */
static void skipped(const struct keeper *k, size_t i, const struct vx_err *why) {
    vx_log_warn("keeper", "skipped mode=%s case=\"%s\" text=\"%s\"", vx_reading_word(k->mode),
                vx_cache_case_name(k->cache, i), why->text);
}

static int stop_for(struct keeper *k, const char *what, const struct vx_err *why) {
    char text[400];
    snprintf(text, sizeof text,
             "%s: %.250s; %u of %u cases are there, the others are read from the store", what,
             why->text, k->record.cases_done, k->record.cases_total);
    finish(k, VX_NEARING_STOPPED, text);
    return VX_OK;
}

static int end(struct keeper *k, const char *reason) {
    finish(k, VX_NEARING_DONE, reason);
    return VX_OK;
}

static int no_memory(struct vx_err *why) {
    return vx_fail(why, VX_E_NOMEM, "memory_short", "others need what memory is free");
}

/* --- modes --- */

static int warm(struct keeper *k) {
    for (size_t i = k->record.cases_done; i < k->n_cases; i++) {
        struct vx_err why = {0};
        int rc = short_of_memory(k) ? no_memory(&why) : vx_warm_case(k->cache, i, on_step, k, &why);
        if (rc == VX_E_CANCELLED) {
            return VX_OK;
        }
        if (rc == VX_E_NOMEM) {
            return stop_for(k, "warming stopped", &why);
        }
        if (rc != VX_OK) {
            skipped(k, i, &why);
        }
        k->record.cases_done++;
        keeper_show(k, false);
    }
    return end(k, "every file was read once");
}

int keeper_load(struct keeper *k, size_t i, struct vx_err *err) {
    const struct vx_cache_counters *c = vx_cache_counters(k->cache);
    struct vx_err why = {0};
    uint64_t bytes = c->bytes_read, ns = c->read_ns + c->open_ns;
    int rc = short_of_memory(k) ? no_memory(&why) : vx_held_load(k->held, i, &why);
    if (rc == VX_E_NOMEM) {
        return vx_fail(err, rc, why.reason, "%s", why.text);
    }
    if (rc != VX_OK) {
        skipped(k, i, &why);
        k->failures[i] += k->failures[i] < UINT8_MAX;
    }
    k->record.cases_done++;
    k->record.bytes_done += k->dense_bytes[i];
    keeper_show(k, false);
    rest(k, c->bytes_read - bytes, c->read_ns + c->open_ns - ns);
    return VX_OK;
}

static int hold(struct keeper *k) {
    for (size_t i = k->record.cases_done; i < k->n_cases && !keeper_interrupted(k); i++) {
        struct vx_err why = {0};
        if (keeper_load(k, i, &why) != VX_OK) {
            return stop_for(k, "holding stopped", &why);
        }
    }
    return k->record.cases_done == k->n_cases ? end(k, "every case is in memory") : VX_OK;
}

/* Another process copies the same set: what it has done so far serves here too. */
static int watch_stage(struct keeper *k) {
    k->record.cases_done = 0;
    k->record.bytes_done = 0;
    for (size_t i = 0; i < k->n_cases; i++) {
        if (vx_stage_has(k->stage, i)) {
            k->record.cases_done++;
            k->record.bytes_done += k->file_bytes[i];
        }
    }
    if (k->record.cases_done == k->n_cases) {
        return end(k, "every case is staged, by another job");
    }
    keeper_show(k, false);
    keeper_nap(k, SECOND_NS);
    return VX_OK;
}

static int stage(struct keeper *k, struct vx_err *err) {
    int rc = vx_stage_own(k->stage, err);
    if (rc == VX_E_BUSY) {
        return watch_stage(k);
    }
    k->record.cases_done = 0;
    k->record.bytes_done = 0;
    for (size_t i = 0; rc == VX_OK && i < k->n_cases; i++) {
        struct vx_err why = {0};
        uint64_t before = k->record.bytes_done;
        if (!vx_stage_has(k->stage, i)) {
            rc = vx_stage_copy(k->stage, i, on_step, k, &why);
        }
        if (rc == VX_E_CANCELLED) {
            return VX_OK;
        }
        if (rc == VX_E_FULL || rc == VX_E_PERM) {
            return stop_for(k, "staging stopped", &why);
        }
        if (rc != VX_OK && !skips(rc)) {
            return vx_fail(err, rc, why.reason, "%s", why.text);
        }
        if (rc != VX_OK) {
            skipped(k, i, &why);
        }
        rc = VX_OK;
        k->record.cases_done++;
        k->record.bytes_done = before + k->file_bytes[i];
        keeper_show(k, false);
    }
    return rc == VX_OK ? end(k, "every case is staged") : rc;
}

int keeper_work(struct keeper *k, struct vx_err *err) {
    switch (k->mode) {
    case VX_READ_WARM:
        return warm(k);
    case VX_READ_MEMORY:
        return keeper_has_windows(k) ? keeper_hold_windows(k, err) : hold(k);
    case VX_READ_STAGE:
        return stage(k, err);
    default:
        k->finished = true;
        return VX_OK;
    }
}
