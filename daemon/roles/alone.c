/* See alone.h. */
#include "daemon/roles/alone.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/plans_source.h"
#include "daemon/roles/build.h"
#include "daemon/roles/examine.h"

#include <stdio.h>
#include <string.h>

static const char *env(const char *name) {
    return getenv(name);
}

int vx_alone_config(struct vx_alone *a, int argc, char **argv, const char *usage) {
    struct vx_err err = {0};
    int rc = vx_config_load(argc, argv, env, &a->config, &err);
    if (rc == VX_OK) {
        rc = vx_config_finish_serve(&a->config, &err);
    }
    if (rc != VX_OK) {
        fprintf(stderr, "voxeld %s: %s\n%s", argv[0], err.text, usage);
        return 2;
    }
    return 0;
}

/* Of the spec less the keys that do not count, and of the plan of people's own. */
static int digest_of(const struct vx_alone *a, const char *const *apart, char ret[VX_SHA256_HEX],
                     struct vx_err *err) {
    vx_auto_free char *dir = vx_strf("%s/%s", a->config.preprocessed, a->spec.dataset);
    vx_auto_free char *path = dir ? vx_plans_path(dir, a->spec.plans) : NULL;
    vx_auto_json json_t *spec = json_copy(a->spec_json);
    for (; spec && *apart; apart++) {
        json_object_del(spec, *apart);
    }
    vx_auto_free char *text = spec ? vx_json_canonical(spec) : NULL;
    vx_auto_free char *plans = NULL, *both = NULL;
    if (!path || !text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    if (vx_path_exists(path)) {
        int rc = vx_read_file(path, 64u << 20, &plans, NULL, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    both = vx_strf("%s%s", text, plans ? plans : "");
    if (!both) {
        return vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    vx_sha256_hex(both, strlen(both), ret);
    return VX_OK;
}

int vx_alone_spec(struct vx_alone *a, const json_t *json, const char *where, enum vx_job_type type,
                  const char *const *apart, struct vx_err *err) {
    struct vx_json_problems problems = {0};
    if (vx_spec_parse(json, &a->spec, &problems) != VX_OK) {
        vx_fail(err, VX_E_INVALID, "spec_invalid", "%s: %s", where, problems.list[0].text);
        return vx_err_at(err, "%s", problems.list[0].pointer);
    }
    if (a->spec.type != type) {
        vx_fail(err, VX_E_INVALID, "type_unsupported", "%s: this verb runs jobs of type %s", where,
                vx_job_type_word(type));
        return vx_err_at(err, "/type");
    }
    a->spec_json = vx_spec_to_json(&a->spec);
    a->spec_text = a->spec_json ? vx_json_canonical(a->spec_json) : NULL;
    char digest[VX_SHA256_HEX];
    int rc = a->spec_text ? digest_of(a, apart, digest, err)
                          : vx_fail(err, VX_E_NOMEM, NULL, "%s", where);
    if (rc != VX_OK) {
        return rc;
    }
    a->raw_dir = vx_strf("%s/%s", a->config.data, a->spec.dataset);
    a->job_dir = vx_strf("%s/%s/%.16s", a->config.state, vx_job_type_word(type), digest);
    return a->raw_dir && a->job_dir ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "%s", where);
}

/* Plan and fingerprint of an earlier run are kept: planning means reading every volume. */
static int find_plans(struct vx_alone *a, atomic_bool *stop, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/planned.json", a->job_dir);
    vx_auto_json json_t *both = NULL;
    if (path && vx_path_exists(path)) {
        int rc = vx_json_load_file(path, 64u << 20, &both, err);
        a->plans = json_incref(json_object_get(both, "plans"));
        a->fingerprint = json_incref(json_object_get(both, "fingerprint"));
        if (rc != VX_OK || (a->plans && a->fingerprint)) {
            return rc;
        }
    }
    struct vx_examination x = {0};
    int rc = path ? vx_mkdirs(a->job_dir, 0755, err) : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    if (rc == VX_OK) {
        rc = vx_examine(a->raw_dir, 0, true, stop, &x, err);
    }
    if (rc == VX_OK && !x.valid) {
        rc = vx_fail(err, VX_E_INVALID, x.code, "%s; voxeld verify lists every problem", x.message);
    }
    if (rc == VX_OK) {
        a->plans = json_incref(x.plans);
        a->fingerprint = json_incref(x.fingerprint);
        json_decref(both);
        both = json_pack("{s:O, s:O}", "plans", a->plans, "fingerprint", a->fingerprint);
        rc =
            both ? vx_json_write_file(path, both, err) : vx_fail(err, VX_E_NOMEM, NULL, "planning");
    }
    vx_examination_release(&x);
    return rc;
}

int vx_alone_prepare(struct vx_alone *a, atomic_bool *stop, struct vx_err *err) {
    int found = find_plans(a, stop, err);
    if (found != VX_OK) {
        return found;
    }
    vx_auto_free char *plans_text = json_dumps(a->plans, JSON_COMPACT);
    vx_auto_free char *print_text = json_dumps(a->fingerprint, JSON_COMPACT);
    struct vx_resolve_input in = {
        0,          a->spec_text, a->job_dir,
        a->raw_dir, plans_text,   print_text,
        &a->config, true,         strncmp(a->spec.resources.device, "cuda", 4) == 0};
    int rc = vx_resolve(&in, &a->resolved, err);
    if (rc != VX_OK || a->resolved.complete) {
        return rc;
    }
    vx_auto_json json_t *plans = NULL;
    vx_auto_free char *store = NULL;
    rc = vx_json_load_file(a->resolved.plans_path, 64u << 20, &plans, err);
    if (rc == VX_OK) {
        struct vx_build b = {a->raw_dir,
                             a->resolved.dataset_dir,
                             plans,
                             a->resolved.configuration,
                             (int)a->config.prepare_processes,
                             stop};
        rc = vx_build_store(&b, &store, err);
    }
    return rc;
}

void vx_alone_release(struct vx_alone *a) {
    vx_resolved_release(&a->resolved);
    json_decref(a->plans);
    json_decref(a->fingerprint);
    json_decref(a->spec_json);
    free(a->spec_text);
    free(a->raw_dir);
    free(a->job_dir);
    vx_config_release(&a->config);
}
