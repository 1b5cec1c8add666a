#include "spec/loader.h"

#include <stdio.h>
#include <string.h>

#define MOST_CASES 1000000

const char *const vx_spec_caches[] = {"auto", "open", "keep", "warm", "stage", "memory", NULL};

static int auto_or_number(const json_t *obj, const char *base, const char *key, int lo, int hi,
                          int fallback, struct vx_json_problems *ps) {
    const json_t *v = json_object_get(obj, key);
    int64_t x = fallback;
    if (v && json_is_string(v) && strcmp(json_string_value(v), "auto") == 0) {
        return VX_SPEC_AUTO;
    }
    vx_json_get_int(obj, base, key, lo, hi, &x, ps);
    return (int)x;
}

static void parse_stage(const json_t *o, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char at[] = "/loader/cache";
    vx_json_only_keys(o, at, (const char *const[]){"stage", NULL}, ps);
    if (!json_object_get(o, "stage")) {
        vx_json_problem(ps, "/loader/cache/stage", "missing", "is required: an absolute path");
    } else if (vx_json_get_string(o, at, "stage", s->loader.stage, sizeof s->loader.stage, ps) &&
               s->loader.stage[0] != '/') {
        vx_json_problem(ps, "/loader/cache/stage", "invalid_value", "must be an absolute path");
    }
    snprintf(s->loader.cache, sizeof s->loader.cache, "stage");
}

/* A word, or {"stage": FOLDER}. */
static void parse_cache(const json_t *o, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *cache = json_object_get(o, "cache");
    if (json_is_object(cache)) {
        parse_stage(cache, s, ps);
        return;
    }
    int word = vx_spec_one_of(o, "/loader", "cache", vx_spec_caches, ps);
    if (word >= 0) {
        snprintf(s->loader.cache, sizeof s->loader.cache, "%s", vx_spec_caches[word]);
    }
}

static void parse_open(const json_t *o, struct vx_job_spec *s, struct vx_json_problems *ps) {
    const json_t *open = json_object_get(o, "keep_files_open");
    const char *cache = s->loader.cache;
    bool flag = false;
    if (!open || (json_is_string(open) && strcmp(json_string_value(open), "auto") == 0) ||
        !vx_json_get_bool(o, "/loader", "keep_files_open", &flag, ps)) {
        return;
    }
    if ((flag && strcmp(cache, "open") == 0) || (!flag && strcmp(cache, "keep") == 0)) {
        vx_json_problem(ps, "/loader/keep_files_open", "invalid_value",
                        "contradicts cache \"%s\"; leave one of them out", cache);
    }
    s->loader.keep_files_open = flag;
}

static void parse_window(const json_t *o, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char at[] = "/loader/sharded_epochs", cases_at[] = "/loader/sharded_epochs/cases";
    const json_t *w = vx_json_get_object(o, "/loader", "sharded_epochs", ps);
    const json_t *cases = json_object_get(w, "cases");
    int64_t epochs = 0;
    if (!w) {
        return;
    }
    vx_json_only_keys(w, at, (const char *const[]){"cases", "epochs", NULL}, ps);
    double n = json_number_value(cases);
    bool number = json_is_integer(cases) && n >= 1 && n <= MOST_CASES;
    if (!cases) {
        vx_json_problem(ps, cases_at, "missing", "is required: a number, or a share below 1");
    } else if (!json_is_number(cases)) {
        vx_json_problem(ps, cases_at, "wrong_type", "must be a number, or a share below 1");
    } else if (!number && !(json_is_real(cases) && n > 0 && n < 1)) {
        vx_json_problem(ps, cases_at, "out_of_range",
                        "must be a whole number of cases, or a share between 0 and 1");
    }
    if (!json_object_get(w, "epochs")) {
        vx_json_problem(ps, "/loader/sharded_epochs/epochs", "missing", "is required");
    }
    vx_json_get_int(w, at, "epochs", 1, 100000, &epochs, ps);
    s->loader.window_cases = n;
    s->loader.window_epochs = (int)epochs;
}

void vx_spec_parse_loader(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps) {
    static const char *const modes[] = {"auto", "advise", "off", NULL};
    const json_t *o = vx_json_get_object(json, "", "loader", ps);
    if (!o) {
        return;
    }
    vx_json_only_keys(o, "/loader",
                      (const char *const[]){"workers", "keep_files_open", "cache", "prefetch",
                                            "sharded_epochs", "tune", NULL},
                      ps);
    s->loader.workers = auto_or_number(o, "/loader", "workers", 1, 64, s->loader.workers, ps);
    s->loader.prefetch = auto_or_number(o, "/loader", "prefetch", 2, 1024, s->loader.prefetch, ps);
    parse_cache(o, s, ps);
    parse_open(o, s, ps);
    parse_window(o, s, ps);
    int mode = vx_spec_one_of(o, "/loader", "tune", modes, ps);
    if (mode >= 0) {
        snprintf(s->loader.tune, sizeof s->loader.tune, "%s", modes[mode]);
    }
}

static json_t *auto_or_int(int value) {
    return value == VX_SPEC_AUTO ? json_string("auto") : json_integer(value);
}

json_t *vx_spec_loader_to_json(const struct vx_job_spec *s) {
    json_t *open = s->loader.keep_files_open == VX_SPEC_AUTO
                       ? json_string("auto")
                       : json_boolean(s->loader.keep_files_open);
    json_t *cache = s->loader.stage[0] ? json_pack("{s:s}", "stage", s->loader.stage)
                                       : json_string(s->loader.cache);
    json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:s}", "workers", auto_or_int(s->loader.workers),
                             "keep_files_open", open, "prefetch", auto_or_int(s->loader.prefetch),
                             "cache", cache, "tune", s->loader.tune);
    double n = s->loader.window_cases;
    if (json && n > 0) { /* absent where it is not asked for, as in the specs of earlier versions */
        json_object_set_new(json, "sharded_epochs",
                            json_pack("{s:o, s:i}", "cases",
                                      n < 1 ? json_real(n) : json_integer((json_int_t)n), "epochs",
                                      s->loader.window_epochs));
    }
    return json;
}
