/* See resolve.h. */
#include "daemon/resolve.h"

#include "augment/policy.h"
#include "base/budget.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "cache/build.h"
#include "cache/cache.h"
#include "cache/key.h"
#include "daemon/config.h"
#include "daemon/keeper/stage_root.h"
#include "daemon/plans_source.h"
#include "daemon/predict/plan.h"
#include "daemon/session/brief.h"
#include "daemon/session/pretrained.h"
#include "loader/pool.h"
#include "loader/recipe.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "plan/splits.h"
#include "prepare/case.h"
#include "spec/spec.h"
#include "volume/rawset.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CHILD_NICE 10
/* More than anybody waits for: a benchmark ends by the clock. */
#define BENCH_ITERATIONS (1u << 28)

/* Everything between the input and the brief. */
struct work {
    const struct vx_resolve_input *in;
    struct vx_job_spec spec;
    json_t *spec_json;
    json_t *dataset_json;
    struct vx_dataset_desc dataset;
    struct vx_plans plans;
    struct vx_plan_config *config; /* inside plans */
    struct vx_rawset raw;
    char *dataset_dir; /* in the preprocessed root */
    struct vx_cache_key key;
    struct vx_split split;
    const char **names; /* of the cases; inside raw */
    struct vx_recipe *recipe;
};

static int read_spec(struct work *w, struct vx_err *err) {
    vx_auto_json json_t *stored = NULL;
    int rc = vx_json_parse(w->in->spec, strlen(w->in->spec), 1 << 20, 16, &stored, err);
    if (rc == VX_OK) {
        rc = vx_spec_from_stored(stored, &w->spec, err);
    }
    if (rc == VX_OK) {
        w->spec_json = vx_spec_to_json(&w->spec);
        rc = w->spec_json ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "reading the job");
    }
    return rc;
}

/* The loss has no mask yet: a network would fail at the first ignored voxel, after everything was
 * prepared. */
static int check_trainable(const struct work *w, struct vx_err *err) {
    if (w->spec.type != VX_JOB_TRAIN || w->dataset.ignore_label < 0) {
        return VX_OK;
    }
    vx_fail(err, VX_E_UNSUPPORTED, "ignore_label_unsupported",
            "data set %s has an ignore label (%d); training with one is not supported yet",
            w->dataset.name, w->dataset.ignore_label);
    return vx_err_at(err, "/dataset");
}

