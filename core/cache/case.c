/* One opened case: its arrays, boxes out of them, foreground locations, the check of every byte. */
#include "cache/cache.h"
#include "cache/store.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <string.h>

#define MAX_CASE_JSON_BYTES ((size_t)64 << 20)

static bool has_file(const struct vx_cache_layout *a) {
    return a->present && a->shard.n_chunks > 0;
}

/* Adds the file to an error that came from reading it. */
static int in_file(const struct vx_cache_file *f, int rc, struct vx_err *err) {
    if (rc != VX_OK) {
        vx_err_prefix(err, "%s", f->path);
        vx_err_at(err, "%s", f->path);
    }
    return rc;
}

static int load_index(struct vx_cache *store, struct vx_cache_file *f, struct vx_err *err) {
    f->entries = calloc(f->layout.shard.n_chunks, sizeof *f->entries);
    if (!f->entries) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the index of %s", f->path);
    }
    int rc;
    do {
        rc = vx_cache_file_acquire(store, f, err);
        if (rc != VX_OK) {
            return rc;
        }
        rc = in_file(
            f, vx_shard_read_index(&f->layout.shard, f->fd, f->layout.file.bytes, f->entries, err),
            err);
    } while (rc != VX_OK && vx_cache_file_retry(store, f, rc));
    vx_cache_file_settle(store);
    return rc;
}

static int load_meta(const char *folder, const struct vx_cache_entry *entry,
                     struct vx_cache_meta *meta, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/case.json", folder);
    vx_auto_free char *text = NULL;
    vx_auto_json json_t *doc = NULL;
    size_t len = 0;
    char hex[VX_SHA256_HEX];
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = vx_read_file(path, MAX_CASE_JSON_BYTES, &text, &len, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_sha256_hex(text, len, hex);
    if (strcmp(hex, entry->sha256) != 0) {
        rc = vx_fail(err, VX_E_CORRUPT, "case_checksum", "%s is not the file the manifest lists",
                     path);
    } else {
        rc = vx_json_parse(text, len, MAX_CASE_JSON_BYTES, 64, &doc, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_meta_from_json(doc, meta, err);
    }
    if (rc == VX_OK && strcmp(meta->info.name, entry->name) != 0) {
        vx_cache_meta_release(meta);
        rc = vx_fail(err, VX_E_CORRUPT, "case_name", "%s describes another case", path);
    }
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
    }
    return rc;
}

static int open_folder(struct vx_cache_case *c, const char *folder,
                       const struct vx_cache_entry *entry, struct vx_err *err) {
    struct vx_cache_meta meta = {0};
    int rc = load_meta(folder, entry, &meta, err);
    if (rc != VX_OK) {
        return rc;
    }
    c->info = meta.info; /* now owned by the case */
    for (int i = 0; i < VX_CACHE_N_ARRAYS && rc == VX_OK; i++) {
        struct vx_cache_file *f = &c->files[i];
        f->layout = meta.arrays[i];
        f->path = vx_strf("%s/%s/%s", folder, vx_cache_array_name((enum vx_cache_array)i),
                          vx_shard_path(&f->layout.shard));
        if (!f->path) {
            rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        } else if (has_file(&f->layout)) {
            rc = load_index(c->store, f, err);
        }
    }
    return rc;
}

static int find_case(struct vx_cache *cache, const char *name,
                     const struct vx_cache_entry **ret_entry, char **ret_folder,
                     struct vx_err *err) {
    *ret_entry = vx_cache_find(cache, name);
    if (!*ret_entry) {
        return vx_fail(err, VX_E_NOT_FOUND, "unknown_case", "%s has no case %s", cache->dir, name);
    }
    *ret_folder = vx_strf("%s/cases/%s", cache->dir, (*ret_entry)->folder);
    return *ret_folder ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}

int vx_cache_folder_open(struct vx_cache *cache, const char *folder,
                         const struct vx_cache_entry *entry, struct vx_cache_case **ret,
                         struct vx_err *err) {
    vx_auto_cache_case struct vx_cache_case *c = calloc(1, sizeof *c);
    if (!c) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    c->store = cache;
    c->index = (size_t)(entry - cache->cases);
    for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
        c->files[i].fd = -1;
    }
    int rc = open_folder(c, folder, entry, err);
    if (rc == VX_OK) {
        *ret = vx_steal(c);
    }
    return rc;
}

int vx_cache_case_open(struct vx_cache *cache, const char *name, struct vx_cache_case **ret,
                       struct vx_err *err) {
    const struct vx_cache_entry *entry;
    vx_auto_free char *folder = NULL;
    int rc = find_case(cache, name, &entry, &folder, err);
    return rc == VX_OK ? vx_cache_folder_open(cache, folder, entry, ret, err) : rc;
}

