/* voxeld keeper --brief FILE [--careful]: brings a session's prepared store nearer (internal). It
 * follows the knob cache_mode of the control region, decides by size, storage and memory what comes
 * of it, says so in a line {"event":"cache"}, fills the page cache, a stage folder or shared
 * memory, and then waits for another wish. Nothing depends on it: workers read from files what is
 * not nearer. */
#include "base/err.h"
#include "base/own.h"
#include "daemon/keeper/keeper.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/proc.h"
#include "daemon/verbs.h"
#include "loader/recipe.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/ioprio.h: who, class idle. */
#define IOPRIO_PROCESS 1
#define IOPRIO_IDLE    (3 << 13)
#define IDLE_NS        60000000000ull

static int map_memory(struct keeper *k, struct vx_err *err) {
    k->control.shm = k->timeline.shm = k->ring.shm = (struct vx_shm)VX_SHM_INIT;
    int rc = vx_control_map(VX_FD_CONTROL, &k->control, err);
    if (rc == VX_OK) {
        rc = vx_timeline_map(VX_FD_TIMELINE, true, &k->timeline, err);
    }
    return rc == VX_OK ? vx_ring_map(VX_FD_RING, &k->ring, err) : rc;
}

/* Where the recipe's cases are in the store; both are sorted by name, the recipe as it may be. */
static int find_places(struct keeper *k, struct vx_err *err) {
    int rc = vx_recipe_from_json(k->brief->recipe, &k->recipe, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_recipe_view *r = vx_recipe_view(k->recipe);
    k->place = calloc(r->n_cases, sizeof *k->place);
    if (!k->place) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < r->n_cases; i++) {
        k->place[i] = UINT32_MAX;
        for (size_t c = 0, lo = 0, hi = k->n_cases; lo < hi;) {
            c = (lo + hi) / 2;
            int order = strcmp(r->cases[i], vx_cache_case_name(k->cache, c));
            if (order == 0) {
                k->place[i] = (uint32_t)c;
                break;
            }
            *(order < 0 ? &hi : &lo) = order < 0 ? c : c + 1;
        }
    }
    return VX_OK;
}

/* Sizes of all cases; one that cannot be read counts nothing, and is skipped later. */
static int measure(struct keeper *k, struct vx_err *err) {
    k->n_cases = vx_cache_n_cases(k->cache);
    k->file_bytes = calloc(k->n_cases + 1, sizeof *k->file_bytes);
    k->dense_bytes = calloc(k->n_cases + 1, sizeof *k->dense_bytes);
    k->failures = calloc(k->n_cases + 1, sizeof *k->failures);
    if (!k->file_bytes || !k->dense_bytes || !k->failures) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < k->n_cases; i++) {
        vx_auto_cache_case struct vx_cache_case *c = NULL;
        if (vx_cache_case_open(k->cache, vx_cache_case_name(k->cache, i), &c, NULL) == VX_OK) {
            vx_cache_case_bytes(c, &k->file_bytes[i], &k->dense_bytes[i]);
        }
        k->store_bytes += k->file_bytes[i];
        k->decoded_bytes += k->dense_bytes[i];
    }
    return VX_OK;
}

static int serve(struct keeper *k, struct vx_err *err) {
    int rc = VX_OK;
    while (rc == VX_OK && vx_control_gate(&k->control) != VX_GATE_STOPPED) {
        struct vx_knobs knobs;
        if (!vx_control_knobs(&k->control, &knobs)) {
            keeper_nap(k, IDLE_NS / 60000); /* the supervisor is at it */
            continue;
        }
        if (!k->served || knobs.cache_mode != (uint32_t)k->asked) {
            rc = keeper_decide(k, (enum vx_reading)knobs.cache_mode, err);
        } else if (!k->finished) {
            rc = keeper_work(k, err);
        } else {
            keeper_nap(k, IDLE_NS);
        }
    }
    return rc;
}

static int run(struct keeper *k, struct vx_err *err) {
    int rc = map_memory(k, err);
    if (rc == VX_OK) {
        rc = vx_cache_open(k->brief->cache_dir, &k->cache, err);
    }
    if (rc == VX_OK) {
        rc = vx_storage_probe(k->brief->cache_dir, &k->storage, err);
    }
    if (rc == VX_OK) {
        rc = measure(k, err);
    }
    if (rc == VX_OK) {
        rc = find_places(k, err);
    }
    if (rc == VX_OK) {
        rc = serve(k, err);
    }
    vx_recipe_free(k->recipe);
    free(k->place);
    vx_held_close(k->held);
    vx_stage_close(k->stage);
    vx_cache_free(k->cache);
    vx_ring_close(&k->ring);
    vx_timeline_close(&k->timeline);
    vx_control_close(&k->control);
    free(k->file_bytes);
    free(k->dense_bytes);
    free(k->failures);
    return rc;
}

int vx_role_keeper(int argc, char **argv) {
    static const struct option options[] = {{"brief", required_argument, NULL, 'b'},
                                            {"careful", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    struct keeper k = {0};
    struct vx_brief *b = NULL;
    struct vx_err err = {0};
    const char *path = NULL;
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'b') {
            path = optarg;
        } else if (opt == 'c') {
            k.careful = true;
        }
    }
    if (!path) {
        fputs("voxeld keeper is started by a session: --brief FILE\n", stderr);
        return 2;
    }
    syscall(SYS_ioprio_set, IOPRIO_PROCESS, 0, IOPRIO_IDLE); /* a wish: some schedulers have none */
    int rc = vx_brief_read(path, &b, &err);
    if (rc == VX_OK) {
        k.brief = b;
        rc = run(&k, &err);
    }
    vx_brief_free(b);
    return rc == VX_OK ? 0 : vx_say_error("keeper", &err);
}
