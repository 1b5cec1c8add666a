#include "loader/recipe.h"

#include "augment/policy.h"
#include "base/err.h"
#include "base/own.h"
#include "loader/recipe_json.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CASES 1000000u

static int copy_text(char **to, const char *from) {
    *to = strdup(from);
    return *to ? VX_OK : VX_E_NOMEM;
}

static int copy_array(void *to, const void *from, size_t n, size_t size) {
    void *copy = malloc(n ? n * size : 1);
    if (!copy) {
        return VX_E_NOMEM;
    }
    if (n) {
        memcpy(copy, from, n * size);
    }
    memcpy(to, &copy, sizeof copy);
    return VX_OK;
}

static int copy_cases(struct vx_recipe *r, const struct vx_recipe_params *p) {
    r->cases = calloc(p->n_cases, sizeof *r->cases);
    if (!r->cases) {
        return VX_E_NOMEM;
    }
    r->n_cases = p->n_cases;
    for (size_t i = 0; i < p->n_cases; i++) {
        if (copy_text(&r->cases[i], p->cases[i]) != VX_OK) {
            return VX_E_NOMEM;
        }
    }
    return VX_OK;
}

static int check_indices(const uint32_t *list, size_t n, size_t n_cases, const char *name,
                         struct vx_err *err) {
    for (size_t i = 0; i < n; i++) {
        if (list[i] >= n_cases) {
            return vx_fail(err, VX_E_INVALID, "recipe_case",
                           "%s case number %u of %zu does not exist", name, list[i], n_cases);
        }
    }
    return VX_OK;
}

static int check(const struct vx_recipe_params *p, struct vx_err *err) {
    if (!p->dataset || !p->cache_key || !p->cases || p->n_cases < 1 || p->n_cases > MAX_CASES) {
        return vx_fail(err, VX_E_INVALID, "recipe_cases", "a recipe needs a data set and cases");
    }
    if (p->n_train < 1 || p->batch < 1 || p->batch > 65535) {
        return vx_fail(err, VX_E_INVALID, "recipe_batch",
                       "a recipe needs training cases and a batch of 1 to 65535");
    }
    if (!(p->oversample <= 1)) {
        return vx_fail(err, VX_E_INVALID, "recipe_oversample",
                       "the share of foreground samples cannot be %g", p->oversample);
    }
    if (p->window_cases > 0 && p->window_batches < 1) {
        return vx_fail(err, VX_E_INVALID, "recipe_window",
                       "a window of cases must last for a batch at least");
    }
    int rc = check_indices(p->train, p->n_train, p->n_cases, "training", err);
    if (rc == VX_OK) {
        rc = check_indices(p->val, p->n_val, p->n_cases, "validation", err);
    }
    for (size_t i = 0; rc == VX_OK && i < p->n_quarantines; i++) {
        rc = check_indices(&p->quarantines[i].case_index, 1, p->n_cases, "quarantined", err);
    }
    return rc;
}

static int make_policy(const struct vx_recipe_params *p, struct vx_aug_policy *ret,
                       struct vx_err *err) {
    int rc = VX_OK;
    if (p->policy) {
        *ret = *p->policy;
    } else {
        rc = p->augment == VX_AUG_MODE_NONE
                 ? vx_aug_policy_none(p->dims, p->channels, p->patch, ret)
                 : vx_aug_policy_default(p->dims, p->channels, p->patch, ret);
        if (rc == VX_OK) {
            ret->mask_channels = p->mask_channels;
        }
    }
    if (rc != VX_OK || !vx_aug_policy_valid(ret)) {
        return vx_fail(err, VX_E_INVALID, "recipe_patch",
                       "no samples of %u channels and a patch of %d x %d x %d can be made in %ud",
                       p->channels, p->patch[0], p->patch[1], p->patch[2], p->dims);
    }
    return VX_OK;
}

