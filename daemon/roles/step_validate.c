/* The last part of a training: every held-out case by sliding window at its original geometry. What
 * an interrupted validation has written is kept where it came from the same weights. */
#include "daemon/roles/step.h"

#include "augment/policy.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/cache.h"
#include "daemon/results/publish.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "device/device.h"
#include "infer/ensemble.h"
#include "infer/sliding.h"
#include "infer/validate.h"
#include "loader/recipe.h"
#include "net/net.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "train/engine.h"
#include "volume/rawset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct validation {
    struct step *step;
    struct vx_dataset_desc *dataset; /* owned */
    struct vx_recipe *recipe;
    struct vx_rawset raw;
    struct vx_cache *cache;
    struct vx_oplist *net;
    struct vx_program *program;
    struct vx_predictor *predictor;
    struct vx_validate_case *cases;
    struct vx_metric_class *classes;
    size_t n_cases, n_classes;
};

static void set_progress(struct step *s, size_t done, size_t total, enum vx_step_state state) {
    struct vx_progress p;
    if (!vx_timeline_progress(&s->timeline, &p)) {
        p = (struct vx_progress){.loss = NAN, .val_loss = NAN, .ema_dice = NAN, .best_dice = NAN};
        p.epochs = s->brief->schedule.epochs;
    }
    p.state = state;
    p.case_index = (uint32_t)done;
    p.cases = (uint32_t)total;
    vx_timeline_set_progress(&s->timeline, &p);
}

static json_t *per_class(const struct validation *v, const double *dice, size_t n) {
    json_t *o = json_object();
    for (size_t c = 0; o && c < n; c++) {
        char key[16];
        snprintf(key, sizeof key, "%d", v->classes[c].labels[0]);
        json_object_set_new(o, key, vx_say_real(dice[c]));
    }
    return o;
}

static int on_progress(void *context, size_t done, size_t total, const char *name,
                       const double *dice, size_t n_classes) {
    struct validation *v = context;
    set_progress(v->step, done, total, VX_STEP_TOTAL);
    vx_say(json_pack("{s:s, s:s, s:I, s:I, s:o}", "event", "case", "case", name, "done",
                     (json_int_t)done, "cases", (json_int_t)total, "dice",
                     per_class(v, dice, n_classes)));
    return atomic_load(&vx_step_stop) ? 1 : 0;
}

static int on_tick(void *context, int64_t done, int64_t total) {
    (void)context;
    (void)done;
    (void)total;
    return atomic_load(&vx_step_stop) ? 1 : 0;
}

static const char *label_of(const struct vx_rawset *raw, const char *name) {
    for (size_t i = 0; i < raw->n_cases; i++) {
        if (strcmp(raw->cases[i].name, name) == 0) {
            return raw->cases[i].label;
        }
    }
    return NULL;
}

/* Workers died over it: it cannot be read, by us neither. */
static bool is_out(const struct vx_exclusions *out, uint32_t case_index) {
    for (uint32_t i = 0; i < out->n; i++) {
        if (out->list[i].case_index == case_index) {
            return true;
        }
    }
    return false;
}

