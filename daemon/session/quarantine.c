/* Cases that kill workers. Three deaths in a row over samples of the same case, none of which could
 * be made in between, take the case out of the training instead of ending the job.
 *
 * From which sample on is exact: the ring's gate is closed, and when no slot is being filled the
 * ready samples that show the case are freed (vx_ring_discard); what the trainer has taken by then
 * stays as it was. The list is on the disk before a sample is made by it, and travels in every
 * checkpoint, so a resumed job makes the same batches. */
#include "daemon/session/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/own.h"
#include "cache/cache.h"
#include "daemon/session/brief.h"
#include "daemon/session/death.h"
#include "loader/recipe.h"
#include "loader/sampler.h"
#include "train/engine.h"

#include <string.h>

#define DEATHS 3

static const struct vx_recipe_view *view(const struct session *s) {
    return vx_recipe_view(s->recipe);
}

/* --- whom to blame --- */

/* The case's entry; the least blamed gives way where there are too many. */
static struct blame *blame_of(struct quarantine *q, uint32_t case_index) {
    struct blame *least = &q->blamed[0];
    for (size_t i = 0; i < q->n_blamed; i++) {
        if (q->blamed[i].case_index == case_index) {
            return &q->blamed[i];
        }
        least = q->blamed[i].deaths < least->deaths ? &q->blamed[i] : least;
    }
    struct blame *b = q->n_blamed < BLAMED_MAX ? &q->blamed[q->n_blamed++] : least;
    *b = (struct blame){.case_index = case_index};
    return b;
}

static bool condemned(const struct quarantine *q, uint32_t case_index) {
    for (size_t i = 0; i < q->n_condemned; i++) {
        if (q->condemned[i].case_index == case_index) {
            return true;
        }
    }
    return false;
}

/* A worker that had met the case before it went out may die only now. */
static bool out_already(const struct session *s, uint32_t case_index, uint64_t q) {
    struct vx_sample_ref at = vx_sample_at(&s->ring.desc.schedule, q);
    for (uint32_t i = 0; i < s->quarantine.out.n; i++) {
        const struct vx_exclusion *x = &s->quarantine.out.list[i];
        uint64_t k = x->from_k[at.stream];
        if (x->case_index == case_index &&
            (at.k > k || (at.k == k && at.j >= x->from_j[at.stream]))) {
            return true;
        }
    }
    return false;
}

unsigned quarantine_blame(struct session *s, const struct loss *l) {
    struct quarantine *q = &s->quarantine;
    if (!l->by_work || out_already(s, l->record.case_index, l->record.q)) {
        return 0;
    }
    struct blame *b = blame_of(q, l->record.case_index);
    if (b->deaths > 0 && vx_ring_made(&s->ring, b->q)) {
        b->deaths = 0; /* it could be made after all */
    }
    b->deaths++;
    b->q = l->record.q;
    return b->deaths;
}

/* Where nothing of the store can be read, no single case is to blame. */
static bool store_there(const struct session *s) {
    vx_auto_cache struct vx_cache *cache = NULL;
    return vx_cache_open(s->o->brief->cache_dir, &cache, NULL) == VX_OK;
}

void quarantine_consider(struct session *s, const struct loss *l, const json_t *evidence) {
    struct quarantine *q = &s->quarantine;
    if (l->deaths_on_case < DEATHS || q->n_condemned == CONDEMNED_MAX ||
        condemned(q, l->record.case_index) || !store_there(s)) {
        return;
    }
    q->condemned[q->n_condemned++] =
        (struct condemned){l->record.case_index, json_incref((json_t *)evidence)};
    s->deaths = 0; /* the way out is known */
    session_gates(s);
}

/* --- taking a case out --- */

/* The first sample per stream from which on the case is out, given the first q. */
static struct vx_exclusion exclusion_from(const struct session *s, uint32_t case_index,
                                          uint64_t from) {
    const struct vx_sample_schedule *schedule = &s->ring.desc.schedule;
    struct vx_sample_ref at = vx_sample_at(schedule, from);
    struct vx_exclusion x = {.case_index = case_index};
    bool training = at.stream == VX_STREAM_TRAIN;
    /* an epoch's validation batches follow its training batches */
    x.from_k[VX_STREAM_TRAIN] =
        training ? at.k : ((uint64_t)at.epoch + 1) * schedule->train_iterations;
    x.from_k[VX_STREAM_VAL] = training ? (uint64_t)at.epoch * schedule->val_iterations : at.k;
    for (uint32_t j = 0; j < at.j; j++) {
        uint32_t shown = UINT32_MAX;
        vx_sample_case(view(s), at.stream, at.k, j, &shown);
        x.from_j[at.stream] = shown == case_index ? at.j : x.from_j[at.stream];
    }
    return x;
}

static bool any_left(const struct session *s, const uint32_t *list, size_t n) {
    const struct vx_exclusions *out = &s->quarantine.out;
    size_t gone = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_out = false;
        for (uint32_t o = 0; o < out->n; o++) {
            is_out |= out->list[o].case_index == list[i];
        }
        gone += is_out;
    }
    return gone < n;
}

static int check_left(struct session *s, struct vx_err *err) {
    const struct vx_recipe_view *v = view(s);
    bool train = any_left(s, v->train, v->n_train);
    bool val = !s->ring.desc.schedule.val_iterations || any_left(s, v->val, v->n_val);
    if (train && val) {
        return VX_OK;
    }
    size_t n = train ? v->n_val : v->n_train;
    vx_fail(err, VX_E_CORRUPT, "all_cases_quarantined",
            "every one of the %zu %s cases had to be taken out because workers died over them; the "
            "event case_quarantined of each says why",
            n, train ? "validation" : "training");
    return vx_err_at(err, "%s", s->o->brief->cache_dir);
}