/* Fills the view and the digest once everything else stands. */
static int finish(struct vx_recipe *r) {
    r->view = (struct vx_recipe_view){
        .dataset = r->dataset,
        .cache_key = r->cache_key,
        .seed = r->seed,
        .cases = (const char *const *)r->cases,
        .n_cases = r->n_cases,
        .train = r->train,
        .val = r->val,
        .n_train = r->n_train,
        .n_val = r->n_val,
        .batch = r->batch,
        .oversample = r->oversample,
        .has_ignore = r->has_ignore,
        .policy = &r->policy,
        .window_cases = r->window_cases,
        .window_batches = r->window_batches,
        .quarantines = r->quarantines,
        .n_quarantines = r->n_quarantines,
        .place = "cpu",
        .digest = r->digest,
    };
    vx_auto_json json_t *json = vx_recipe_to_json(r);
    vx_auto_free char *text = json ? vx_json_canonical(json) : NULL;
    if (!text) {
        return VX_E_NOMEM;
    }
    vx_sha256_hex(text, strlen(text), r->digest);
    return VX_OK;
}

int vx_recipe_create(const struct vx_recipe_params *p, struct vx_recipe **ret, struct vx_err *err) {
    struct vx_aug_policy policy;
    int rc = check(p, err);
    if (rc != VX_OK || (rc = make_policy(p, &policy, err)) != VX_OK) {
        return rc;
    }
    struct vx_recipe *r = calloc(1, sizeof *r);
    if (!r) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory for a recipe");
    }
    r->seed = p->seed;
    r->n_train = p->n_train;
    r->n_val = p->n_val;
    r->n_quarantines = p->n_quarantines;
    r->batch = p->batch;
    r->oversample = p->oversample < 0 ? 0 : p->oversample > 0 ? p->oversample : 0.33;
    r->has_ignore = p->has_ignore;
    r->policy = policy;
    if (p->window_cases > 0 && p->window_cases < p->n_train) { /* a window of all is none */
        r->window_cases = p->window_cases;
        r->window_batches = p->window_batches;
    }
    if (copy_text(&r->dataset, p->dataset) != VX_OK ||
        copy_text(&r->cache_key, p->cache_key) != VX_OK || copy_cases(r, p) != VX_OK ||
        copy_array(&r->train, p->train, p->n_train, sizeof *p->train) != VX_OK ||
        copy_array(&r->val, p->val, p->n_val, sizeof *p->val) != VX_OK ||
        copy_array(&r->quarantines, p->quarantines, p->n_quarantines, sizeof *p->quarantines) !=
            VX_OK ||
        finish(r) != VX_OK) {
        vx_recipe_free(r);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory for a recipe");
    }
    *ret = r;
    return VX_OK;
}

int vx_recipe_with(const struct vx_recipe *r, const struct vx_quarantine *quarantines, size_t n,
                   struct vx_recipe **ret, struct vx_err *err) {
    struct vx_recipe_params p = {
        .dataset = r->dataset,
        .cache_key = r->cache_key,
        .seed = r->seed,
        .cases = (const char *const *)r->cases,
        .n_cases = r->n_cases,
        .train = r->train,
        .n_train = r->n_train,
        .val = r->val,
        .n_val = r->n_val,
        .batch = r->batch,
        .oversample = r->oversample > 0 ? r->oversample : -1,
        .has_ignore = r->has_ignore,
        .policy = &r->policy,
        .window_cases = r->window_cases,
        .window_batches = r->window_batches,
        .quarantines = quarantines,
        .n_quarantines = n,
    };
    return vx_recipe_create(&p, ret, err);
}

struct vx_recipe *vx_recipe_free(struct vx_recipe *r) {
    if (r) {
        for (size_t i = 0; i < r->n_cases; i++) {
            free(r->cases[i]);
        }
        free(r->cases);
        free(r->dataset);
        free(r->cache_key);
        free(r->train);
        free(r->val);
        free(r->quarantines);
        free(r);
    }
    return NULL;
}

const struct vx_recipe_view *vx_recipe_view(const struct vx_recipe *r) {
    return &r->view;
}