static int read_dataset(struct work *w, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/dataset.json", w->in->raw_dir);
    int rc = path ? vx_dataset_load(w->in->raw_dir, &w->dataset, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    rc = rc == VX_OK ? check_trainable(w, err) : rc;
    if (rc == VX_OK) {
        rc = vx_json_load_file(path, 64u << 20, &w->dataset_json, err);
    }
    if (rc == VX_OK) {
        w->dataset_dir = vx_strf("%s/%s", w->in->config->preprocessed, w->dataset.name);
        rc = w->dataset_dir ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    return rc;
}

static int find_config(struct work *w, const json_t *json, struct vx_err *err) {
    for (int i = 0; i < w->plans.n_configs; i++) {
        if (strcmp(w->plans.configs[i].name, w->spec.configuration) == 0) {
            w->config = &w->plans.configs[i];
        }
    }
    if (!w->config) {
        struct vx_plan_config ignored;
        int rc = vx_plans_read_config(json, w->spec.configuration, &ignored, err);
        if (rc == VX_E_NOT_FOUND) {
            return vx_err_at(err, "/configuration");
        }
        return rc; /* what it is that voxeld does not have */
    }
    if (w->config->n_channels != w->dataset.n_channels) {
        vx_fail(err, VX_E_INVALID, "plans_mismatch",
                "the plan %s is for %d channels, the data set %s has %d", w->spec.plans,
                w->config->n_channels, w->dataset.name, w->dataset.n_channels);
        return vx_err_at(err, "/plans");
    }
    return VX_OK;
}

static int read_plans(struct work *w, struct vx_err *err) {
    vx_auto_json json_t *json = NULL;
    struct vx_plans_source source = {
        .name = w->spec.plans,
        .dataset = &w->dataset,
        .job_dir = w->in->job_dir,
        .dataset_dir = w->dataset_dir,
        .registered = w->in->plans,
        .fingerprint = w->in->fingerprint,
        .gpu_memory_gb = w->spec.planning.gpu_memory_gb,
    };
    memcpy(source.spacing, w->spec.planning.spacing, sizeof source.spacing);
    int rc = vx_plans_find(&source, &json, err);
    rc = rc == VX_OK ? vx_plans_from_json(json, &w->plans, err) : rc;
    return rc == VX_OK ? find_config(w, json, err) : rc;
}

static int apply_overrides(struct work *w, struct vx_err *err) {
    return vx_plan_apply(w->config, &w->spec.plan, err);
}

static int list_cases(struct work *w, struct vx_err *err) {
    struct vx_rawset_options options = {.dir = w->in->raw_dir,
                                        .file_ending = w->dataset.file_ending,
                                        .n_channels = w->dataset.n_channels,
                                        .mapping = json_object_get(w->dataset_json, "dataset")};
    int rc = vx_rawset_list(&options, &w->raw, err);
    if (rc != VX_OK) {
        return rc;
    }
    w->names = calloc(w->raw.n_cases + 1, sizeof *w->names);
    if (!w->names) {
        return vx_fail(err, VX_E_NOMEM, NULL, "listing cases");
    }
    for (size_t i = 0; i < w->raw.n_cases; i++) {
        w->names[i] = w->raw.cases[i].name;
    }
    return VX_OK;
}

static int make_split(struct work *w, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/splits_final.json", w->dataset_dir);
    vx_auto_json json_t *splits = NULL;
    int rc = VX_OK;
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "splitting the cases");
    }
    if (w->spec.fold != VX_FOLD_ALL) {
        /* nnU-Net's file wins where there is one; it is never written here */
        if (vx_path_exists(path)) {
            rc = vx_json_load_file(path, 64u << 20, &splits, err);
        } else {
            splits = vx_splits_create(w->names, (int)w->raw.n_cases, err);
            rc = splits ? VX_OK : err->code;
        }
    }
    if (rc == VX_OK) {
        rc = vx_split_fold(splits, w->names, (int)w->raw.n_cases, w->spec.fold, &w->split, err);
    }
    if (rc == VX_OK && w->spec.fold != VX_FOLD_ALL && w->split.n_both > 0) {
        vx_log_warn("resolve", "split_overlaps file=\"%s\" fold=%d cases_in_both=%d going_on=yes",
                    path, w->spec.fold, w->split.n_both);
    }
    return rc;
}

/* --- recipe --- */

/* nnU-Net's augmentation, less what the spec switches off. */
static int make_policy(const struct work *w, struct vx_aug_policy *p, struct vx_err *err) {
    const struct vx_plan_config *c = w->config;
    const int32_t patch[3] = {c->patch_size[0], c->patch_size[1], c->patch_size[2]};
    int (*const make)(uint32_t, uint32_t, const int32_t[3], struct vx_aug_policy *) =
        w->spec.augment.enabled ? vx_aug_policy_default : vx_aug_policy_none;
    int rc = make((uint32_t)c->dims, (uint32_t)c->n_channels, patch, p);
    if (rc != VX_OK) {
        return vx_fail(err, rc, "patch_unsupported",
                       "no augmentation fits patch %d x %d x %d with %d channels", patch[0],
                       patch[1], patch[2], c->n_channels);
    }
    if (!w->spec.augment.mirror) {
        p->mirror_axes = 0;
    }
    for (int ch = 0; ch < c->n_channels; ch++) {
        p->mask_channels |= c->use_mask_for_norm[ch] ? 1u << ch : 0;
    }
    return VX_OK;
}

/* Sharded epochs: cases at a time; 0: all. */
static uint32_t window_cases(const struct work *w) {
    double n = w->spec.loader.window_cases;
    return (uint32_t)(n > 0 && n < 1 ? ceil(n * w->split.n_train) : n);
}