static int list_cases(struct validation *v, struct vx_err *err) {
    const struct vx_brief *b = v->step->brief;
    struct vx_rawset_options options = {.dir = b->raw_dir,
                                        .file_ending = v->dataset->file_ending,
                                        .n_channels = v->dataset->n_channels,
                                        .mapping = json_object_get(b->dataset_json, "dataset")};
    int rc = vx_rawset_list(&options, &v->raw, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_recipe_view *recipe = vx_recipe_view(v->recipe);
    v->cases = calloc(recipe->n_val + 1, sizeof *v->cases);
    v->n_classes = (size_t)(v->dataset->n_labels - 1);
    v->classes = calloc(v->n_classes + 1, sizeof *v->classes);
    if (!v->cases || !v->classes) {
        return vx_fail(err, VX_E_NOMEM, NULL, "validation");
    }
    struct vx_exclusions out = {0};
    vx_control_exclusions(&v->step->control, &out);
    v->n_cases = 0;
    for (size_t i = 0; i < recipe->n_val; i++) {
        struct vx_validate_case *c = &v->cases[v->n_cases];
        c->name = recipe->cases[recipe->val[i]];
        c->reference = label_of(&v->raw, c->name);
        if (is_out(&out, recipe->val[i])) {
            continue;
        }
        if (!c->reference) {
            return vx_fail(err, VX_E_NOT_FOUND, "missing_label",
                           "case %s has no label file in %s any more", c->name, b->raw_dir);
        }
        v->n_cases++;
    }
    for (size_t c = 0; c < v->n_classes; c++) {
        v->classes[c] =
            (struct vx_metric_class){.n = 1, .labels = {(int16_t)v->dataset->labels[c + 1].value}};
    }
    return VX_OK;
}

static int open_predictor(struct validation *v, struct vx_err *err) {
    struct step *s = v->step;
    const struct vx_brief *b = s->brief;
    struct vx_net_options options;
    vx_net_options_default(&options);
    const json_t *inference = json_object_get(b->spec, "inference");
    bool mirroring = !json_is_false(json_object_get(inference, "mirroring"));
    const json_t *step = json_object_get(inference, "step_size");
    int rc = vx_net_build(s->config, (int)b->channels, (int)b->classes, VX_ENSEMBLE_TILES, &options,
                          &v->net, err);
    if (rc == VX_OK) {
        rc = vx_program_compile(vx_train_state(s->train), v->net, VX_MODE_INFER, s->precision,
                                &v->program, err);
    }
    struct vx_sliding_options sliding = {.step =
                                             json_is_number(step) ? json_number_value(step) : 0.5};
    uint32_t axes = vx_recipe_view(v->recipe)->policy->mirror_axes;
    for (int a = 0; a < 3; a++) {
        sliding.mirror[a] = mirroring && (axes >> a & 1);
    }
    return rc == VX_OK ? vx_predictor_create(v->program, v->net, &sliding, &v->predictor, err) : rc;
}

/* The digest of the final checkpoint names the weights. */
static int stamp_of(const char *dir, char ret[VX_SHA256_HEX], struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/" VX_CHECKPOINT_FINAL, dir);
    vx_auto_free char *data = NULL;
    size_t len = 0;
    int rc = path ? vx_read_file(path, (size_t)8 << 30, &data, &len, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "validation");
    if (rc == VX_OK) {
        vx_sha256_hex(data, len, ret);
    }
    return rc;
}

static int validate(struct validation *v, struct vx_validate_result *ret, struct vx_err *err) {
    const struct vx_brief *b = v->step->brief;
    char stamp[VX_SHA256_HEX];
    vx_auto_free char *out = vx_strf("%s/validation", b->dir);
    struct vx_result_place place;
    vx_brief_place(b, &place);
    vx_auto_free char *fold = vx_publish_path(&place);
    vx_auto_free char *final = fold ? vx_strf("%s/validation", fold) : NULL;
    int rc =
        out && final ? stamp_of(b->dir, stamp, err) : vx_fail(err, VX_E_NOMEM, NULL, "validation");
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_validate_options options = {
        .cache = v->cache,
        .predictor = v->predictor,
        .cases = v->cases,
        .n_cases = v->n_cases,
        .classes = v->classes,
        .n_classes = v->n_classes,
        .ignore = v->dataset->ignore_label >= 0 ? v->dataset->ignore_label : VX_METRIC_NO_IGNORE,
        .out_dir = out,
        .final_dir = final,
        .file_ending = v->dataset->file_ending,
        .stamp = stamp,
        .progress = on_progress,
        .tick = on_tick,
        .context = v,
    };
    memcpy(options.transpose_forward, v->step->plans->transpose_forward,
           sizeof options.transpose_forward);
    set_progress(v->step, 0, v->n_cases, VX_STEP_TOTAL);
    return vx_validate(&options, ret, err);
}

static void say_result(const struct validation *v, const struct vx_validate_result *r) {
    struct step *s = v->step;
    const struct vx_history *h = vx_train_history(s->train);
    double ema = h->n ? h->epochs[h->n - 1].ema_fg_dice : NAN,
           best = h->n ? h->epochs[h->n - 1].best_ema : NAN;
    vx_say(json_pack("{s:s, s:{s:I, s:o, s:o}, s:i, s:o, s:o, s:I}", "event", "result",
                     "validation", "cases", (json_int_t)r->n_cases, "mean_dice",
                     vx_say_real(r->foreground_mean), "dice_per_class",
                     per_class(v, r->dice, r->n_classes), "epochs", (int)h->n, "ema_dice",
                     vx_say_real(ema), "best_ema_dice", vx_say_real(best), "batches",
                     (json_int_t)s->brief->schedule.epochs * s->brief->schedule.train_iterations));
}

static void release(struct validation *v) {
    vx_predictor_free(v->predictor);
    vx_program_free(v->program);
    vx_oplist_free(v->net);
    vx_cache_free(v->cache);
    vx_rawset_release(&v->raw);
    vx_recipe_free(v->recipe);
    free(v->dataset);
    free(v->cases);
    free(v->classes);
}

int vx_step_validate(struct step *s, struct vx_err *err) {
    const struct vx_brief *b = s->brief;
    struct validation v = {.step = s, .dataset = calloc(1, sizeof *v.dataset)};
    struct vx_validate_result result;
    struct vx_json_problems problems = {0};
    vx_say(json_pack("{s:s, s:s}", "event", "phase", "phase", "validating"));
    int rc = v.dataset ? vx_dataset_parse(b->dataset, b->dataset_json, v.dataset, &problems)
                       : VX_E_NOMEM;
    if (rc != VX_OK) {
        rc = vx_fail(err, rc, "brief_invalid", "dataset.json of the brief: %s",
                     problems.n ? problems.list[0].text : "out of memory");
    }
    if (rc == VX_OK) {
        rc = vx_recipe_from_json(b->recipe, &v.recipe, err);
    }
    if (rc == VX_OK) {
        rc = list_cases(&v, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_open(b->cache_dir, &v.cache, err);
    }
    if (rc == VX_OK) {
        rc = open_predictor(&v, err);
    }
    if (rc == VX_OK) {
        rc = validate(&v, &result, err);
    }
    if (rc == VX_OK) {
        say_result(&v, &result);
        set_progress(s, v.n_cases, v.n_cases, VX_STEP_DONE);
    }
    release(&v);
    return rc;
}
