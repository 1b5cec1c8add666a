/* See examine.h. */
#include "daemon/roles/examine.h"

#include "base/budget.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/roles/crew.h"
#include "daemon/roles/say.h"
#include "plan/dataset.h"
#include "plan/fingerprint.h"
#include "plan/planner.h"
#include "plan/plans.h"
#include "prepare/extract.h"
#include "prepare/integrity.h"
#include "volume/rawset.h"

#include <stdio.h>
#include <string.h>

struct look {
    struct vx_dataset_desc dataset;
    struct vx_rawset raw;
    struct vx_findings set;    /* of names and counts */
    struct vx_findings *cases; /* per case, so that threads do not meet */
    struct vx_case_print *prints;
    bool *usable;
    uint32_t draws;
    bool say_progress;
};

static uint64_t cost_of(void *ctx, size_t i) {
    struct look *l = ctx;
    return vx_integrity_memory(&l->raw.cases[i], l->dataset.n_channels);
}

static int look_at(void *ctx, size_t i, struct vx_err *err) {
    struct look *l = ctx;
    return vx_integrity_case(&l->dataset, &l->raw.cases[i], l->draws, &l->cases[i], &l->prints[i],
                             &l->usable[i], err);
}

static void looked_at(void *ctx, size_t n_done) {
    struct look *l = ctx;
    if (l->say_progress) {
        vx_say(json_pack("{s:s, s:I, s:I}", "event", "progress", "done", (json_int_t)n_done,
                         "total", (json_int_t)l->raw.n_cases));
    }
}

static int list_set(struct look *l, const char *raw_dir, struct vx_examination *x,
                    struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/dataset.json", raw_dir);
    int rc = path ? vx_dataset_load(raw_dir, &l->dataset, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "%s", raw_dir);
    if (rc == VX_OK) {
        rc = vx_json_load_file(path, 64u << 20, &x->dataset_json, err);
    }
    if (rc == VX_OK) {
        struct vx_rawset_options options = {.dir = raw_dir,
                                            .file_ending = l->dataset.file_ending,
                                            .n_channels = l->dataset.n_channels,
                                            .mapping = json_object_get(x->dataset_json, "dataset")};
        rc = vx_rawset_list(&options, &l->raw, err);
    }
    if (rc == VX_OK) {
        rc = vx_integrity_set(&l->dataset, &l->raw, &l->set, err);
    }
    size_t n = l->raw.n_cases + 1;
    l->cases = calloc(n, sizeof *l->cases);
    l->prints = calloc(n, sizeof *l->prints);
    l->usable = calloc(n, sizeof *l->usable);
    l->draws = vx_extract_draws_per_case(l->raw.n_cases ? l->raw.n_cases : 1);
    return rc == VX_OK && (!l->cases || !l->prints || !l->usable)
               ? vx_fail(err, VX_E_NOMEM, NULL, "%s", raw_dir)
               : rc;
}

static size_t append(struct vx_finding *list, size_t at, const struct vx_findings *more) {
    for (size_t i = 0; i < more->n; i++) {
        list[at++] = more->list[i];
    }
    return at;
}

/* All findings as one report; the first error is what people are told. */
static int make_report(struct look *l, struct vx_examination *x, struct vx_err *err) {
    struct vx_findings *all = &l->set;
    size_t n = all->n;
    for (size_t i = 0; i < l->raw.n_cases; i++) {
        n += l->cases[i].n;
    }
    struct vx_finding *list = calloc(n + 1, sizeof *list);
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "the report");
    }
    size_t at = append(list, 0, all);
    for (size_t i = 0; i < l->raw.n_cases; i++) {
        at = append(list, at, &l->cases[i]);
    }
    struct vx_findings merged = {n, list};
    x->valid = vx_findings_ok(&merged);
    x->report = vx_findings_to_json(&merged, l->raw.n_cases);
    for (size_t i = 0; i < n && !x->valid; i++) {
        if (!list[i].warning) {
            snprintf(x->code, sizeof x->code, "%s", list[i].code);
            snprintf(x->message, sizeof x->message, "%.100s%s%.380s", list[i].case_name,
                     list[i].case_name[0] ? ": " : "", list[i].text);
            break;
        }
    }
    free(list);
    return x->report ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "the report");
}

static int make_plans(struct look *l, struct vx_examination *x, struct vx_err *err) {
    vx_auto_free const struct vx_case_print **prints = calloc(l->raw.n_cases + 1, sizeof *prints);
    struct vx_plans *plans = calloc(1, sizeof *plans);
    struct vx_fingerprint fp = {0};
    if (!prints || !plans) {
        free(plans);
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    for (size_t i = 0; i < l->raw.n_cases; i++) {
        prints[i] = &l->prints[i];
    }
    int rc = vx_extract_merge(prints, l->raw.n_cases, &fp, err);
    if (rc == VX_OK) {
        rc = vx_plan_experiment(&l->dataset, &fp, NULL, plans, err);
    }
    if (rc == VX_OK) {
        x->fingerprint = vx_fingerprint_to_json(&fp);
        x->plans = vx_plans_to_json(plans);
        rc = x->fingerprint && x->plans ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    vx_fingerprint_release(&fp);
    free(plans);
    return rc;
}

static void look_release(struct look *l) {
    for (size_t i = 0; i < l->raw.n_cases; i++) {
        if (l->cases) {
            vx_findings_release(&l->cases[i]);
        }
        if (l->prints && l->usable && l->usable[i]) {
            vx_case_print_release(&l->prints[i]);
        }
    }
    free(l->cases);
    free(l->prints);
    free(l->usable);
    vx_findings_release(&l->set);
    vx_rawset_release(&l->raw);
    free(l);
}

int vx_examine(const char *raw_dir, int threads, bool say_progress, const atomic_bool *stop,
               struct vx_examination *ret, struct vx_err *err) {
    struct vx_examination x = {0};
    struct look *l = calloc(1, sizeof *l);
    if (!l) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", raw_dir);
    }
    l->say_progress = say_progress;
    int rc = list_set(l, raw_dir, &x, err);
    if (rc == VX_OK) {
        struct vx_crew crew = {.n_items = l->raw.n_cases,
                               .threads = threads ? threads : (int)vx_budget_cores(""),
                               .memory_bytes = vx_budget_memory_share(),
                               .cost = cost_of,
                               .work = look_at,
                               .done = looked_at,
                               .stop = stop,
                               .ctx = l};
        rc = vx_crew_run(&crew, err);
    }
    if (rc == VX_OK) {
        rc = make_report(l, &x, err);
    }
    if (rc == VX_OK && x.valid) {
        rc = make_plans(l, &x, err);
    }
    look_release(l);
    if (rc != VX_OK) {
        vx_examination_release(&x);
        return rc;
    }
    *ret = x;
    return VX_OK;
}

void vx_examination_release(struct vx_examination *x) {
    json_decref(x->report);
    json_decref(x->dataset_json);
    json_decref(x->fingerprint);
    json_decref(x->plans);
    memset(x, 0, sizeof *x);
}
