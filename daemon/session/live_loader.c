/* See live_loader.h. */
#include "daemon/session/live_loader.h"

#include "base/err.h"
#include "cache/policy.h"
#include "daemon/worker_thread.h"

/* The value that a key asks for: -1 where it is absent. */
static int asked(const json_t *wish, const char *key, int planned) {
    const json_t *v = json_object_get(wish, key);
    if (!v) {
        return -1;
    }
    return json_is_integer(v)   ? (int)json_integer_value(v)
           : json_is_boolean(v) ? json_is_true(v)
                                : planned;
}

/* The same of "cache", which is a word. */
static int asked_mode(const json_t *wish) {
    const char *word = json_string_value(json_object_get(wish, "cache"));
    return word ? vx_reading_of_word(word) : -1;
}

static int at_most(const char *key, int value, int most, const char *why, struct vx_err *err) {
    if (value <= most) {
        return VX_OK;
    }
    vx_fail(err, VX_E_LIMIT, "beyond_budget", "%s can be at most %d here: %s", key, most, why);
    vx_err_at(err, "/%s", key);
    return VX_E_LIMIT;
}

static int turned(int value, int now) {
    return value < 0 ? now : value;
}

/* 0 stands for all slots. */
static int samples_ahead(const struct vx_loader_state *s, int window) {
    return window == 0 || window > s->window_max ? s->window_max : window;
}

static json_t *knobs_json(const struct vx_loader_state *s, const struct vx_session_knobs *k) {
    return json_pack("{s:i, s:i, s:b, s:s}", "workers", k->workers, "prefetch",
                     samples_ahead(s, k->window), "keep_files_open", k->keep_files_open, "cache",
                     vx_reading_word((enum vx_reading)k->cache_mode));
}

int vx_live_loader(struct vx_worker_thread *w, const json_t *wish, bool *ret_changed, json_t **ret,
                   struct vx_err *err) {
    struct vx_loader_state s;
    if (!w || !vx_worker_thread_loader(w, &s)) {
        return vx_fail(err, VX_E_STATE, "job_not_running",
                       "the job's loader has not started yet, or has ended");
    }
    const struct vx_session_knobs k = {
        .workers = asked(wish, "workers", s.planned.workers),
        .window = asked(wish, "prefetch", samples_ahead(&s, s.planned.window)),
        .keep_files_open = asked(wish, "keep_files_open", s.planned.keep_files_open),
        .cache_mode = asked_mode(wish)};
    int rc = at_most("workers", k.workers, s.workers_max,
                     "so many workers the cores and the memory of this job allow", err);
    if (rc == VX_OK) {
        rc = at_most("prefetch", k.window, s.window_max, "so many samples the job's ring holds",
                     err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_session_knobs now = s.now;
    now.workers = turned(k.workers, now.workers);
    now.window = turned(k.window, now.window);
    now.keep_files_open = turned(k.keep_files_open, now.keep_files_open);
    now.cache_mode = turned(k.cache_mode, now.cache_mode);
    bool changed = now.workers != s.now.workers ||
                   samples_ahead(&s, now.window) != samples_ahead(&s, s.now.window) ||
                   now.keep_files_open != s.now.keep_files_open ||
                   now.cache_mode != s.now.cache_mode;
    if (changed) {
        vx_worker_thread_turn(w, &k);
    }
    json_t *o = knobs_json(&s, &now);
    if (!o) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    json_object_set_new(o, "planned", knobs_json(&s, &s.planned));
    json_object_set_new(o, "cache_now", json_string(vx_reading_word((enum vx_reading)now.reading)));
    json_object_set_new(
        o, "limits", json_pack("{s:i, s:i}", "workers", s.workers_max, "prefetch", s.window_max));
    *ret_changed = changed;
    *ret = o;
    return VX_OK;
}