struct vx_cache_case *vx_cache_case_free(struct vx_cache_case *c) {
    if (c) {
        for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
            vx_cache_file_close(c->store, &c->files[i]);
            free(c->files[i].entries);
            free(c->files[i].path);
        }
        json_decref(c->info.geometry);
        free(c->info.classes);
        free(c->info.sources);
        free(c);
    }
    return NULL;
}

const struct vx_cache_info *vx_cache_case_info(const struct vx_cache_case *c) {
    return &c->info;
}

int vx_cache_read_array(struct vx_cache_case *c, enum vx_cache_array which, const int64_t lo[4],
                        const int64_t hi[4], const struct vx_cache_region *region, void *dst,
                        const int64_t stride[3], struct vx_err *err) {
    struct vx_cache_file *f = &c->files[which];
    int rc;
    do {
        rc = vx_cache_file_acquire(c->store, f, err);
        if (rc != VX_OK) {
            return rc;
        }
        rc = in_file(f,
                     vx_shard_read_box(&f->layout.shard, f->entries, f->fd, lo, hi, region, dst,
                                       stride, &c->store->scratch, &c->store->counters, err),
                     err);
    } while (rc != VX_OK && vx_cache_file_retry(c->store, f, rc));
    vx_cache_file_settle(c->store);
    return rc;
}

/* Out of memory where the case is held there, from its file where not. */
static int read_array(struct vx_cache_case *c, enum vx_cache_array which, const int64_t lo[4],
                      const int64_t hi[4], const struct vx_cache_region *region, void *dst,
                      const int64_t stride[3], struct vx_err *err) {
    if (c->store->held) {
        struct vx_cache_counters *counters = &c->store->counters;
        uint64_t start = vx_now_ns();
        bool held = vx_held_read(c->store->held, c, which, lo, hi, dst, stride);
        counters->decompress_ns += vx_now_ns() - start;
        if (held) {
            uint64_t items = c->files[which].layout.shard.item_bytes;
            for (int a = 0; a < 4; a++) {
                items *= (uint64_t)(hi[a] - lo[a]);
            }
            counters->bytes_held += items;
            return VX_OK;
        }
    }
    return vx_cache_read_array(c, which, lo, hi, region, dst, stride, err);
}

int vx_cache_read_region(struct vx_cache_case *c, enum vx_cache_role role, const int64_t lo[3],
                         const int64_t hi[3], const struct vx_cache_region *region, void *dst,
                         const int64_t dst_stride[3], struct vx_err *err) {
    enum vx_cache_array which = role == VX_CACHE_IMAGE ? VX_CACHE_ARRAY_IMAGE : VX_CACHE_ARRAY_SEG;
    if (!c->files[which].layout.present) {
        return vx_fail(err, VX_E_NOT_FOUND, "no_such_array", "case %s has no %s", c->info.name,
                       vx_cache_array_name(which));
    }
    for (int a = 0; a < 3; a++) {
        if (lo[a] < -VX_CACHE_MAX_EDGE || hi[a] > 2 * VX_CACHE_MAX_EDGE || lo[a] >= hi[a]) {
            return vx_fail(err, VX_E_INVALID, "bad_box", "axis %d of the box is [%lld, %lld)", a,
                           (long long)lo[a], (long long)hi[a]);
        }
    }
    int64_t channels = role == VX_CACHE_IMAGE ? c->info.n_channels : 1;
    int64_t lo4[4] = {0, lo[0], lo[1], lo[2]}, hi4[4] = {channels, hi[0], hi[1], hi[2]};
    int64_t row = hi[2] - lo[2], plane = row * (hi[1] - lo[1]);
    int64_t dense[3] = {plane * (hi[0] - lo[0]), plane, row};
    return read_array(c, which, lo4, hi4, region, dst, dst_stride ? dst_stride : dense, err);
}

int vx_cache_read_box(struct vx_cache_case *c, enum vx_cache_role role, const int64_t lo[3],
                      const int64_t hi[3], void *dst, const int64_t dst_stride[3],
                      struct vx_err *err) {
    return vx_cache_read_region(c, role, lo, hi, NULL, dst, dst_stride, err);
}

