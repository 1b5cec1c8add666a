/* voxeld predict: new cases through a trained model, a folder in, a folder out (predict_args.c
 * lists the options). Nothing is written before the model, every file's name and every volume are
 * known to be good.
 *
 * Lines on stdout: "model", "phase", "problem" {case, code, message}, "progress" of the case in the
 * network {case, tiles_done, tiles} (at its start, then once a second), "case" {case, done, cases,
 * kept, seconds}, "result" {cases, kept, output, seconds}. SIGTERM and Ctrl-C end it soon with exit
 * status 1 and error "stopped"; --continue goes on. */
#include "infer/predict.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/devices/precision.h"
#include "daemon/roles/crew.h"
#include "daemon/roles/predict_args.h"
#include "daemon/roles/say.h"
#include "daemon/verbs.h"
#include "device/device.h"
#include "infer/ensemble.h"
#include "infer/model.h"
#include "net/net.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "prepare/case.h"
#include "volume/rawset.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PROGRESS_EVERY_NS 1000000000ull
#define MAX_PROBLEMS_SAID 100

static atomic_bool stop;

static void on_term(int signum) {
    (void)signum;
    atomic_store(&stop, true);
}

struct prediction {
    struct vx_predict_args args;
    struct vx_model *model;
    struct vx_rawset raw;
    struct vx_device *device;
    struct vx_ensemble *ensemble;
    json_t *words;         /* predict_args.json */
    const char *said_case; /* progress: what was said last, and when */
    uint64_t said_ns;
};

static void say_phase(const char *phase) {
    vx_say(json_pack("{s:s, s:s}", "event", "phase", "phase", phase));
}

/* --- input --- */

static bool same_folder(const char *a, const char *b) {
    char x[PATH_MAX], y[PATH_MAX];
    return realpath(a, x) && realpath(b, y) && strcmp(x, y) == 0;
}

/* All of them are said; the first becomes the error. */
static int refuse_problems(const struct vx_rawset *raw, const char *dir, struct vx_err *err) {
    for (size_t i = 0; i < raw->n_problems && i < MAX_PROBLEMS_SAID; i++) {
        const struct vx_rawset_problem *p = &raw->problems[i];
        vx_say(json_pack("{s:s, s:s, s:s, s:s}", "event", "problem", "case", p->name, "code",
                         p->code, "message", p->text));
    }
    char more[48] = "";
    if (raw->n_problems > 1) {
        snprintf(more, sizeof more, " (and %zu more problems)", raw->n_problems - 1);
    }
    vx_fail(err, VX_E_INVALID, raw->problems[0].code, "case %s: %s%s", raw->problems[0].name,
            raw->problems[0].text, more);
    vx_err_at(err, "%s", dir);
    return VX_E_INVALID;
}

static int list_cases(struct prediction *p, struct vx_err *err) {
    const struct vx_predict_args *a = &p->args;
    if (same_folder(a->input, a->output)) {
        return vx_fail(err, VX_E_INVALID, "same_folder",
                       "input and output are the same folder, %s; give predictions their own",
                       a->input);
    }
    struct vx_rawset_options o = {.dir = a->input,
                                  .file_ending = p->model->dataset->file_ending,
                                  .n_channels = p->model->dataset->n_channels,
                                  .images = "",
                                  .labels = ""};
    int rc = vx_rawset_list(&o, &p->raw, err);
    if (rc == VX_OK && p->raw.n_problems > 0) {
        rc = refuse_problems(&p->raw, a->input, err);
    } else if (rc == VX_OK && p->raw.n_cases == 0) {
        vx_fail(err, VX_E_NOT_FOUND, "no_cases", "%s has no files named CASE_0000%s", a->input,
                o.file_ending);
        rc = vx_err_at(err, "%s", a->input);
    }
    return rc;
}

