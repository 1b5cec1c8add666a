/* See build.h. */
#include "daemon/roles/build.h"

#include "base/budget.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "cache/build.h"
#include "cache/cache.h"
#include "cache/key.h"
#include "daemon/roles/crew.h"
#include "daemon/roles/say.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "prepare/case.h"
#include "volume/rawset.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct building {
    const struct vx_build *b;
    struct vx_dataset_desc dataset;
    json_t *dataset_json;
    struct vx_plans plans;
    const struct vx_plan_config *config;
    struct vx_rawset raw;
    struct vx_cache_key key;
    struct vx_cache_builder *builder;
    int64_t patch[3]; /* that the cases of the store are shaped for already; 0: the plan's */
    struct vx_cache_member *members; /* in the order of raw */
    struct vx_cache_source **sources;
    size_t *todo; /* indices of cases that are not whole yet */
    size_t n_todo;
};

static int load(struct building *s, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/dataset.json", s->b->raw_dir);
    int rc = path ? vx_dataset_load(s->b->raw_dir, &s->dataset, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "preparing");
    if (rc == VX_OK) {
        rc = vx_json_load_file(path, 64u << 20, &s->dataset_json, err);
    }
    if (rc == VX_OK) {
        rc = vx_plans_from_json(s->b->plans, &s->plans, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    s->config = vx_plans_config(&s->plans, s->b->configuration);
    if (!s->config) {
        return vx_fail(err, VX_E_NOT_FOUND, "unknown_configuration",
                       "the plan has no configuration \"%s\"", s->b->configuration);
    }
    struct vx_rawset_options options = {.dir = s->b->raw_dir,
                                        .file_ending = s->dataset.file_ending,
                                        .n_channels = s->dataset.n_channels,
                                        .mapping = json_object_get(s->dataset_json, "dataset")};
    rc = vx_rawset_list(&options, &s->raw, err);
    return rc == VX_OK ? vx_cache_key(&s->plans, s->config, &s->dataset, &s->key, err) : rc;
}

static struct vx_case_input input_of(const struct building *s, size_t i) {
    const struct vx_rawset_case *c = &s->raw.cases[i];
    return (struct vx_case_input){c->name, s->b->raw_dir, (const char *const *)c->images,
                                  s->raw.n_channels, c->label};
}

static int find_member(struct building *s, size_t i, struct vx_err *err) {
    struct vx_case_input in = input_of(s, i);
    struct vx_cache_member *m = &s->members[i];
    int rc = vx_case_sources(&in, &s->sources[i], &m->n_sources, err);
    m->name = s->raw.cases[i].name;
    m->sources = s->sources[i];
    return rc;
}

static int make_lists(struct building *s, struct vx_err *err) {
    size_t n = s->raw.n_cases;
    s->members = calloc(n + 1, sizeof *s->members);
    s->sources = calloc(n + 1, sizeof *s->sources);
    s->todo = calloc(n + 1, sizeof *s->todo);
    return s->members && s->sources && s->todo ? VX_OK
                                               : vx_fail(err, VX_E_NOMEM, NULL, "preparing");
}

static int find_members(struct building *s, struct vx_err *err) {
    if (s->raw.n_problems > 0) {
        vx_fail(err, VX_E_INVALID, s->raw.problems[0].code, "%s: %s", s->raw.problems[0].name,
                s->raw.problems[0].text);
        return vx_err_at(err, "%s", s->b->raw_dir);
    }
    for (size_t i = 0; i < s->raw.n_cases; i++) {
        int rc = find_member(s, i, err);
        if (rc != VX_OK) {
            return rc;
        }
        if (!vx_cache_build_has_case(s->builder, &s->members[i])) {
            s->todo[s->n_todo++] = i;
        }
    }
    return VX_OK;
}

/* Another process that builds the same store does our work: wait for it. */
static int own_store(struct building *s, struct vx_err *err) {
    for (;;) {
        int rc = vx_cache_build_open(s->b->dataset_dir, s->key.hex, s->key.text, &s->builder, err);
        if (rc != VX_E_BUSY) {
            return rc;
        }
        if (s->b->stop && atomic_load(s->b->stop)) {
            return vx_fail(err, VX_E_CANCELLED, "stopped",
                           "stopped while another process prepared the data");
        }
        struct timespec nap = {0, 500000000};
        nanosleep(&nap, NULL);
    }
}

/* --- cases --- */

static uint64_t cost_of(void *ctx, size_t item) {
    struct building *s = ctx;
    struct vx_case_input in = input_of(s, s->todo[item]);
    struct vx_case_recipe recipe = {&s->plans, s->config, &s->dataset};
    uint64_t memory = 0;
    vx_case_estimate(&in, &recipe, &memory, NULL,
                     NULL); /* an unreadable header: the work itself will say so */
    return memory;
}

/* Case i of the data set, prepared and written below dir. patch: the size its chunks are shaped
 * for; NULL: the plan's. */
static int write_case(struct building *s, size_t i, const char *dir, const int64_t patch[3],
                      struct vx_err *err) {
    struct vx_case_input in = input_of(s, i);
    struct vx_case_recipe recipe = {&s->plans, s->config, &s->dataset};
    struct vx_prepared prepared = {0};
    int rc = vx_case_make(&in, &recipe, &prepared, err);
    if (rc == VX_OK) {
        struct vx_plan_config config = *s->config;
        for (int a = 0; patch && a < 3; a++) {
            config.patch_size[a] = (int)patch[a];
        }
        rc = vx_case_store(dir, &prepared, &config, NULL, err);
        vx_prepared_release(&prepared);
    }
    if (rc != VX_OK) {
        vx_err_prefix(err, "case %s", in.name);
    }
    return rc;
}

static int make_case(void *ctx, size_t item, struct vx_err *err) {
    struct building *s = ctx;
    bool known = s->patch[0] > 0;
    return write_case(s, s->todo[item], vx_cache_build_dir(s->builder), known ? s->patch : NULL,
                      err);
}

/* What joins a store, or is made again in it, is cut like the rest of it, whatever patch this job
 * trains with: a case made again is then what it was, byte for byte. */
static void follow_store(struct building *s) {
    vx_auto_cache struct vx_cache *cache = NULL;
    if (vx_cache_open(vx_cache_build_dir(s->builder), &cache, NULL) == VX_OK) {
        vx_cache_patch(cache, NULL, s->patch);
    }
}

static void say_progress(const struct building *s, size_t n_done) {
    size_t kept = s->raw.n_cases - s->n_todo;
    vx_say(json_pack("{s:s, s:I, s:I}", "event", "progress", "done", (json_int_t)(kept + n_done),
                     "total", (json_int_t)s->raw.n_cases));
}

static void made_case(void *ctx, size_t n_done) {
    say_progress(ctx, n_done);
}

static void release(struct building *s) {
    vx_cache_build_close(s->builder);
    for (size_t i = 0; s->sources && i < s->raw.n_cases; i++) {
        free(s->sources[i]);
    }
    free(s->sources);
    free(s->members);
    free(s->todo);
    vx_cache_key_release(&s->key);
    vx_rawset_release(&s->raw);
    json_decref(s->dataset_json);
    free(s);
}

static int build(struct building *s, struct vx_err *err) {
    int rc = load(s, err);
    if (rc == VX_OK) {
        rc = own_store(s, err);
    }
    if (rc == VX_OK) {
        rc = make_lists(s, err);
    }
    if (rc == VX_OK) {
        rc = find_members(s, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    follow_store(s);
    say_progress(s, 0);
    struct vx_crew crew = {.n_items = s->n_todo,
                           .threads = s->b->threads ? s->b->threads : (int)vx_budget_cores(""),
                           .memory_bytes = vx_budget_memory_share(),
                           .cost = cost_of,
                           .work = make_case,
                           .done = made_case,
                           .stop = s->b->stop,
                           .ctx = s};
    rc = vx_crew_run(&crew, err);
    return rc == VX_OK ? vx_cache_build_commit(s->builder, s->members, s->raw.n_cases, err) : rc;
}

int vx_build_store(const struct vx_build *b, char **ret_store, struct vx_err *err) {
    struct building *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "preparing");
    }
    s->b = b;
    int rc = build(s, err);
    if (rc == VX_OK) {
        *ret_store = strdup(vx_cache_build_dir(s->builder));
        rc = *ret_store ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "preparing");
    }
    release(s);
    return rc;
}

/* --- one case again --- */

/* ctx: struct building; the case is the one in todo */
static int remake_case(void *ctx, const char *dir, const int64_t patch[3], struct vx_err *err) {
    struct building *s = ctx;
    bool known = patch[0] > 0;
    return write_case(s, s->todo[0], dir, known ? patch : NULL, err);
}

static int repair(struct building *s, const char *name, bool *ret_made, struct vx_err *err) {
    int rc = load(s, err);
    if (rc == VX_OK) {
        rc = make_lists(s, err);
    }
    size_t i = 0;
    while (rc == VX_OK && i < s->raw.n_cases && strcmp(s->raw.cases[i].name, name) != 0) {
        i++;
    }
    if (rc == VX_OK && i == s->raw.n_cases) {
        rc = vx_fail(err, VX_E_NOT_FOUND, "unknown_case", "%s has no case %s", s->b->raw_dir, name);
    }
    if (rc == VX_OK) {
        rc = find_member(s, i, err);
    }
    if (rc == VX_OK) {
        rc = own_store(s, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    s->todo[0] = i;
    s->n_todo = 1;
    return vx_cache_build_repair(s->builder, &s->members[i], remake_case, s, ret_made, err);
}

int vx_build_repair(const struct vx_build *b, const char *case_name, bool *ret_made,
                    struct vx_err *err) {
    struct building *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "preparing");
    }
    s->b = b;
    int rc = repair(s, case_name, ret_made, err);
    release(s);
    return rc;
}