static int read_locations(struct vx_cache_case *c, int64_t first, int64_t n, int32_t (*out)[3],
                          struct vx_err *err) {
    int64_t lo[4] = {0, 0, first, 0}, hi[4] = {1, 1, first + n, 3}, stride[3] = {n * 3, n * 3, 3};
    int rc = read_array(c, VX_CACHE_ARRAY_LOCATIONS, lo, hi, NULL, out, stride, err);
    for (int64_t i = 0; i < n && rc == VX_OK; i++) {
        for (int a = 0; a < 3; a++) {
            if (out[i][a] < 0 || out[i][a] >= c->info.shape[a]) {
                rc = vx_fail(err, VX_E_CORRUPT, "location_out_of_bounds",
                             "%s: location %lld lies outside the array",
                             c->files[VX_CACHE_ARRAY_LOCATIONS].path, (long long)(first + i));
                vx_err_at(err, "%s", c->files[VX_CACHE_ARRAY_LOCATIONS].path);
                break;
            }
        }
    }
    return rc;
}

static int check_class(const struct vx_cache_case *c, size_t cls, struct vx_err *err) {
    return cls < c->info.n_classes ? VX_OK
                                   : vx_fail(err, VX_E_INVALID, "no_such_class",
                                             "case %s has %zu classes, not a class %zu",
                                             c->info.name, c->info.n_classes, cls);
}

int vx_cache_location(struct vx_cache_case *c, size_t cls, int64_t i, int32_t ret_zyx[3],
                      struct vx_err *err) {
    int rc = check_class(c, cls, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_cache_class *k = &c->info.classes[cls];
    if (i < 0 || i >= k->n_locations) {
        return vx_fail(err, VX_E_INVALID, "no_such_location",
                       "class %s of case %s has %lld locations, not a location %lld", k->key,
                       c->info.name, (long long)k->n_locations, (long long)i);
    }
    int32_t one[1][3];
    rc = read_locations(c, k->first_index + i, 1, one, err);
    if (rc == VX_OK) {
        memcpy(ret_zyx, one[0], sizeof one[0]);
    }
    return rc;
}

int vx_cache_locations(struct vx_cache_case *c, size_t cls, int32_t (**ret)[3],
                       struct vx_err *err) {
    int rc = check_class(c, cls, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_cache_class *k = &c->info.classes[cls];
    if (k->n_locations == 0) {
        *ret = NULL;
        return VX_OK;
    }
    int32_t(*out)[3] = calloc((size_t)k->n_locations, sizeof *out);
    if (!out) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %lld locations",
                       (long long)k->n_locations);
    }
    rc = read_locations(c, k->first_index, k->n_locations, out, err);
    if (rc != VX_OK) {
        free(out);
        return rc;
    }
    *ret = out;
    return VX_OK;
}

int vx_cache_class_index(const struct vx_cache_case *c, const char *key) {
    for (size_t i = 0; i < c->info.n_classes; i++) {
        if (strcmp(c->info.classes[i].key, key) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int verify_file(struct vx_cache *cache, struct vx_cache_file *f, struct vx_err *err) {
    int rc = vx_cache_file_acquire(cache, f, err);
    if (rc == VX_OK) {
        rc = in_file(f,
                     vx_shard_verify(&f->layout.shard, f->entries, f->fd, &f->layout.file,
                                     &cache->scratch, err),
                     err);
        vx_cache_file_settle(cache);
    }
    return rc;
}

static int verify(struct vx_cache_case *c, struct vx_err *err) {
    int rc = VX_OK;
    for (int i = 0; i < VX_CACHE_N_ARRAYS && rc == VX_OK; i++) {
        if (has_file(&c->files[i].layout)) {
            rc = verify_file(c->store, &c->files[i], err);
        }
    }
    return rc;
}

int vx_cache_verify_case(struct vx_cache *cache, const char *name, struct vx_err *err) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    int rc = vx_cache_case_open(cache, name, &c, err);
    return rc == VX_OK ? verify(c, err) : rc;
}

int vx_cache_folder_verify(struct vx_cache *cache, const char *folder,
                           const struct vx_cache_entry *entry, struct vx_err *err) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    int rc = vx_cache_folder_open(cache, folder, entry, &c, err);
    return rc == VX_OK ? verify(c, err) : rc;
}

void vx_cache_case_bytes(const struct vx_cache_case *c, uint64_t *ret_files, uint64_t *ret_dense) {
    *ret_files = *ret_dense = 0;
    for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
        const struct vx_cache_layout *a = &c->files[i].layout;
        if (has_file(a)) {
            *ret_files += a->file.bytes;
            *ret_dense += (uint64_t)(a->shard.shape[0] * a->shard.shape[1] * a->shard.shape[2] *
                                     a->shard.shape[3]) *
                          a->shard.item_bytes;
        }
    }
}
