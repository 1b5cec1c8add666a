#include "daemon/bench/loader.h"

#include "base/budget.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/bench/pagecache.h"
#include "daemon/bench/settings.h"
#include "daemon/bench/summary.h"
#include "daemon/session/brief.h"

#include <string.h>

#define LONGEST_WARM_SECONDS 3.0
#define RESIDENT_WHEN_COLD   0.02 /* share of the store; more: it cannot be dropped here */

struct bench {
    const struct vx_session_options *o;
    struct vx_bench_settings settings;
    json_t *runs; /* name -> figures */
    const char *run;
    char *dir; /* of the run */
};

static void say(const struct bench *b, json_t *line) {
    if (line && b->o->events.line) {
        b->o->events.line(b->o->events.ctx, line);
    }
    json_decref(line);
}

/* --- what a session tells; the owner's callbacks are called with the owner's context --- */

_Static_assert(sizeof(struct vx_session_events) == 9 * sizeof(void *), "every event is passed on");

static void on_line(void *ctx, const json_t *line) {
    const struct bench *b = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (json_object_get(line, "error") || (event && strcmp(event, "cache") == 0)) {
        say(b, json_incref((json_t *)line));
    } else if (event && strcmp(event, "result") == 0) {
        json_t *run = json_copy((json_t *)line);
        json_object_set_new(run, "event", json_string("run"));
        json_object_set_new(run, "run", json_string(b->run));
        say(b, run);
    }
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_checkpoint) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    return !e->crashed || e->crashed(e->ctx, evidence, had_new_checkpoint);
}

static void on_device_lost(void *ctx, const json_t *evidence) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    e->device_lost(e->ctx, evidence);
}

static void on_worker_lost(void *ctx, const json_t *evidence) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    if (e->worker_lost) {
        e->worker_lost(e->ctx, evidence);
    }
}

static void on_quarantined(void *ctx, const json_t *row, bool fresh) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    if (e->quarantined) {
        e->quarantined(e->ctx, row, fresh);
    }
}

static void on_knobs(void *ctx, const struct vx_session_knobs *now, const json_t *change) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    if (e->knobs) {
        e->knobs(e->ctx, now, change);
    }
}

static void on_mapped(void *ctx, int timeline_fd, int ring_fd) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    if (e->mapped) {
        e->mapped(e->ctx, timeline_fd, ring_fd);
    }
}

static void on_unmapped(void *ctx) {
    const struct vx_session_events *e = &((struct bench *)ctx)->o->events;
    if (e->unmapped) {
        e->unmapped(e->ctx);
    }
}

/* --- one run --- */

/* Brings the store to where the run needs it. *ret_why: text why it cannot be had here, or NULL. */
static int set_page_cache(const struct bench *b, const char **ret_why, struct vx_pagecache *ret,
                          struct vx_err *err) {
    const char *store = b->o->brief->cache_dir;
    int rc = VX_OK;
    if (strcmp(b->run, "memory") == 0) {
        uint64_t budget = vx_budget_memory_share();
        rc = vx_pagecache_warm(store, budget ? budget : UINT64_MAX, err);
    } else if (strcmp(b->run, "cold") == 0) {
        rc = vx_pagecache_drop(store, err);
    }
    rc = rc == VX_OK ? vx_pagecache_look(store, ret, err) : rc;
    if (rc == VX_OK && strcmp(b->run, "cold") == 0 &&
        (double)ret->resident > RESIDENT_WHEN_COLD * (double)ret->bytes) {
        *ret_why = "the prepared data stays in memory: its files have no disk below them, or are "
                   "mapped by somebody";
    }
    return rc;
}

static int write_brief(const struct bench *b, struct vx_brief *brief, const char *path,
                       struct vx_err *err) {
    struct vx_bench_settings s = b->settings;
    s.synthetic = strcmp(b->run, "synthetic") == 0;
    s.cold = strcmp(b->run, "cold") == 0;
    s.nearer = strcmp(b->run, "as_is") == 0;
    s.costs = s.costs && !s.synthetic && !s.cold;
    s.warm_seconds = s.seconds / 5 < LONGEST_WARM_SECONDS ? s.seconds / 5 : LONGEST_WARM_SECONDS;
    brief->dir = b->dir;
    brief->bench = vx_bench_settings_write(&s);
    return brief->bench ? vx_brief_write(path, brief, err)
                        : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the benchmark");
}

