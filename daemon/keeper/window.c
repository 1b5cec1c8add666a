/* Sharded epochs: the windows of the present stretch and of the next are held in memory, so that
 * neither the disk nor the page cache is in the way of a batch. */
#include "daemon/keeper/keeper.h"

#include "base/err.h"
#include "base/log.h"
#include "daemon/roles/say.h"
#include "loader/recipe.h"
#include "loader/window.h"
#include "session/schedule.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_NS      500000000ull
#define MAX_FAILURES 3

bool keeper_has_windows(const struct keeper *k) {
    return vx_recipe_view(k->recipe)->window_cases > 0;
}

static int larger_first(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

uint64_t keeper_window_bytes(const struct keeper *k) {
    uint64_t *sorted = calloc(k->n_cases + 1, sizeof *sorted), sum = 0;
    if (!sorted) {
        return k->decoded_bytes;
    }
    memcpy(sorted, k->dense_bytes, k->n_cases * sizeof *sorted);
    qsort(sorted, k->n_cases, sizeof *sorted, larger_first);
    size_t n = 2 * (size_t)vx_recipe_view(k->recipe)->window_cases;
    for (size_t i = 0; i < n && i < k->n_cases; i++) {
        sum += sorted[i];
    }
    free(sorted);
    return sum;
}

/* The stretch of the sample that the trainer takes next, and the last one that it will ever take.
 */
static uint64_t stretch_now(const struct keeper *k, uint64_t *ret_last) {
    const struct vx_recipe_view *r = vx_recipe_view(k->recipe);
    const struct vx_sample_schedule *s = &k->ring.desc.schedule;
    struct vx_sample_ref ref = vx_sample_at(s, vx_ring_next(&k->ring));
    uint64_t all = (uint64_t)s->epochs * s->train_iterations;
    /* validation follows an epoch's batches: what trains next is the epoch after */
    uint64_t batch =
        ref.stream == VX_STREAM_TRAIN ? ref.k : ((uint64_t)ref.epoch + 1) * s->train_iterations;
    *ret_last = vx_window_stretch(r, all > 0 ? all - 1 : 0);
    return vx_window_stretch(r, batch < all ? batch : all > 0 ? all - 1 : 0);
}

/* Marks the cases of the window in wanted. */
static void want(const struct keeper *k, uint64_t stretch, bool *wanted) {
    const struct vx_recipe_view *r = vx_recipe_view(k->recipe);
    for (uint32_t i = 0; i < vx_window_size(r, stretch); i++) {
        uint32_t place = k->place[vx_window_case(r, stretch, i)];
        if (place != UINT32_MAX) {
            wanted[place] = true;
        }
    }
}

/* Counts anew what is there of what is wanted, and lets go of the rest. */
static void tidy(struct keeper *k, const bool *wanted) {
    k->record.cases_done = k->record.cases_total = 0;
    k->record.bytes_done = k->record.bytes_total = 0;
    for (size_t i = 0; i < k->n_cases; i++) {
        bool held = vx_held_has(k->held, i);
        if (held && !wanted[i]) {
            vx_held_drop(k->held, i);
        }
        k->record.cases_total += wanted[i];
        k->record.bytes_total += wanted[i] ? k->dense_bytes[i] : 0;
        k->record.cases_done += wanted[i] && held;
        k->record.bytes_done += wanted[i] && held ? k->dense_bytes[i] : 0;
    }
}

/* Loads what is missing of a window; VX_E_CANCELLED where the trainer has gone on to another. A
 * damaged case is tried again at the next look, because it may be made again meanwhile. */
static int load(struct keeper *k, uint64_t stretch, uint64_t now, bool *loaded,
                struct vx_err *err) {
    const struct vx_recipe_view *r = vx_recipe_view(k->recipe);
    uint64_t last;
    for (uint32_t i = 0; i < vx_window_size(r, stretch); i++) {
        uint32_t place = k->place[vx_window_case(r, stretch, i)];
        if (place == UINT32_MAX || vx_held_has(k->held, place) ||
            k->failures[place] >= MAX_FAILURES) {
            continue;
        }
        if (keeper_interrupted(k) || stretch_now(k, &last) != now) {
            return VX_E_CANCELLED;
        }
        int rc = keeper_load(k, place, err);
        if (rc != VX_OK) {
            return rc;
        }
        *loaded |= vx_held_has(k->held, place);
    }
    return VX_OK;
}

int keeper_hold_windows(struct keeper *k, struct vx_err *err) {
    uint64_t last, now = stretch_now(k, &last);
    struct vx_err why = {0};
    bool *wanted = calloc(k->n_cases + 1, sizeof *wanted);
    if (!wanted) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    want(k, now, wanted);
    if (now < last) {
        want(k, now + 1, wanted);
    }
    tidy(k, wanted);
    free(wanted);
    bool loaded = false;
    uint32_t before = k->record.state;
    if (k->record.cases_done < k->record.cases_total && before == VX_NEARING_DONE) {
        k->record.state = VX_NEARING_WORKING;
    }
    int rc = load(k, now, now, &loaded, &why);
    if (rc == VX_OK && now < last) {
        rc = load(k, now + 1, now, &loaded, &why);
    }
    if (rc == VX_E_CANCELLED) {
        return VX_OK;
    }
    k->record.state = rc == VX_OK ? VX_NEARING_DONE : VX_NEARING_STOPPED;
    if (rc != VX_OK && before != k->record.state) {
        vx_log_warn("keeper", "window_short stretch=%llu text=\"%s\"", (unsigned long long)now,
                    why.text);
    }
    keeper_show(k, loaded || before != k->record.state);
    keeper_nap(k, LOOK_NS);
    return VX_OK;
}
