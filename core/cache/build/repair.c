/* One case of a complete store made again. The new folder is written beside the others, compared
 * with what the manifest lists, and only then put in the place of the damaged one: case.json holds
 * the CRC-32C of every file, so equal case.json means equal bytes. */
#include "cache/build.h"
#include "cache/cache.h"
#include "cache/meta.h"
#include "cache/store.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <string.h>

#define MAX_CASE_JSON_BYTES ((size_t)64 << 20)

/* The folder below cases/ in which the case is made again; swept by vx_cache_build_open. */
#define SCRATCH ".tmp-repair"

static int find_entry(const struct vx_cache *cache, const struct vx_cache_member *m,
                      const struct vx_cache_entry **ret, struct vx_err *err) {
    vx_auto_free char *folder = NULL;
    const struct vx_cache_entry *entry = vx_cache_find(cache, m->name);
    if (!entry) {
        return vx_fail(err, VX_E_NOT_FOUND, "unknown_case", "%s has no case %s",
                       vx_cache_dir(cache), m->name);
    }
    int rc = vx_cache_case_folder(m->name, m->sources, m->n_sources, &folder, err);
    if (rc == VX_OK && strcmp(folder, entry->folder) != 0) {
        rc = vx_fail(err, VX_E_STATE, "source_changed",
                     "case %s was prepared from files that have changed since; prepare the data "
                     "set again",
                     m->name);
    }
    if (rc == VX_OK) {
        *ret = entry;
    }
    return rc;
}

/* Is what was made what the manifest lists? */
static int compare(const char *folder, const struct vx_cache_entry *entry, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/case.json", folder);
    vx_auto_free char *text = NULL;
    size_t len = 0;
    char hex[VX_SHA256_HEX];
    int rc = path ? vx_read_file(path, MAX_CASE_JSON_BYTES, &text, &len, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    if (rc != VX_OK) {
        return rc;
    }
    vx_sha256_hex(text, len, hex);
    if (strcmp(hex, entry->sha256) != 0) {
        return vx_fail(err, VX_E_STATE, "repair_differs",
                       "case %s, made again from the same files, is not what it was: another "
                       "version of voxeld prepared the set; prepare it again",
                       entry->name);
    }
    return VX_OK;
}

void vx_cache_patch(struct vx_cache *cache, const char *name, int64_t ret[3]) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    memset(ret, 0, 3 * sizeof *ret);
    int rc = name ? vx_cache_case_open(cache, name, &c, NULL) : VX_E_NOT_FOUND;
    for (size_t i = 0; rc != VX_OK && i < vx_cache_n_cases(cache); i++) {
        rc = vx_cache_case_open(cache, vx_cache_case_name(cache, i), &c, NULL);
    }
    if (rc == VX_OK) {
        memcpy(ret, vx_cache_case_info(c)->patch, 3 * sizeof *ret);
    }
}

static int remake(const char *dir, const struct vx_cache_entry *entry, const int64_t patch[3],
                  vx_cache_make_fn *make, void *ctx, struct vx_err *err) {
    vx_auto_free char *cases = vx_strf("%s/cases", dir);
    const char *key = strrchr(dir, '/') + 1; /* a case says which store it was made for */
    vx_auto_free char *scratch = vx_strf("%s/cases/" SCRATCH, dir);
    vx_auto_free char *store = vx_strf("%s/cases/" SCRATCH "/%s", dir, key);
    vx_auto_free char *below = vx_strf("%s/cases/" SCRATCH "/%s/cases", dir, key);
    vx_auto_free char *made = vx_strf("%s/cases/" SCRATCH "/%s/cases/%s", dir, key, entry->folder);
    vx_auto_free char *final = vx_strf("%s/cases/%s", dir, entry->folder);
    if (!cases || !scratch || !store || !below || !made || !final) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = vx_remove_tree(scratch, err);
    if (rc == VX_OK) {
        rc = vx_mkdirs(below, 0755, err);
    }
    if (rc == VX_OK) {
        rc = make(ctx, store, patch, err);
    }
    if (rc == VX_OK) {
        rc = compare(made, entry, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_publish(cases, made, final, err);
    }
    vx_remove_tree(scratch, NULL);
    return rc;
}

int vx_cache_build_repair(struct vx_cache_builder *b, const struct vx_cache_member *m,
                          vx_cache_make_fn *make, void *ctx, bool *ret_made, struct vx_err *err) {
    vx_auto_cache struct vx_cache *cache = NULL;
    const struct vx_cache_entry *entry = NULL;
    struct vx_err damage = {0};
    int rc = vx_cache_open(vx_cache_build_dir(b), &cache, err);
    if (rc == VX_OK) {
        rc = find_entry(cache, m, &entry, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_cache_verify_case(cache, m->name, &damage);
    if (rc == VX_OK || rc == VX_E_NOMEM) {
        *ret_made = false;
        return rc == VX_OK ? VX_OK : vx_fail(err, rc, NULL, "%s", damage.text);
    }
    int64_t patch[3];
    vx_cache_patch(cache, m->name, patch);
    rc = remake(vx_cache_dir(cache), entry, patch, make, ctx, err);
    if (rc == VX_OK) {
        *ret_made = true;
    }
    return rc;
}