static struct vx_case_input input_of(const struct prediction *p, size_t i) {
    const struct vx_rawset_case *c = &p->raw.cases[i];
    return (struct vx_case_input){
        .name = c->name, .images = (const char *const *)c->images, .n_images = p->raw.n_channels};
}

static struct vx_case_recipe recipe_of(const struct prediction *p) {
    return (struct vx_case_recipe){p->model->plans, p->model->config, p->model->dataset};
}

static uint64_t cost_of(void *ctx, size_t item) {
    const struct prediction *p = ctx;
    struct vx_case_input in = input_of(p, item);
    struct vx_case_recipe recipe = recipe_of(p);
    uint64_t memory = 0; /* of preparing, which is more than checking needs */
    vx_case_estimate(&in, &recipe, &memory, NULL, NULL);
    return memory;
}

static int check_case(void *ctx, size_t item, struct vx_err *err) {
    const struct prediction *p = ctx;
    struct vx_case_input in = input_of(p, item);
    struct vx_case_recipe recipe = recipe_of(p);
    int rc = vx_case_check(&in, &recipe, err);
    if (rc != VX_OK) {
        vx_err_prefix(err, "case %s", in.name);
    }
    return rc;
}

/* Every volume is read once more than needed: a bad one in the middle of a long run is found before
 * its first hour, not in its last. */
static int check_cases(struct prediction *p, struct vx_err *err) {
    say_phase("checking input");
    struct vx_crew crew = {.n_items = p->raw.n_cases,
                           .threads = p->args.threads ? p->args.threads : (int)vx_budget_cores(""),
                           .memory_bytes = vx_budget_memory_share(),
                           .cost = cost_of,
                           .work = check_case,
                           .stop = &stop,
                           .ctx = p};
    return vx_crew_run(&crew, err);
}

/* --- the network --- */

static int open_device(struct prediction *p, struct vx_err *err) {
    struct vx_device_options o = {.threads =
                                      p->args.threads ? p->args.threads : (int)vx_budget_cores(""),
                                  .deterministic = true};
    struct vx_device_info info;
    int rc = vx_device_open(p->args.device, &o, &p->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_device_describe(p->device, &info);
    int precision;
    rc = vx_precision_choose(p->args.precision, &info, &precision, err);
    if (rc != VX_OK) {
        return rc;
    }
    p->args.precision = vx_precision_word(precision);
    struct vx_ensemble_options e = {.device = p->device,
                                    .precision = precision,
                                    .no_mirroring = p->args.no_mirroring,
                                    .step = p->args.step};
    return vx_ensemble_create(p->model, &e, &p->ensemble, err);
}

static int make_words(struct prediction *p, struct vx_err *err) {
    const struct vx_predict_args *a = &p->args;
    const struct vx_model *m = p->model;
    json_t *folds = json_array(), *axes = json_array();
    for (size_t f = 0; f < m->n_folds; f++) {
        json_array_append_new(folds, json_string(m->folds[f].name));
    }
    for (int i = 0; i < 3; i++) {
        if (m->mirror[i] && !a->no_mirroring) {
            json_array_append_new(axes, json_integer(i));
        }
    }
    p->words =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:f, s:b, s:s, s:s, s:s}", "input", a->input,
                  "output", a->output, "model", m->dir, "configuration", m->config->name, "folds",
                  folds, "checkpoint", a->checkpoint, "mirror_axes", axes, "step_size", a->step,
                  "save_probabilities", a->probabilities, "device", a->device, "precision",
                  a->precision, "model_digest", m->digest);
    if (!p->words) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    json_t *line = json_copy(p->words);
    json_object_set_new(line, "event", json_string("model"));
    json_object_set_new(line, "cases", json_integer((json_int_t)p->raw.n_cases));
    json_object_set_new(line, "parameters", json_integer(vx_oplist_param_count(m->net)));
    vx_say(line);
    return VX_OK;
}

/* --- news; from the threads of the pipeline --- */

