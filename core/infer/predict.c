#include "infer/predict.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/cache.h"
#include "infer/ensemble.h"
#include "infer/export.h"
#include "infer/model.h"
#include "infer/pipeline.h"
#include "infer/probabilities.h"
#include "infer/stamp.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "prepare/case.h"
#include "volume/nifti.h"
#include "volume/rawset.h"
#include "volume/volume.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_MAX_LOGIT_BYTES (16ull << 30)
#define MAX_JSON_BYTES          ((size_t)64 << 20)

/* Bytes of exporting, beside the logits (export.h, probabilities.h), for each voxel of the file. */
enum { LABEL_BYTES = 8, PROBABILITY_BYTES = 20 };

struct run {
    const struct vx_predict_options *o;
    struct vx_case_recipe recipe;
    int classes;
    size_t *todo; /* indices into raw's cases */
    size_t n_todo, n_kept;
    size_t n_told;    /* news given */
    const char *name; /* of the case in the network */
    int lock_fd;      /* of out_dir */
};

/* A case between two stages. */
struct load {
    struct vx_prepared prepared;
    float *logits; /* owned; [classes][Z][Y][X] */
    double seconds_prepare, seconds_network;
};

static void drop_load(void *arg) {
    struct load *l = arg;
    vx_prepared_release(&l->prepared);
    free(l->logits);
    free(l);
}

static double seconds_since(uint64_t start) {
    return (double)(vx_now_ns() - start) * 1e-9;
}

static struct vx_case_input input_of(const struct run *r, size_t i) {
    const struct vx_rawset_case *c = &r->o->raw->cases[i];
    return (struct vx_case_input){.name = c->name,
                                  .images = (const char *const *)c->images,
                                  .n_images = r->o->raw->n_channels};
}

static char *output_path(const struct run *r, size_t i, const char *ending) {
    return vx_strf("%s/%s%s", r->o->out_dir, r->o->raw->cases[i].name, ending);
}

static void tell(struct run *r, const struct vx_predict_news *news) {
    struct vx_predict_news n = *news;
    n.done = ++r->n_told;
    n.total = r->o->raw->n_cases;
    if (r->o->news) {
        r->o->news(r->o->context, &n);
    }
}

/* --- stages --- */

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t cost_of(void *ctx, size_t item) {
    const struct run *r = ctx;
    struct vx_case_input in = input_of(r, r->todo[item]);
    uint64_t preparing = 0, voxels = 0, raw = 0;
    struct vx_nifti_info info;
    /* an unreadable header: preparing will say so */
    vx_case_estimate(&in, &r->recipe, &preparing, &voxels, NULL);
    if (vx_nifti_read_header(in.images[0], &info, NULL) == VX_OK) {
        raw = (uint64_t)vx_shape_count(info.shape);
    }
    uint64_t logits = voxels * (uint64_t)r->classes * sizeof(float);
    uint64_t image = voxels * (uint64_t)in.n_images * sizeof(float);
    uint64_t exporting = raw * (r->o->probabilities ? PROBABILITY_BYTES : LABEL_BYTES);
    return larger(preparing, logits + larger(image, exporting));
}

static int check_size(const struct run *r, const struct vx_cache_info *info, struct vx_err *err) {
    uint64_t limit = r->o->max_logit_bytes ? r->o->max_logit_bytes : DEFAULT_MAX_LOGIT_BYTES;
    uint64_t need = (uint64_t)vx_shape_count(info->shape) * sizeof(float) * (uint64_t)r->classes;
    return need <= limit
               ? VX_OK
               : vx_fail(err, VX_E_LIMIT, "logits_too_large",
                         "logits of %d classes on %lld x %lld x %lld voxels need %llu bytes, the "
                         "limit is %llu",
                         r->classes, (long long)info->shape[0], (long long)info->shape[1],
                         (long long)info->shape[2], (unsigned long long)need,
                         (unsigned long long)limit);
}

static int prepare(void *ctx, size_t item, void **ret_load, struct vx_err *err) {
    struct run *r = ctx;
    uint64_t start = vx_now_ns();
    struct vx_case_input in = input_of(r, r->todo[item]);
    struct load *l = calloc(1, sizeof *l);
    int rc = l ? vx_case_make(&in, &r->recipe, &l->prepared, err)
               : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    if (rc == VX_OK) {
        rc = check_size(r, l->prepared.info, err);
    }
    if (rc != VX_OK) {
        if (l) {
            drop_load(l);
        }
        vx_err_prefix(err, "case %s", in.name);
        return rc;
    }
    l->seconds_prepare = seconds_since(start);
    *ret_load = l;
    return VX_OK;
}

static int on_tick(void *context, int64_t done, int64_t total) {
    const struct run *r = context;
    if (r->o->tick) {
        r->o->tick(r->o->context, r->name, done, total);
    }
    return r->o->stop && atomic_load(r->o->stop) ? 1 : 0;
}

