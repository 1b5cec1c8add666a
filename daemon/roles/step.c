/* voxeld step --brief FILE [--device NAME]: the training process of a session (internal). It holds
 * the device.
 *
 * Lines on stdout: "network", "loaded" {q, batches, epoch, resumed}, "phase", "epoch", "checkpoint"
 * and "best" {path, batches}, "case", "result", "stopped". SIGTERM: checkpoint and exit 0. Exit 1
 * with an error line where another try could not help. Two step processes of one job never run at
 * the same time: a lock in the job's folder is held throughout, so a new one waits until the old
 * one (of a daemon that was killed) has written its last checkpoint. */
#include "daemon/roles/step.h"

#include "augment/policy.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/bench/paced.h"
#include "daemon/devices/precision.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/live.h"
#include "daemon/session/proc.h"
#include "daemon/verbs.h"
#include "device/device.h"
#include "loader/recipe.h"
#include "net/net.h"
#include "plan/plans.h"
#include "train/engine.h"
#include "train/source.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#define LOCK_WAIT_NS 120000000000ull
#define GATE_WAIT_NS 100000000ull

atomic_bool vx_step_stop;

static void on_term(int signum) {
    (void)signum;
    atomic_store(&vx_step_stop, true);
}

static void catch_signals(void) {
    struct sigaction act = {.sa_handler = on_term};
    sigaction(SIGTERM, &act, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* *ret_fd is held until the process ends. */
static int take_lock(const char *dir, int *ret_fd, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/step.lock", dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open the job's lock");
    }
    uint64_t deadline = vx_now_ns() + LOCK_WAIT_NS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (atomic_load(&vx_step_stop)) {
            return vx_fail(err, VX_E_CANCELLED, NULL, "stopped");
        }
        if (vx_now_ns() > deadline) {
            return vx_fail(err, VX_E_BUSY, "job_locked",
                           "another training process of this job does not end (%s)", path);
        }
        struct timespec nap = {0, 20000000};
        nanosleep(&nap, NULL);
    }
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

static int map_memory(struct step *s, struct vx_err *err) {
    int rc = vx_control_map(VX_FD_CONTROL, &s->control, err);
    if (rc == VX_OK) {
        rc = vx_timeline_map(VX_FD_TIMELINE, true, &s->timeline, err);
    }
    return rc == VX_OK ? vx_ring_map(VX_FD_RING, &s->ring, err) : rc;
}

static int open_device(struct step *s, struct vx_err *err) {
    struct vx_device_options options = {.threads = vx_brief_threads(s->brief, s->device_name),
                                        .deterministic = true};
    int rc = s->brief->bench ? vx_step_bench_open(s, err) : VX_OK;
    const char *name = s->brief->bench ? VX_PACED_DEVICE : s->device_name;
    rc = rc == VX_OK ? vx_device_open(name, &options, &s->device, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_device_info info;
    vx_device_describe(s->device, &info);
    return vx_precision_choose(s->brief->precision, &info, &s->precision, err);
}

/* A pretended device computes nothing: the narrowest network of the plan's shape will do. */
static struct vx_plan_config narrow(const struct vx_plan_config *config) {
    struct vx_plan_config c = *config;
    for (int i = 0; i < c.n_stages; i++) {
        c.features[i] = 1;
    }
    return c;
}

/* Batches go from the ring to the device: it may want to lock those pages. */
static void lend_ring(struct step *s) {
    struct vx_err err = {0};
    if (vx_device_use_memory(s->device, s->ring.shm.base, s->ring.shm.size, &err) != VX_OK) {
        vx_log_warn("step", "ring_not_locked text=\"%s\"", err.text);
    }
}

static int build_net(struct step *s, struct vx_err *err) {
    const struct vx_brief *b = s->brief;
    s->plans = calloc(1, sizeof *s->plans);
    if (!s->plans) {
        return vx_fail(err, VX_E_NOMEM, NULL, "reading the plan");
    }
    int rc = vx_plans_from_json(b->plans, s->plans, err);
    s->config = rc == VX_OK ? vx_plans_config(s->plans, b->configuration) : NULL;
    if (rc == VX_OK && !s->config) {
        rc = vx_fail(err, VX_E_CORRUPT, "brief_invalid", "the plan has no configuration %s",
                     b->configuration);
    }
    struct vx_net_options options;
    vx_net_options_default(&options);
    options.momentum = (float)b->momentum;
    options.weight_decay = (float)b->weight_decay;
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_plan_config config = s->bench ? narrow(s->config) : *s->config;
    return vx_net_build(&config, (int)b->channels, (int)b->classes, (int)b->schedule.batch,
                        &options, &s->net, err);
}

/* What bit-exact resume depends on. */
static json_t *environment(const struct step *s) {
    struct vx_device_info info;
    vx_device_describe(s->device, &info);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "build", VX_VERSION "+" VX_COMMIT,
                     "library", info.library, "isa", info.isa, "device", info.name, "model",
                     info.model, "threads", info.threads, "precision",
                     vx_precision_word(s->precision));
}

