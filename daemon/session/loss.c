/* A lost worker: what it was at, why it ended, and how that is said. Its record in the timeline is
 * read after its death; it holds what the worker wrote last. */
#include "daemon/session/internal.h"

#include "base/own.h"
#include "cache/cache.h"
#include "daemon/session/brief.h"
#include "daemon/session/death.h"
#include "loader/maker.h"
#include "loader/recipe.h"

#include <signal.h>
#include <string.h>

void loss_examine(struct session *s, uint32_t w, const struct vx_proc_end *end, pid_t pid,
                  struct loss *ret) {
    const struct pool_entry *e = &s->pool[w];
    struct loss l = {.end = *end};
    bool oom = end->signal == SIGKILL && vx_oom_killed(&s->oom, "");
    l.reason = vx_death_reason(end, e->error_status, oom);
    bool known = vx_timeline_worker(&s->timeline, w, &l.record) && l.record.pid == pid;
    if (!known) {
        l.record = (struct vx_worker_record){.case_index = UINT32_MAX};
    }
    uint32_t state = l.record.state;
    l.at_work =
        l.record.case_index < vx_recipe_view(s->recipe)->n_cases &&
        (state == VX_WORKER_READING || state == VX_WORKER_AUGMENTING || state == VX_WORKER_FAILED);
    /* a sample takes the same memory whatever the case; one that took far more is a case's doing */
    uint64_t most = 2 * ((uint64_t)vx_maker_bytes(s->recipe) + s->ring.shm.size);
    l.by_work = l.at_work &&
                (vx_death_by_work(l.reason, e->error_status) || (oom && end->max_rss_bytes > most));
    *ret = l;
}

/* The file that it was reading: what it said itself, else by its record. Caller frees; NULL:
 * none. */
static char *file_of(struct session *s, uint32_t w, const struct loss *l) {
    static const enum vx_cache_part parts[VX_WORKER_READINGS] = {
        [VX_READING_CASE] = VX_CACHE_PART_CASE,
        [VX_READING_IMAGE] = VX_CACHE_PART_IMAGE,
        [VX_READING_LABEL] = VX_CACHE_PART_SEG,
    };
    const struct pool_entry *e = &s->pool[w];
    vx_auto_cache struct vx_cache *cache = NULL;
    if (e->error_where[0]) {
        return strdup(e->error_where);
    }
    uint32_t reading = l->record.reading;
    if (!l->at_work || reading == VX_READING_NOTHING || reading >= VX_WORKER_READINGS ||
        vx_cache_open(s->o->brief->cache_dir, &cache, NULL) != VX_OK) {
        return NULL;
    }
    const char *name = vx_recipe_view(s->recipe)->cases[l->record.case_index];
    return vx_cache_part_path(cache, name, parts[reading]);
}

static void add_work(struct session *s, const struct loss *l, json_t *o) {
    struct vx_sample_ref at = vx_sample_at(&s->ring.desc.schedule, l->record.q);
    const char *name = vx_recipe_view(s->recipe)->cases[l->record.case_index];
    json_object_set_new(o, "case", json_string(name));
    json_object_set_new(o, "case_index", json_integer(l->record.case_index));
    json_object_set_new(o, "sample",
                        json_pack("{s:I, s:s, s:I, s:i}", "q", (json_int_t)l->record.q, "stream",
                                  at.stream == VX_STREAM_TRAIN ? "train" : "val", "k",
                                  (json_int_t)at.k, "j", (int)at.j));
}

json_t *loss_json(struct session *s, uint32_t w, const struct loss *l) {
    struct pool_entry *e = &s->pool[w];
    vx_auto_free char *file = file_of(s, w, l);
    const char *name = l->end.signal ? strsignal(l->end.signal) : "";
    json_t *o = json_pack(
        "{s:s, s:i, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b}", "role",
        "augment", "worker", (int)w, "reason", l->reason, "exit_status", l->end.exit_status,
        "signal", l->end.signal, "signal_name", name ? name : "", "code", e->error_code, "message",
        e->error_text[0] ? e->error_text : vx_proc_last_words(&e->proc), "file", file ? file : "",
        "state", vx_worker_state_name(l->record.state), "reading",
        vx_worker_reading_name(l->record.reading), "rss_bytes", (json_int_t)l->record.rss_anon,
        "max_rss_bytes", (json_int_t)l->end.max_rss_bytes, "deaths_on_case",
        (json_int_t)l->deaths_on_case, "will_retry", true);
    if (o && l->at_work) {
        add_work(s, l, o);
    }
    return o;
}
