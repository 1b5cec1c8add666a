#include "loader/worker.h"

#include "augment/policy.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/err.h"
#include "cache/cache.h"
#include "cache/held.h"
#include "cache/policy.h"
#include "loader/maker.h"
#include "loader/pretend.h"
#include "loader/recipe.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

_Static_assert((int)VX_CACHE_AUTO == VX_READ_AUTO && (int)VX_CACHE_OPEN == VX_READ_OPEN &&
                   (int)VX_CACHE_KEEP == VX_READ_KEEP && (int)VX_CACHE_WARM == VX_READ_WARM &&
                   (int)VX_CACHE_STAGE == VX_READ_STAGE && (int)VX_CACHE_MEMORY == VX_READ_MEMORY,
               "a knob says what the cache understands");

/* Sleepers show a sign of life this often. */
#define HEARTBEAT_NS 1000000000ull

struct worker {
    const struct vx_worker_config *config;
    struct vx_cache *cache; /* owned */
    struct vx_maker *maker; /* owned */
    struct vx_held *held;   /* owned; NULL while not read from */
    struct vx_worker_record record;
    struct vx_knobs knobs;
    struct vx_recipe *recipe; /* owned; NULL while config's own is what holds */
    uint32_t exclusions;      /* version of the list that recipe was made with */
    uint32_t seen;            /* control's count of changes */
    uint64_t usage_ns;        /* when memory and CPU time were last looked up */
};

static void show(struct worker *w, enum vx_worker_state state) {
    w->record.state = state;
    vx_timeline_set_worker(w->config->timeline, w->config->id, &w->record);
}

/* RssAnon from /proc/self/status, in bytes; 0 where it cannot be read. */
static uint64_t rss_anon(void) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}