/* What the parameters belong to: all that a prediction needs to know of them beside the plan. */
static json_t *network_words(const struct step *s, const struct vx_recipe *recipe) {
    const struct vx_aug_policy *policy = vx_recipe_view(recipe)->policy;
    json_t *axes = json_array();
    for (int a = 0; a < 3; a++) {
        if (policy->mirror_axes >> a & 1) {
            json_array_append_new(axes, json_integer(a));
        }
    }
    return json_pack("{s:s, s:s, s:i, s:i, s:o}", "class", "PlainConvUNet", "configuration",
                     s->brief->configuration, "channels", (int)s->brief->channels, "classes",
                     (int)s->brief->classes, "mirror_axes", axes);
}

static void say_network(const struct step *s) {
    struct vx_device_info info;
    vx_device_describe(s->device, &info);
    vx_say(json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:i, s:s}", "event", "network", "parameters",
                     (json_int_t)vx_oplist_param_count(s->net), "device", info.name, "model",
                     info.model, "isa", info.isa, "library", info.library, "threads", info.threads,
                     "precision", vx_precision_word(s->precision)));
}

/* --- news from the engine --- */

static void on_epoch(void *arg, const struct vx_train_epoch *e, bool is_best) {
    (void)arg;
    json_t *dice = json_array(), *phases = json_object();
    for (int c = 0; c < e->classes - 1; c++) {
        json_array_append_new(dice, vx_say_real(e->dice[c]));
    }
    for (uint32_t p = 0; p < VX_PHASE_COUNT; p++) {
        json_object_set_new(phases, vx_phase_name(p), json_real((double)e->phase_ns[p] * 1e-9));
    }
    vx_say(json_pack(
        "{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "event",
        "epoch", "epoch", (int)e->epoch, "train_loss", vx_say_real(e->train_loss), "val_loss",
        vx_say_real(e->val_loss), "dice", dice, "mean_dice", vx_say_real(e->mean_fg_dice),
        "ema_dice", vx_say_real(e->ema_fg_dice), "best_ema", vx_say_real(e->best_ema), "is_best",
        is_best, "lr", vx_say_real(e->learning_rate), "seconds", vx_say_real(e->seconds),
        "loader_wait_ratio", vx_say_real(e->loader_wait_ratio), "phases", phases, "start_time",
        json_real(e->start_time), "end_time", json_real(e->end_time)));
}

/* A "checkpoint" is one that a resume goes on from; the best one is for people. */
static void on_checkpoint(void *arg, const char *path, uint64_t batches) {
    (void)arg;
    const char *name = strrchr(path, '/');
    bool best = name && strcmp(name + 1, VX_CHECKPOINT_BEST) == 0;
    vx_say(json_pack("{s:s, s:s, s:I}", "event", best ? "best" : "checkpoint", "path", path,
                     "batches", (json_int_t)batches));
}

/* The cases that are out by now, as the supervisor says. */
static json_t *quarantines(void *arg) {
    const struct step *s = arg;
    const struct vx_recipe_view *recipe = vx_recipe_view(s->recipe);
    struct vx_exclusions x;
    json_t *rows = json_array();
    if (!vx_control_exclusions(&s->control, &x)) {
        json_decref(rows);
        return NULL;
    }
    for (uint32_t i = 0; i < x.n; i++) {
        if (x.list[i].case_index < recipe->n_cases) {
            json_array_append_new(rows, vx_live_row(&x.list[i], recipe));
        }
    }
    return rows;
}

/* --- the run --- */

static int open_train(struct step *s, struct vx_train_source *source, const json_t *env,
                      const json_t *network, const char *digest, struct vx_err *err) {
    const struct vx_brief *b = s->brief;
    struct vx_train_config config = {
        .device = s->device,
        .net = s->net,
        .precision = s->precision,
        .seed = b->seed,
        .epochs = b->schedule.epochs,
        .iterations = b->schedule.train_iterations,
        .val_iterations = b->schedule.val_iterations,
        .learning_rate = b->learning_rate,
        .source = source,
        .timeline = &s->timeline,
        .dir = b->dir,
        .pretrained = b->pretrained,
        .checkpoint_seconds = b->checkpoint_seconds,
        .recipe_digest = digest,
        .environment = env,
        .network = network,
        .stop = &vx_step_stop,
        .callbacks = {s, on_epoch, on_checkpoint, quarantines},
    };
    return vx_train_open(&config, &s->train, err);
}

