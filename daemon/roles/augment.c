/* voxeld augment --brief FILE --worker N: one worker of a session's pool (internal). */
#include "base/err.h"
#include "base/own.h"
#include "cache/stage.h"
#include "daemon/bench/settings.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/proc.h"
#include "daemon/verbs.h"
#include "loader/pretend.h"
#include "loader/recipe.h"
#include "loader/worker.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

struct memory {
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
};

static int map_memory(struct memory *m, struct vx_err *err) {
    m->control.shm = m->timeline.shm = m->ring.shm = (struct vx_shm)VX_SHM_INIT;
    int rc = vx_control_map(VX_FD_CONTROL, &m->control, err);
    if (rc == VX_OK) {
        rc = vx_timeline_map(VX_FD_TIMELINE, true, &m->timeline, err);
    }
    return rc == VX_OK ? vx_ring_map(VX_FD_RING, &m->ring, err) : rc;
}

/* ctx: struct vx_recipe */
static void damaged(void *ctx, uint32_t case_index, const struct vx_err *err) {
    const struct vx_recipe_view *r = vx_recipe_view(ctx);
    vx_say(json_pack("{s:s, s:I, s:s, s:s, s:s, s:s}", "event", "damaged", "case_index",
                     (json_int_t)case_index, "case", r->cases[case_index], "code",
                     err->reason[0] ? err->reason : vx_status_word(err->code), "message", err->text,
                     "where", err->where));
}

/* What a benchmark wants of the samples; NULL: the real ones. */
static int read_pretence(const struct vx_brief *b, struct vx_pretence *buf,
                         const struct vx_pretence **ret, struct vx_err *err) {
    struct vx_bench_settings s;
    int rc = b->bench ? vx_bench_settings_read(b->bench, &s, err) : VX_OK;
    if (rc != VX_OK || !b->bench) {
        return rc;
    }
    *buf = (struct vx_pretence){.synthetic = s.synthetic,
                                .cold = s.cold,
                                .augment_ns = (uint64_t)(s.sample_ms * 1e6),
                                .cpu_ns = (uint64_t)(s.sample_cpu_ms * 1e6),
                                .leak_bytes = (size_t)(s.leak_kib * 1024)};
    *ret = buf;
    return VX_OK;
}

/* A supervisor of tests may have none. */
static bool has_held(void) {
    return fcntl(VX_FD_HELD, F_GETFD) >= 0;
}

/* Where copies of the store may lie; NULL: nowhere. */
static char *stage_of(const struct vx_brief *b) {
    const char *key = strrchr(b->cache_dir, '/');
    return b->stage_dir && key ? vx_stage_path(b->stage_dir, b->dataset, key + 1) : NULL;
}

static int work(const struct vx_brief *b, uint16_t id, struct vx_err *err) {
    struct memory m;
    struct vx_recipe *recipe = NULL;
    struct vx_pretence buf;
    const struct vx_pretence *pretence = NULL;
    uint32_t case_index = 0;
    vx_auto_free char *stage_dir = stage_of(b);
    int rc = map_memory(&m, err);
    if (rc == VX_OK) {
        rc = read_pretence(b, &buf, &pretence, err);
    }
    if (rc == VX_OK) {
        rc = vx_recipe_from_json(b->recipe, &recipe, err);
    }
    if (rc == VX_OK) {
        struct vx_worker_config config = {.id = id,
                                          .control = &m.control,
                                          .timeline = &m.timeline,
                                          .ring = &m.ring,
                                          .recipe = recipe,
                                          .cache_dir = b->cache_dir,
                                          .stage_dir = stage_dir,
                                          .held_fd = has_held() ? VX_FD_HELD : 0,
                                          .damaged = damaged,
                                          .ctx = recipe,
                                          .pretence = pretence};
        rc = vx_worker_run(&config, &case_index, err);
    }
    vx_recipe_free(recipe);
    vx_ring_close(&m.ring);
    vx_timeline_close(&m.timeline);
    vx_control_close(&m.control);
    return rc;
}

int vx_role_augment(int argc, char **argv) {
    static const struct option options[] = {{"brief", required_argument, NULL, 'b'},
                                            {"worker", required_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    int worker = -1, opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'b') {
            path = optarg;
        } else if (opt == 'w') {
            worker = atoi(optarg);
        }
    }
    if (!path || worker < 0 || worker >= VX_WORKERS_MAX) {
        fputs("voxeld augment is started by a session: --brief FILE --worker N\n", stderr);
        return 2;
    }
    struct vx_err err = {0};
    struct vx_brief *b = NULL;
    int rc = vx_brief_read(path, &b, &err);
    if (rc == VX_OK) {
        rc = work(b, (uint16_t)worker, &err);
    }
    vx_brief_free(b);
    return rc == VX_OK ? 0 : vx_say_error("augment", &err);
}