static uint32_t window_batches(const struct work *w) {
    uint64_t n =
        (uint64_t)w->spec.loader.window_epochs * (uint64_t)w->spec.training.iterations_per_epoch;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static int make_recipe(struct work *w, struct vx_err *err) {
    struct vx_aug_policy policy;
    int rc = make_policy(w, &policy, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_recipe_params params = {
        .dataset = w->dataset.name,
        .cache_key = w->key.hex,
        .seed = w->spec.training.seed,
        .cases = w->names,
        .n_cases = w->raw.n_cases,
        .train = (const uint32_t *)w->split.train, /* indices: never negative */
        .n_train = (size_t)w->split.n_train,
        .val = (const uint32_t *)w->split.val,
        .n_val = (size_t)w->split.n_val,
        .augment = w->spec.augment.enabled ? VX_AUG_MODE_DEFAULT : VX_AUG_MODE_NONE,
        .dims = (uint32_t)w->config->dims,
        .channels = (uint32_t)w->config->n_channels,
        .batch = (uint32_t)w->config->batch_size,
        .patch = {w->config->patch_size[0], w->config->patch_size[1], w->config->patch_size[2]},
        .oversample = w->spec.training.oversample_foreground > 0
                          ? w->spec.training.oversample_foreground
                          : -1,
        .mask_channels = policy.mask_channels,
        .has_ignore = w->dataset.ignore_label >= 0,
        .policy = &policy,
        .window_cases = window_cases(w),
        .window_batches = window_batches(w),
    };
    return vx_recipe_create(&params, &w->recipe, err);
}

/* --- brief --- */

static void plan_pool(const struct work *w, struct vx_brief *b) {
    const struct vx_config *c = w->in->config;
    uint32_t trainer = w->in->gpu ? 1 : (uint32_t)b->threads;
    struct vx_pool_limits limits = {.cores = c->cores ? (uint32_t)c->cores : vx_budget_cores(""),
                                    .trainer_threads = b->bench ? 0 : trainer,
                                    .memory_bytes = vx_budget_memory_share()};
    int asked = w->spec.loader.workers > 0 ? w->spec.loader.workers : (int)c->loader_workers;
    struct vx_pool_plan pool;
    vx_pool_plan(w->recipe, &limits, (uint32_t)asked, &pool);
    b->workers = pool.workers;
    b->workers_max = pool.workers_max;
    b->slots = pool.slots;
    b->window = w->spec.loader.prefetch > 0 ? (uint32_t)w->spec.loader.prefetch : pool.window;
    int keep = w->spec.loader.keep_files_open != VX_SPEC_AUTO ? w->spec.loader.keep_files_open
                                                              : (int)c->keep_files_open;
    b->keep_files_open = keep != VX_FILES_OPEN_NO;
    b->cache = (char *)w->spec.loader.cache;
}

/* Nothing computes and nothing is learnt: the schedule only numbers the samples. */
static void make_bench(const struct work *w, struct vx_brief *b) {
    b->bench = json_object_get(w->spec_json, "benchmark");
    b->schedule = (struct vx_sample_schedule){b->schedule.batch, BENCH_ITERATIONS, 0, 1};
    b->threads = 1;
    b->checkpoint_seconds = 1e9;
}

static void fold_text(int fold, char buf[16]) {
    if (fold == VX_FOLD_ALL) {
        snprintf(buf, 16, "all");
    } else {
        snprintf(buf, 16, "%d", fold);
    }
}

static const char *const precision_words[] = {
    [VX_SPEC_PRECISION_AUTO] = "auto", [VX_SPEC_FP32] = "fp32", [VX_SPEC_BF16] = "bf16"};

/* The file with the weights to start from; ret is empty where none was asked for. */
static int find_pretrained(const struct work *w, char ret[PATH_MAX], struct vx_err *err) {
    const char *asked = w->spec.training.pretrained_weights;
    ret[0] = '\0';
    if (!asked[0]) {
        return VX_OK;
    }
    return w->in->any_path ? vx_pretrained_any(asked, ret, PATH_MAX, err)
                           : vx_pretrained_find(w->in->config, asked, ret, PATH_MAX, err);
}

static int write_brief(const struct work *w, const char *store_dir, const char *path,
                       struct vx_err *err) {
    const struct vx_job_spec *s = &w->spec;
    const struct vx_plan_config *c = w->config;
    char fold[16], pretrained[PATH_MAX], stage[PATH_MAX];
    fold_text(s->fold, fold);
    int rc = find_pretrained(w, pretrained, err);
    if (rc == VX_OK) {
        rc = vx_stage_root(s, w->in->config, w->in->any_path, stage, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_json json_t *plans = vx_plans_to_json(&w->plans);
    vx_auto_json json_t *recipe = vx_recipe_to_json(w->recipe);
    /* borrowed pointers throughout: this brief lives for the call only and is not released */
    struct vx_brief b = {
        .job_id = w->in->job_id,
        .dir = (char *)w->in->job_dir,
        .dataset = (char *)w->dataset.name,
        .configuration = (char *)c->name,
        .fold = fold,
        .name = (char *)s->results.name,
        .raw_dir = (char *)w->in->raw_dir,
        .cache_dir = (char *)store_dir,
        .results_root = w->in->config->results,
        .device = (char *)s->resources.device,
        .precision = (char *)precision_words[s->precision],
        .replace = s->results.replace,
        .channels = (uint32_t)c->n_channels,
        .classes = (uint32_t)w->dataset.n_labels,
        .patch = {(uint32_t)c->patch_size[0], (uint32_t)c->patch_size[1],
                  (uint32_t)c->patch_size[2]},
        .schedule = {(uint32_t)c->batch_size, (uint32_t)s->training.iterations_per_epoch,
                     (uint32_t)s->training.val_iterations_per_epoch, (uint32_t)s->training.epochs},
        .seed = s->training.seed,
        .learning_rate = s->training.initial_lr,
        .momentum = s->training.momentum,
        .weight_decay = s->training.weight_decay,
        .checkpoint_seconds = s->training.checkpoint_seconds,
        .threads =
            w->in->config->cpu_threads ? (int)w->in->config->cpu_threads : (int)vx_budget_cores(""),
        .nice = CHILD_NICE,
        .spec = w->spec_json,
        .recipe = recipe,
        .plans = plans,
        .dataset_json = w->dataset_json,
        .pretrained = pretrained[0] ? pretrained : NULL,
        .stage_dir = stage[0] ? stage : NULL,
    };
    if (s->type == VX_JOB_BENCHMARK) {
        make_bench(w, &b);
    }
    plan_pool(w, &b);
    return vx_brief_write(path, &b, err);
}

/* A training that began keeps its brief; only the places may have moved with the daemon's folders.
 */
static bool keep_brief(const struct work *w, const char *store_dir, const char *path) {
    struct vx_brief *b = NULL;
    if (w->spec.type == VX_JOB_BENCHMARK || !vx_path_exists(path) ||
        vx_brief_read(path, &b, NULL) != VX_OK) {
        return false;
    }
    bool same = b->job_id == w->in->job_id && strcmp(b->cache_dir, store_dir) == 0 &&
                strcmp(b->dir, w->in->job_dir) == 0 && strcmp(b->raw_dir, w->in->raw_dir) == 0 &&
                strcmp(b->results_root, w->in->config->results) == 0;
    vx_brief_free(b);
    return same;
}

static int write_files(struct work *w, struct vx_resolved *r, struct vx_err *err) {
    vx_auto_json json_t *plans = vx_plans_to_json(&w->plans);
    vx_auto_free char *dataset_path = vx_strf("%s/dataset.json", w->in->job_dir);
    if (!plans || !dataset_path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "writing the plan");
    }
    int rc = vx_json_write_file(r->plans_path, plans, err);
    if (rc == VX_OK) {
        rc = vx_json_write_file(dataset_path, w->dataset_json, err);
    }
    if (rc != VX_OK || r->prepare_only || keep_brief(w, r->store_dir, r->brief_path)) {
        return rc;
    }
    rc = make_split(w, err);
    if (rc == VX_OK) {
        rc = make_recipe(w, err);
    }
    return rc == VX_OK ? write_brief(w, r->store_dir, r->brief_path, err) : rc;
}

static bool same_sources(const struct vx_cache_info *info, const struct vx_cache_source *now,
                         size_t n) {
    bool same = info->n_sources == n;
    for (size_t i = 0; same && i < n; i++) {
        const struct vx_cache_source *old = &info->sources[i];
        same = strcmp(old->path, now[i].path) == 0 && old->size_bytes == now[i].size_bytes &&
               old->mtime_ns == now[i].mtime_ns;
    }
    return same;
}

/* Complete, and made from the files that lie in the raw folder now. Anything that cannot be read
 * counts as "no": the preparation then looks at it again and says what is wrong. */
static bool store_is_current(const struct work *w, const char *store_dir) {
    vx_auto_cache struct vx_cache *cache = NULL;
    bool current = vx_cache_open(store_dir, &cache, NULL) == VX_OK &&
                   strcmp(vx_cache_key_hex(cache), w->key.hex) == 0 && /* no other plan's */
                   vx_cache_n_cases(cache) == w->raw.n_cases;
    for (size_t i = 0; current && i < w->raw.n_cases; i++) {
        const struct vx_rawset_case *c = &w->raw.cases[i];
        struct vx_case_input in = {c->name, w->in->raw_dir, (const char *const *)c->images,
                                   w->raw.n_channels, c->label};
        vx_auto_cache_case struct vx_cache_case *opened = NULL;
        vx_auto_free struct vx_cache_source *sources = NULL;
        size_t n = 0;
        current = vx_cache_case_open(cache, c->name, &opened, NULL) == VX_OK &&
                  vx_case_sources(&in, &sources, &n, NULL) == VX_OK &&
                  same_sources(vx_cache_case_info(opened), sources, n);
    }
    return current;
}

static int find_store(struct work *w, struct vx_resolved *r, struct vx_err *err) {
    int rc = vx_cache_key(&w->plans, w->config, &w->dataset, &w->key, err);
    if (rc != VX_OK) {
        return rc;
    }
    snprintf(r->key, sizeof r->key, "%s", w->key.hex);
    snprintf(r->configuration, sizeof r->configuration, "%s", w->config->name);
    r->store_dir = vx_cache_store_dir(w->dataset_dir, w->key.hex);
    r->dataset_dir = strdup(w->dataset_dir);
    r->brief_path = vx_strf("%s/session.json", w->in->job_dir);
    r->plans_path = vx_strf("%s/plans.json", w->in->job_dir);
    r->prepare_only = w->spec.type == VX_JOB_PREPARE;
    if (!r->store_dir || !r->dataset_dir || !r->brief_path || !r->plans_path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    r->complete = store_is_current(w, r->store_dir);
    return VX_OK;
}

/* A prediction needs no prepared data: it is ready once it is planned. */
static int resolve_prediction(struct work *w, struct vx_resolved *r, struct vx_err *err) {
    r->complete = true;
    return vx_predict_plan(&w->spec, w->in->job_id, w->in->job_dir, w->in->config, &r->brief_path,
                           err);
}

static int resolve_data(struct work *w, struct vx_resolved *r, struct vx_err *err) {
    int (*const steps[])(struct work *, struct vx_err *) = {read_dataset, read_plans,
                                                            apply_overrides, list_cases};
    int rc = VX_OK;
    for (size_t i = 0; rc == VX_OK && i < VX_COUNTOF(steps); i++) {
        rc = steps[i](w, err);
    }
    rc = rc == VX_OK ? find_store(w, r, err) : rc;
    return rc == VX_OK ? write_files(w, r, err) : rc;
}

int vx_resolve(const struct vx_resolve_input *in, struct vx_resolved *ret, struct vx_err *err) {
    struct vx_resolved r = {0};
    struct work *w = calloc(1, sizeof *w); /* plans and data set are large */
    if (!w) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    w->in = in;
    int rc = vx_mkdirs(in->job_dir, 0755, err);
    rc = rc == VX_OK ? read_spec(w, err) : rc;
    if (rc == VX_OK) {
        rc = (w->spec.type == VX_JOB_PREDICT ? resolve_prediction : resolve_data)(w, &r, err);
    }
    vx_recipe_free(w->recipe);
    vx_split_release(&w->split);
    vx_cache_key_release(&w->key);
    vx_rawset_release(&w->raw);
    json_decref(w->dataset_json);
    json_decref(w->spec_json);
    free(w->dataset_dir);
    free(w->names);
    free(w);
    if (rc != VX_OK) {
        vx_resolved_release(&r);
        return rc;
    }
    *ret = r;
    return VX_OK;
}

void vx_resolved_release(struct vx_resolved *r) {
    free(r->store_dir);
    free(r->dataset_dir);
    free(r->brief_path);
    free(r->plans_path);
    memset(r, 0, sizeof *r);
}