/* Says where it is and waits until the supervisor has brought the ring there. */
static int meet_ring(struct step *s, struct vx_err *err) {
    const struct vx_brief *b = s->brief;
    uint64_t q = 0, batches = 0;
    int rc = vx_train_position(b->dir, b->schedule.batch, &q, &batches, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_say(json_pack("{s:s, s:I, s:I, s:I, s:b}", "event", "loaded", "q", (json_int_t)q, "batches",
                     (json_int_t)batches, "epoch",
                     (json_int_t)(batches / b->schedule.train_iterations), "resumed", batches > 0));
    for (;;) {
        uint32_t seen = vx_control_changed(&s->control);
        if (vx_control_gate(&s->control) == VX_GATE_OPEN && vx_ring_next(&s->ring) == q) {
            return VX_OK;
        }
        if (atomic_load(&vx_step_stop)) {
            return vx_fail(err, VX_E_CANCELLED, NULL, "stopped");
        }
        vx_control_wait(&s->control, seen, GATE_WAIT_NS);
    }
}

static int train(struct step *s, struct vx_err *err) {
    struct vx_ring_source ring;
    vx_ring_source_init(&ring, &s->ring);
    struct vx_train_source *source = s->bench ? vx_step_bench_source(s) : &ring.base;
    vx_auto_json json_t *env = environment(s), *network = NULL;
    int rc = vx_recipe_from_json(s->brief->recipe, &s->recipe, err);
    if (rc == VX_OK) {
        network = network_words(s, s->recipe);
        rc = open_train(s, source, env, network, vx_recipe_view(s->recipe)->digest, err);
    }
    const char *why;
    if (rc == VX_OK && vx_train_approximate(s->train, &why)) {
        vx_say(json_pack("{s:s, s:s, s:s}", "event", "trajectory", "trajectory", "approximate",
                         "message", why));
    }
    if (rc == VX_OK) {
        rc = meet_ring(s, err);
    }
    struct vx_train_outcome outcome = {0};
    if (rc == VX_OK) {
        vx_say(json_pack("{s:s, s:s}", "event", "phase", "phase", "training"));
        rc = vx_train_run(s->train, &outcome, err);
    }
    if (rc == VX_OK && !outcome.finished) {
        rc = vx_fail(err, VX_E_CANCELLED, NULL, "stopped");
    }
    return rc;
}

static int run(struct step *s, struct vx_err *err) {
    int lock = -1; /* kept: the kernel releases it with the process */
    int rc = take_lock(s->brief->dir, &lock, err);
    if (rc == VX_OK) {
        rc = map_memory(s, err);
    }
    if (rc == VX_OK) {
        rc = open_device(s, err);
    }
    if (rc == VX_OK) {
        lend_ring(s);
        rc = build_net(s, err);
    }
    if (rc == VX_OK) {
        say_network(s);
        rc = train(s, err);
    }
    if (s->bench) {
        return vx_step_bench_end(s, rc, err);
    }
    if (rc == VX_OK) {
        rc = vx_step_export(s, err);
    }
    return rc == VX_OK ? vx_step_validate(s, err) : rc;
}

static void release(struct step *s) {
    vx_train_close(s->train);
    vx_recipe_free(s->recipe);
    vx_oplist_free(s->net);
    vx_device_close(s->device);
    free(s->plans);
    vx_ring_close(&s->ring);
    vx_timeline_close(&s->timeline);
    vx_control_close(&s->control);
    vx_step_bench_release(s);
    vx_brief_free(s->brief);
}

int vx_role_step(int argc, char **argv) {
    static const struct option options[] = {{"brief", required_argument, NULL, 'b'},
                                            {"device", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL, *device = NULL;
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        path = opt == 'b' ? optarg : path;
        device = opt == 'd' ? optarg : device;
    }
    if (!path) {
        fputs("voxeld step is started by a session: --brief FILE [--device NAME]\n", stderr);
        return 2;
    }
    catch_signals();
    struct step s = {0};
    s.control.shm = s.timeline.shm = s.ring.shm = (struct vx_shm)VX_SHM_INIT;
    struct vx_err err = {0};
    int rc = vx_brief_read(path, &s.brief, &err);
    if (rc == VX_OK) {
        s.device_name = device ? device : s.brief->device;
        rc = run(&s, &err);
    }
    release(&s);
    if (rc == VX_E_CANCELLED && atomic_load(&vx_step_stop)) {
        vx_say(json_pack("{s:s}", "event", "stopped"));
        return 0;
    }
    return rc == VX_OK ? 0 : vx_say_error("step", &err);
}