static int network(void *ctx, size_t item, void *load, struct vx_err *err) {
    struct run *r = ctx;
    struct load *l = load;
    uint64_t start = vx_now_ns();
    const int64_t *shape = l->prepared.info->shape;
    r->name = r->o->raw->cases[r->todo[item]].name;
    l->logits = malloc((size_t)(r->classes * vx_shape_count(shape)) * sizeof *l->logits);
    int rc = l->logits ? vx_ensemble_run(r->o->ensemble, l->prepared.image, shape, l->logits,
                                         on_tick, r, err)
                       : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the logits");
    if (rc != VX_OK) {
        vx_err_prefix(err, "case %s", r->name);
        return rc;
    }
    free(vx_steal(l->prepared.image));
    l->seconds_network = seconds_since(start);
    return VX_OK;
}

static int export_case(const struct run *r, size_t i, const struct load *l,
                       const struct vx_geometry *geo, struct vx_err *err) {
    const struct vx_cache_info *info = l->prepared.info;
    const int *forward = r->recipe.plans->transpose_forward;
    vx_auto_labelmap struct vx_labelmap labels = {0};
    vx_auto_free char *prefix = output_path(r, i, ""),
                      *path = output_path(r, i, r->recipe.dataset->file_ending);
    if (!prefix || !path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc;
    if (r->o->probabilities) {
        rc = vx_probability_files(prefix, l->logits, r->classes, info, forward, geo, &labels, err);
    } else {
        struct vx_export_grid grid;
        vx_export_grid_of_case(info, forward, &grid);
        rc = vx_export_labels(l->logits, r->classes, info->shape, &grid, geo, &labels, err);
    }
    return rc == VX_OK ? vx_nifti_write_labels(path, &labels, err) : rc;
}

static int finish(void *ctx, size_t item, void *load, struct vx_err *err) {
    struct run *r = ctx;
    struct load *l = load;
    uint64_t start = vx_now_ns();
    size_t i = r->todo[item];
    struct vx_geometry geo;
    int rc = vx_geometry_from_json(l->prepared.info->geometry, &geo, err);
    rc = rc == VX_OK ? export_case(r, i, l, &geo, err) : rc;
    if (rc != VX_OK) {
        vx_err_prefix(err, "case %s", r->o->raw->cases[i].name);
        return rc;
    }
    struct vx_predict_news news = {.name = r->o->raw->cases[i].name,
                                   .seconds_prepare = l->seconds_prepare,
                                   .seconds_network = l->seconds_network,
                                   .seconds_export = seconds_since(start)};
    tell(r, &news);
    return VX_OK;
}

/* --- what an earlier run left --- */

static const char *const endings[] = {".npz", ".pkl"};

static int remove_outputs(const struct run *r, size_t i, struct vx_err *err) {
    int rc = VX_OK;
    for (size_t k = 0; rc == VX_OK && k <= VX_COUNTOF(endings); k++) {
        const char *ending = k ? endings[k - 1] : r->recipe.dataset->file_ending; /* first */
        vx_auto_free char *path = output_path(r, i, ending);
        rc = path ? vx_remove_tree(path, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return rc;
}

/* Unfinished files of a process that was killed: CASE.ENDING.tmp.PID. */
static void sweep(const struct run *r) {
    DIR *dir = opendir(r->o->out_dir);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        bool ours = false;
        for (size_t i = 0; strstr(e->d_name, ".tmp.") && !ours && i < r->o->raw->n_cases; i++) {
            const char *name = r->o->raw->cases[i].name;
            ours = strncmp(e->d_name, name, strlen(name)) == 0 && e->d_name[strlen(name)] == '.';
        }
        if (ours) {
            unlinkat(dirfd(dir), e->d_name, 0); /* a leftover that stays does no harm */
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* Files of our names in a folder that never had predictions of ours may be somebody's labels. */
static int check_foreign(const struct run *r, struct vx_err *err) {
    bool ours = vx_stamp_any(r->o->out_dir);
    for (size_t i = 0; !ours && i < r->o->raw->n_cases; i++) {
        vx_auto_free char *path = output_path(r, i, r->recipe.dataset->file_ending);
        if (path && vx_path_exists(path)) {
            vx_fail(err, VX_E_EXISTS, "output_exists",
                    "%s was not predicted by voxeld and would be overwritten; give the predictions "
                    "another folder",
                    path);
            return vx_err_at(err, "%s", r->o->out_dir);
        }
    }
    return VX_OK;
}

/* The folder is this process's, and its stamp this model's, from here on. */
static int claim(struct run *r, struct vx_err *err) {
    char stamp[VX_SHA256_HEX];
    int rc = vx_ensemble_stamp(r->o->ensemble, stamp, err);
    rc = rc == VX_OK ? check_foreign(r, err) : rc;
    rc = rc == VX_OK ? vx_mkdirs(r->o->out_dir, 0777, err) : rc;
    rc = rc == VX_OK ? vx_stamp_hold(r->o->out_dir, &r->lock_fd, err) : rc;
    if (rc != VX_OK) {
        return rc;
    }
    sweep(r);
    if (vx_stamp_is(r->o->out_dir, stamp)) {
        return VX_OK;
    }
    for (size_t i = 0; rc == VX_OK && i < r->o->raw->n_cases; i++) {
        rc = remove_outputs(r, i, err);
    }
    return rc == VX_OK ? vx_stamp_write(r->o->out_dir, stamp, err) : rc;
}

static int copy_file(const char *from, const char *dir, const char *name, struct vx_err *err) {
    vx_auto_free char *to = vx_strf("%s/%s", dir, name), *text = NULL;
    size_t len = 0;
    int rc = to ? vx_read_file(from, MAX_JSON_BYTES, &text, &len, err)
                : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    return rc == VX_OK ? vx_write_file_atomic(to, text, len, 0666, err) : rc;
}

static int write_words(const struct run *r, struct vx_err *err) {
    const struct vx_predict_options *o = r->o;
    vx_auto_free char *args = vx_strf("%s/predict_args.json", o->out_dir);
    int rc = copy_file(o->model->dataset_path, o->out_dir, "dataset.json", err);
    rc = rc == VX_OK ? copy_file(o->model->plans_path, o->out_dir, "plans.json", err) : rc;
    if (rc == VX_OK) {
        rc = args ? vx_json_write_file(args, o->args, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return rc;
}

static bool newer(const char *path, const struct vx_rawset_case *c, int n_channels) {
    struct stat out, in;
    bool ok = stat(path, &out) == 0;
    for (int k = 0; ok && k < n_channels; k++) {
        ok = stat(c->images[k], &in) == 0 && (out.st_mtim.tv_sec > in.st_mtim.tv_sec ||
                                              (out.st_mtim.tv_sec == in.st_mtim.tv_sec &&
                                               out.st_mtim.tv_nsec >= in.st_mtim.tv_nsec));
    }
    return ok;
}

static bool is_whole(const struct run *r, size_t i) {
    const struct vx_rawset_case *c = &r->o->raw->cases[i];
    vx_auto_free char *path = output_path(r, i, r->recipe.dataset->file_ending);
    if (!path || !newer(path, c, r->o->raw->n_channels)) {
        return false;
    }
    for (size_t k = 0; r->o->probabilities && k < VX_COUNTOF(endings); k++) {
        vx_auto_free char *other = output_path(r, i, endings[k]);
        if (!other || !vx_path_exists(other)) {
            return false;
        }
    }
    struct vx_nifti_info info;
    vx_auto_labelmap struct vx_labelmap labels = {0};
    return vx_nifti_read_header(c->images[0], &info, NULL) == VX_OK &&
           vx_nifti_read_labels(path, NULL, &labels, NULL) == VX_OK &&
           memcmp(info.shape, labels.shape, sizeof info.shape) == 0;
}

static int find_todo(struct run *r, struct vx_err *err) {
    size_t n = r->o->raw->n_cases;
    r->todo = calloc(n + 1, sizeof *r->todo);
    if (!r->todo) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        if (r->o->keep && is_whole(r, i)) {
            r->n_kept++;
            tell(r, &(struct vx_predict_news){.name = r->o->raw->cases[i].name, .kept = true});
        } else {
            r->todo[r->n_todo++] = i;
        }
    }
    return VX_OK;
}

int vx_predict(const struct vx_predict_options *o, struct vx_predict_result *ret,
               struct vx_err *err) {
    struct run r = {.o = o,
                    .recipe = {o->model->plans, o->model->config, o->model->dataset},
                    .classes = vx_ensemble_classes(o->ensemble),
                    .lock_fd = -1};
    int rc = claim(&r, err);
    rc = rc == VX_OK ? write_words(&r, err) : rc;
    rc = rc == VX_OK ? find_todo(&r, err) : rc;
    if (rc == VX_OK) {
        struct vx_pipeline pipeline = {.n_items = r.n_todo,
                                       .memory_bytes = o->memory_bytes,
                                       .cost = cost_of,
                                       .first = prepare,
                                       .second = network,
                                       .third = finish,
                                       .drop = drop_load,
                                       .stop = o->stop,
                                       .ctx = &r};
        rc = vx_pipeline_run(&pipeline, err);
    }
    free(r.todo);
    vx_own_close(&r.lock_fd);
    if (rc == VX_OK) {
        *ret = (struct vx_predict_result){.n_cases = o->raw->n_cases, .n_kept = r.n_kept};
    }
    return rc;
}