static int session(struct bench *b, enum vx_session_end *ret_end, json_t **ret,
                   struct vx_err *err) {
    struct vx_brief brief = *b->o->brief; /* borrowed but for bench */
    brief.bench = NULL;
    vx_auto_free char *path = vx_strf("%s/session.json", b->dir);
    int rc = path ? write_brief(b, &brief, path, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the benchmark");
    if (rc == VX_OK) {
        struct vx_session_options o = *b->o;
        o.brief = &brief;
        o.brief_path = path;
        o.events = (struct vx_session_events){.ctx = b,
                                              .line = on_line,
                                              .crashed = on_crashed,
                                              .device_lost =
                                                  b->o->events.device_lost ? on_device_lost : NULL,
                                              .worker_lost = on_worker_lost,
                                              .quarantined = on_quarantined,
                                              .knobs = on_knobs,
                                              .mapped = on_mapped,
                                              .unmapped = on_unmapped};
        rc = vx_session_run(&o, ret_end, ret, err);
    }
    json_decref(brief.bench);
    return rc;
}

/* *ret_end stays VX_SESSION_SUCCEEDED while the next run may follow. */
static int one_run(struct bench *b, enum vx_session_end *ret_end, struct vx_err *err) {
    struct vx_pagecache cache = {0};
    const char *why = NULL;
    json_t *figures = NULL;
    vx_auto_free char *dir = vx_strf("%s/" VX_BENCH_DIR "/%s", b->o->brief->dir, b->run);
    vx_auto_free char *phase = vx_strf("benchmark: %s", b->run);
    if (!dir || !phase) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the benchmark");
    }
    b->dir = dir;
    say(b, json_pack("{s:s, s:s}", "event", "phase", "phase", phase));
    int rc = vx_remove_tree(dir, err);
    rc = rc == VX_OK ? vx_mkdirs(dir, 0755, err) : rc;
    rc = rc == VX_OK ? set_page_cache(b, &why, &cache, err) : rc;
    if (rc == VX_OK && why) {
        figures = json_pack("{s:s}", "skipped", why);
    } else if (rc == VX_OK) {
        rc = session(b, ret_end, &figures, err);
    }
    if (rc == VX_OK && figures) {
        double share = cache.bytes ? (double)cache.resident / (double)cache.bytes : 0;
        json_object_set_new(figures, "in_page_cache_before", json_real(share));
        json_object_set(b->runs, b->run, figures);
    }
    json_decref(figures);
    return rc;
}

static int all_runs(struct bench *b, enum vx_session_end *ret_end, struct vx_err *err) {
    size_t i;
    json_t *name;
    int rc = VX_OK;
    *ret_end = VX_SESSION_SUCCEEDED;
    json_array_foreach(json_object_get(b->o->brief->bench, "runs"), i, name) {
        b->run = json_string_value(name);
        rc = b->run ? one_run(b, ret_end, err)
                    : vx_fail(err, VX_E_CORRUPT, "brief_invalid", "bench.runs is no list of names");
        if (rc != VX_OK || *ret_end != VX_SESSION_SUCCEEDED) {
            break;
        }
    }
    return rc;
}

int vx_bench_run(const struct vx_session_options *options, enum vx_session_end *ret_end,
                 json_t **ret_result, struct vx_err *err) {
    struct bench b = {.o = options, .runs = json_object()};
    vx_auto_free char *dir = vx_strf("%s/" VX_BENCH_DIR, options->brief->dir);
    int rc = dir && b.runs ? vx_bench_settings_read(options->brief->bench, &b.settings, err)
                           : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the benchmark");
    rc = rc == VX_OK ? all_runs(&b, ret_end, err) : rc;
    if (rc != VX_OK) {
        *ret_end = VX_SESSION_FAILED;
    } else if (*ret_end == VX_SESSION_SUCCEEDED && ret_result) {
        *ret_result = vx_bench_summary(options->brief, b.runs);
    }
    if (!b.settings.costs && dir) {
        struct vx_err ignored = {0};
        if (vx_remove_tree(dir, &ignored) != VX_OK) {
            vx_log_warn("bench", "left_behind path=\"%s\" text=\"%s\"", dir, ignored.text);
        }
    }
    json_decref(b.runs);
    return rc;
}