/* Counters of the record; memory, which costs a file to read, only once a second. */
static void account(struct worker *w) {
    struct vx_maker_times t;
    struct rusage u;
    vx_maker_times(w->maker, &t);
    w->record.read_ns = t.read_ns;
    w->record.open_ns = t.open_ns;
    w->record.decompress_ns = t.decompress_ns;
    w->record.bytes_read = t.bytes_read;
    w->record.opens = t.opens;
    w->record.bytes_decoded = t.bytes_decoded;
    w->record.bytes_held = t.bytes_held;
    w->record.stage_faults = t.stage_faults;
    _Static_assert(sizeof w->record.augment_ns == sizeof t.augment_ns, "same transforms");
    memcpy(w->record.augment_ns, t.augment_ns, sizeof t.augment_ns);
    getrusage(RUSAGE_SELF, &u);
    w->record.minor_faults = (uint64_t)u.ru_minflt;
    w->record.major_faults = (uint64_t)u.ru_majflt;
    w->record.cpu_ns = (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
                       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
    uint64_t now = vx_now_ns();
    if (now - w->usage_ns > HEARTBEAT_NS) {
        w->usage_ns = now;
        w->record.rss_anon = rss_anon();
    }
}

/* Where to look first. What is not there, or not yet, is read from the store's files, so nothing
 * here is an error. */
static void follow_reading(struct worker *w, const struct vx_knobs *k) {
    const struct vx_worker_config *c = w->config;
    bool stage = k->reading == VX_CACHE_STAGE && c->stage_dir;
    vx_cache_read_staged(w->cache, stage ? c->stage_dir : NULL, NULL);
    if (k->reading != VX_CACHE_MEMORY) {
        vx_cache_read_held(w->cache, NULL);
        w->held = vx_held_close(w->held);
    } else if (!w->held && c->held_fd > 0 &&
               vx_held_map(c->held_fd, w->cache, &w->held, NULL) == VX_OK) {
        vx_cache_read_held(w->cache, w->held);
    }
    int most = c->max_open_files ? c->max_open_files : (int)vx_budget_files();
    vx_cache_keep_open(w->cache, vx_knobs_keep_open(k) ? most : 0);
}

static void follow_knobs(struct worker *w, bool first) {
    struct vx_knobs k;
    if (!vx_control_knobs(w->config->control, &k)) {
        return; /* the supervisor is writing or dead; the old ones stay good */
    }
    follow_reading(w, &k);
    if (first ? k.nice != 0 : k.nice != w->knobs.nice) {
        /* without the right to lower it again this fails, and the old value stays */
        setpriority(PRIO_PROCESS, 0, k.nice);
    }
    w->knobs = k;
}

/* Takes up the list of cases that are out, where there is another one. */
static int follow_exclusions(struct worker *w, struct vx_err *err) {
    struct vx_exclusions x;
    struct vx_quarantine q[VX_EXCLUSIONS_MAX];
    struct vx_recipe *recipe = NULL;
    if (!vx_control_exclusions(w->config->control, &x)) {
        return VX_E_BUSY;
    }
    if (x.version == w->exclusions) {
        return VX_OK;
    }
    for (uint32_t i = 0; i < x.n; i++) {
        q[i] = (struct vx_quarantine){.case_index = x.list[i].case_index};
        memcpy(q[i].from_j, x.list[i].from_j, sizeof q[i].from_j);
        memcpy(q[i].from_k, x.list[i].from_k, sizeof q[i].from_k);
    }
    int rc = vx_recipe_with(w->config->recipe, q, x.n, &recipe, err);
    if (rc == VX_OK) {
        vx_maker_follow(w->maker, recipe);
        vx_recipe_free(w->recipe);
        w->recipe = recipe;
        w->exclusions = x.version;
    }
    return rc;
}

/* Follows the supervisor where it changed something. VX_E_BUSY: it is at it, look again. */
static int follow(struct worker *w, bool first, struct vx_err *err) {
    uint32_t changed = vx_control_changed(w->config->control);
    if (!first && changed == w->seen) {
        return VX_OK;
    }
    int rc = follow_exclusions(w, err);
    if (rc == VX_OK) {
        follow_knobs(w, first);
        w->seen = changed;
    }
    return rc;
}

static void on_stage(void *ctx, enum vx_making stage, uint32_t case_index) {
    static const enum vx_worker_reading reading[] = {
        [VX_MAKING_CASE] = VX_READING_CASE,
        [VX_MAKING_IMAGE] = VX_READING_IMAGE,
        [VX_MAKING_LABEL] = VX_READING_LABEL,
        [VX_MAKING_AUGMENT] = VX_READING_NOTHING,
    };
    struct worker *w = ctx;
    w->record.case_index = case_index;
    w->record.reading = reading[stage];
    show(w, stage == VX_MAKING_AUGMENT ? VX_WORKER_AUGMENTING : VX_WORKER_READING);
}

static bool told_to_leave(const struct worker *w) {
    return vx_control_gate(w->config->control) == VX_GATE_STOPPED ||
           vx_control_worker(w->config->control, w->config->id, NULL) == VX_WANT_LEAVE;
}

/* What making a case again could mend. */
static bool is_damage(int rc) {
    return rc == VX_E_CORRUPT || rc == VX_E_NOT_FOUND || rc == VX_E_IO;
}

/* Reports the case and sleeps until the supervisor has looked after it; VX_E_CANCELLED where the
 * worker is to leave. The sample stays claimed: it is this worker's to make. */
static int wait_for_repair(struct worker *w, uint32_t case_index, const struct vx_err *err) {
    const struct vx_worker_config *c = w->config;
    uint64_t start = vx_now_ns();
    uint32_t before = vx_control_answers(c->control, c->id);
    int rc = VX_OK;
    c->damaged(c->ctx, case_index, err);
    for (;;) {
        uint32_t seen = vx_control_changed(c->control);
        if (told_to_leave(w)) {
            rc = VX_E_CANCELLED;
            break;
        }
        if (vx_control_answers(c->control, c->id) != before) {
            break;
        }
        show(w, VX_WORKER_WAITING);
        vx_control_wait(c->control, seen, HEARTBEAT_NS);
    }
    w->record.wait_ns += vx_now_ns() - start;
    return rc;
}

static int make(struct worker *w, uint64_t q, const struct vx_sample_ref *ref,
                struct vx_made *ret_made, uint32_t *ret_case, struct vx_err *err) {
    struct vx_ring *ring = w->config->ring;
    w->record.q = q;
    if (w->config->pretence && w->config->pretence->synthetic) {
        *ret_made = (struct vx_made){.place.forced_class = -1};
        *ret_case = 0;
        return VX_OK;
    }
    return vx_maker_make(w->maker, ref->stream, ref->k, ref->j, vx_ring_image(ring, q),
                         vx_ring_label(ring, q), ret_case, ret_made, on_stage, w, err);
}

/* Fills the claimed slot of q and hands it over. */
static int fill(struct worker *w, uint64_t q, uint32_t *ret_case, struct vx_err *err) {
    struct vx_ring *ring = w->config->ring;
    struct vx_sample_ref ref = vx_sample_at(&ring->desc.schedule, q);
    struct vx_maker_times before, after;
    struct vx_made made;
    vx_maker_times(w->maker, &before);
    int rc = make(w, q, &ref, &made, ret_case, err);
    if (is_damage(rc) && w->config->damaged && *ret_case != UINT32_MAX) {
        vx_maker_forget(w->maker, *ret_case);
        if (wait_for_repair(w, *ret_case, err) == VX_E_CANCELLED) {
            return VX_E_CANCELLED;
        }
        rc = make(w, q, &ref, &made, ret_case, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_maker_times(w->maker, &after);
    struct vx_slot head = {.q = q,
                           .k = ref.k,
                           .stream = ref.stream,
                           .j = ref.j,
                           .epoch = ref.epoch,
                           .case_index = made.case_index,
                           .forced_class = made.place.forced_class,
                           .worker = w->config->id,
                           .read_ns = after.read_ns + after.decompress_ns - before.read_ns -
                                      before.decompress_ns};
    memcpy(head.lo, made.place.lo, sizeof head.lo);
    head.flags = (made.forced ? VX_SLOT_FORCED : 0u) | (made.spatial ? VX_SLOT_SPATIAL : 0u);
    for (int t = 0; t < VX_T_COUNT; t++) {
        head.augment_ns += after.augment_ns[t] - before.augment_ns[t];
    }
    *vx_ring_slot(ring, q) = head;
    vx_ring_publish(ring, w->config->id, q);
    w->record.samples++;
    return VX_OK;
}

static int work(struct worker *w, uint32_t *ret_case, struct vx_err *err) {
    struct vx_ring *ring = w->config->ring;
    while (!told_to_leave(w)) {
        uint64_t q;
        uint32_t mark = vx_ring_work_mark(ring);
        int rc = vx_ring_claim(ring, w->config->id, w->knobs.window, &q);
        if (rc == VX_E_CANCELLED) {
            break;
        }
        if (rc == VX_OK) {
            /* after the claim: the list of cases is changed only while nothing is claimed */
            rc = follow(w, false, err);
            rc = rc == VX_OK ? fill(w, q, ret_case, err) : rc;
            if (rc != VX_OK) {
                vx_ring_unclaim(ring, w->config->id, q);
            }
            if (rc != VX_OK && rc != VX_E_BUSY) {
                return rc == VX_E_CANCELLED ? VX_OK : rc;
            }
            if (w->config->pretence) {
                vx_pretend_leak(w->config->pretence);
            }
            account(w);
            continue;
        }
        rc = follow(w, false, err);
        if (rc != VX_OK && rc != VX_E_BUSY) {
            return rc;
        }
        /* a kick between this look and the sleep moves the mark, so a request to leave is never
         * slept over */
        if (told_to_leave(w)) {
            break;
        }
        uint64_t start = vx_now_ns();
        account(w);
        show(w, VX_WORKER_WAITING);
        vx_ring_wait_work(ring, mark, HEARTBEAT_NS);
        w->record.wait_ns += vx_now_ns() - start;
    }
    return VX_OK;
}

static int check_ring(const struct vx_worker_config *c, struct vx_err *err) {
    const struct vx_recipe_view *r = vx_recipe_view(c->recipe);
    const struct vx_ring_desc *d = &c->ring->desc;
    bool fits = d->channels == r->policy->channels && d->schedule.batch == r->batch;
    for (int i = 0; i < 3; i++) {
        fits = fits && d->size[i] == (uint32_t)r->policy->patch[i];
    }
    if (!fits || c->id >= VX_WORKERS_MAX || (d->schedule.val_iterations && !r->n_val)) {
        return vx_fail(err, VX_E_INVALID, "ring_mismatch",
                       "the ring's shapes or schedule are not those of the recipe");
    }
    return VX_OK;
}

/* A store that is not the recipe's holds other voxels. Recipes of tests name none. */
static int check_store(const struct worker *w, struct vx_err *err) {
    const char *wanted = vx_recipe_view(w->config->recipe)->cache_key;
    if (strlen(wanted) == VX_SHA256_HEX - 1 && strcmp(wanted, vx_cache_key_hex(w->cache)) != 0) {
        vx_fail(err, VX_E_STATE, "cache_of_another_plan",
                "%s holds data that were prepared for another plan", w->config->cache_dir);
        return vx_err_at(err, "%s", w->config->cache_dir);
    }
    return VX_OK;
}

int vx_worker_run(const struct vx_worker_config *config, uint32_t *ret_case, struct vx_err *err) {
    struct worker w = {.config = config};
    uint32_t case_index = UINT32_MAX;
    int rc = check_ring(config, err);
    if (rc != VX_OK) {
        return rc;
    }
    w.record.pid = getpid();
    w.record.case_index = UINT32_MAX;
    show(&w, VX_WORKER_STARTING);
    rc = vx_cache_open(config->cache_dir, &w.cache, err);
    if (rc == VX_OK) {
        rc = check_store(&w, err);
    }
    if (rc == VX_OK) {
        rc = vx_maker_create(config->recipe, w.cache, &w.maker, err);
    }
    if (rc == VX_OK) {
        const struct vx_pretence *p = config->pretence;
        vx_maker_pretend(w.maker, p && p->augment_ns ? p : NULL);
        vx_cache_keep_cold(w.cache, p && p->cold);
        while ((rc = follow(&w, true, err)) == VX_E_BUSY) {
        }
    }
    if (rc == VX_OK) {
        rc = work(&w, &case_index, err);
        account(&w);
    }
    show(&w, rc == VX_OK ? VX_WORKER_LEFT : VX_WORKER_FAILED);
    vx_maker_free(w.maker);
    vx_recipe_free(w.recipe);
    vx_cache_free(w.cache);
    vx_held_close(w.held);
    /* a wake-up meant for work may have ended here: pass it on */
    vx_ring_kick(config->ring);
    if (ret_case) {
        *ret_case = case_index;
    }
    return rc;
}