static void on_case(void *context, const struct vx_predict_news *n) {
    (void)context;
    vx_say(json_pack("{s:s, s:s, s:I, s:I, s:b, s:{s:f, s:f, s:f}}", "event", "case", "case",
                     n->name, "done", (json_int_t)n->done, "cases", (json_int_t)n->total, "kept",
                     (int)n->kept, "seconds", "prepare", n->seconds_prepare, "network",
                     n->seconds_network, "export", n->seconds_export));
}

static void on_tick(void *context, const char *name, int64_t done, int64_t total) {
    struct prediction *p = context;
    uint64_t now = vx_now_ns();
    if (name != p->said_case || now - p->said_ns >= PROGRESS_EVERY_NS) {
        p->said_case = name;
        p->said_ns = now;
        vx_say(json_pack("{s:s, s:s, s:I, s:I}", "event", "progress", "case", name, "tiles_done",
                         (json_int_t)done, "tiles", (json_int_t)total));
    }
}

/* --- the run --- */

static int predict(struct prediction *p, struct vx_err *err) {
    uint64_t start = vx_now_ns();
    struct vx_predict_options o = {.model = p->model,
                                   .ensemble = p->ensemble,
                                   .raw = &p->raw,
                                   .out_dir = p->args.output,
                                   .args = p->words,
                                   .probabilities = p->args.probabilities,
                                   .keep = p->args.keep,
                                   .memory_bytes = vx_budget_memory_share(),
                                   .news = on_case,
                                   .tick = on_tick,
                                   .stop = &stop,
                                   .context = p};
    struct vx_predict_result result;
    say_phase("predicting");
    int rc = vx_predict(&o, &result, err);
    if (rc == VX_OK) {
        vx_say(json_pack("{s:s, s:I, s:I, s:s, s:f}", "event", "result", "cases",
                         (json_int_t)result.n_cases, "kept", (json_int_t)result.n_kept, "output",
                         p->args.output, "seconds", (double)(vx_now_ns() - start) * 1e-9));
    }
    return rc;
}

static int run(struct prediction *p, struct vx_err *err) {
    const struct vx_predict_args *a = &p->args;
    struct vx_model_options o = {
        .dir = a->model, .folds = a->folds, .n_folds = a->n_folds, .checkpoint = a->checkpoint};
    int rc = vx_model_open(&o, &p->model, err);
    int (*const steps[])(struct prediction *, struct vx_err *) = {list_cases, check_cases,
                                                                  open_device, make_words, predict};
    for (size_t i = 0; rc == VX_OK && i < VX_COUNTOF(steps); i++) {
        rc = atomic_load(&stop) ? VX_E_CANCELLED : steps[i](p, err);
    }
    if (rc == VX_E_CANCELLED) {
        vx_fail(err, rc, "stopped", "stopped; --continue goes on from the finished cases");
    }
    return rc;
}

static void release(struct prediction *p) {
    vx_ensemble_free(p->ensemble);
    vx_device_close(p->device);
    vx_model_free(p->model);
    vx_rawset_release(&p->raw);
    json_decref(p->words);
    vx_predict_args_release(&p->args);
}

/* The threads of OpenMP wait by spinning unless told otherwise before they exist, and here others
 * work beside them. The variable is read when the program is loaded, so it is loaded again. */
static void wait_passively(char **argv) {
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 0) == 0) {
        execv("/proc/self/exe", argv); /* where that fails, predicting is slower */
    }
}

int vx_role_predict(int argc, char **argv) {
    struct prediction p = {0};
    struct vx_err err = {0};
    int status = 0;
    wait_passively(argv - 1); /* argv[-1]: main's argv[0] */
    int rc = vx_predict_args_read(argc, argv, &p.args, &status, &err);
    if (rc != VX_OK) {
        return err.code ? vx_say_error("predict", &err) : status;
    }
    signal(SIGTERM, on_term);
    signal(SIGINT, on_term);
    rc = run(&p, &err);
    release(&p);
    return rc == VX_OK ? 0 : vx_say_error("predict", &err);
}