/* Puts the list into the recipe and into the control region. */
static int publish(struct session *s, struct vx_err *err) {
    const struct vx_exclusions *out = &s->quarantine.out;
    struct vx_quarantine q[VX_EXCLUSIONS_MAX];
    struct vx_recipe *recipe = NULL;
    for (uint32_t i = 0; i < out->n; i++) {
        q[i] = (struct vx_quarantine){.case_index = out->list[i].case_index};
        memcpy(q[i].from_j, out->list[i].from_j, sizeof q[i].from_j);
        memcpy(q[i].from_k, out->list[i].from_k, sizeof q[i].from_k);
    }
    int rc = vx_recipe_with(s->recipe, q, out->n, &recipe, err);
    if (rc == VX_OK) {
        vx_recipe_free(s->recipe);
        s->recipe = recipe;
        vx_control_set_exclusions(&s->control, out);
        rc = check_left(s, err);
    }
    return rc;
}

/* Replaces the row of a case that was out before (a resumed job met it earlier than the first
 * time). */
static void keep_row(struct session *s, json_t *row) {
    json_t *rows = s->live.quarantines;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        if (json_equal(json_object_get(json_array_get(rows, i), "case"),
                       json_object_get(row, "case"))) {
            json_array_set(rows, i, row);
            return;
        }
    }
    json_array_append(rows, row);
}

static json_t *report(const struct session *s, const struct condemned *c,
                      const struct vx_exclusion *x) {
    static const char *const keys[] = {"reason",      "message", "code",    "file",
                                       "exit_status", "signal",  "reading", "max_rss_bytes"};
    json_t *row = vx_live_row(x, view(s));
    for (size_t i = 0; row && i < VX_COUNTOF(keys); i++) {
        json_object_set(row, keys[i], json_object_get(c->evidence, keys[i]));
    }
    char at[32];
    json_object_set_new(row, "deaths", json_integer(DEATHS));
    json_object_set_new(row, "at", json_string(vx_iso8601(vx_wall_ms(), at, sizeof at)));
    return row;
}

static int take_out(struct session *s, const struct condemned *c, uint64_t from,
                    struct vx_err *err) {
    struct vx_exclusion x = exclusion_from(s, c->case_index, from);
    vx_auto_json json_t *row = report(s, c, &x);
    if (!row) {
        return vx_fail(err, VX_E_NOMEM, NULL, "taking a case out");
    }
    keep_row(s, row);
    vx_live_exclusions(s->live.quarantines, view(s), &s->quarantine.out);
    if (json_array_size(s->live.quarantines) > VX_EXCLUSIONS_MAX) {
        return vx_fail(err, VX_E_CORRUPT, "too_many_quarantined",
                       "workers died over more than %d cases: the disk or the machine cannot be "
                       "trusted",
                       VX_EXCLUSIONS_MAX);
    }
    if (vx_live_write(s->o->brief->dir, &s->live, err) != VX_OK) {
        /* without room on the disk the next checkpoint has to say it */
        vx_log_warn("session", "quarantine_not_written text=\"%s\"", err->text);
    }
    vx_log_warn("session", "case_quarantined case=\"%s\" from_k=%llu reason=%s",
                view(s)->cases[c->case_index], (unsigned long long)x.from_k[VX_STREAM_TRAIN],
                json_string_value(json_object_get(row, "reason")));
    int rc = publish(s, err);
    if (s->o->events.quarantined) {
        s->o->events.quarantined(s->o->events.ctx, row, true);
    }
    return rc;
}

void quarantine_duties(struct session *s) {
    struct quarantine *q = &s->quarantine;
    struct vx_err err = {0};
    int rc = VX_OK;
    while (q->n_condemned > 0 && !s->ended && rc == VX_OK) {
        struct condemned *c = &q->condemned[0];
        uint64_t from = 0;
        if (vx_ring_discard(&s->ring, c->case_index, &from) != VX_OK) {
            return; /* a slot is still being filled */
        }
        rc = take_out(s, c, from, &err);
        json_decref(c->evidence);
        q->n_condemned--;
        memmove(c, c + 1, q->n_condemned * sizeof *c);
        if (q->n_condemned == 0) {
            session_gates(s);
        }
    }
    if (rc != VX_OK) {
        session_fail(s, &err);
    }
}

/* --- from one session to the next --- */

int quarantine_load(struct session *s, struct vx_err *err) {
    vx_auto_json json_t *saved = NULL;
    int rc = vx_train_quarantines(s->o->brief->dir, &saved, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_live_merge(s->live.quarantines, saved);
    vx_live_exclusions(s->live.quarantines, view(s), &s->quarantine.out);
    for (size_t i = 0; s->o->events.quarantined && i < json_array_size(s->live.quarantines); i++) {
        s->o->events.quarantined(s->o->events.ctx, json_array_get(s->live.quarantines, i), false);
    }
    return s->quarantine.out.n ? publish(s, err) : VX_OK;
}

void quarantine_release(struct session *s) {
    for (size_t i = 0; i < s->quarantine.n_condemned; i++) {
        json_decref(s->quarantine.condemned[i].evidence);
    }
    s->quarantine.n_condemned = 0;
}
