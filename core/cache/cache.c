#include "cache/cache.h"
#include "cache/store.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_MANIFEST_BYTES ((size_t)256 << 20)

static int compare_entries(const void *a, const void *b) {
    return strcmp(((const struct vx_cache_entry *)a)->name,
                  ((const struct vx_cache_entry *)b)->name);
}

static int damaged(const char *path, const char *what, struct vx_err *err) {
    vx_fail(err, VX_E_CORRUPT, "bad_manifest", "%s: %s; prepare the data set again", path, what);
    vx_err_at(err, "%s", path);
    return VX_E_CORRUPT;
}

static bool good_folder(const char *folder) {
    return folder[0] != '\0' && folder[0] != '.' && !strchr(folder, '/');
}

/* What tells this list of cases from any other. */
static int digest_entries(struct vx_cache *cache, struct vx_err *err) {
    struct vx_buf text = VX_BUF_INIT;
    for (size_t i = 0; i < cache->n_cases; i++) {
        const struct vx_cache_entry *e = &cache->cases[i];
        vx_buf_printf(&text, "%s\n%s\n%s\n", e->name, e->folder, e->sha256);
    }
    bool failed = text.failed;
    if (!failed) {
        vx_sha256_hex(text.data ? text.data : "", text.len, cache->digest);
    }
    vx_buf_release(&text);
    return failed ? vx_fail(err, VX_E_NOMEM, NULL, "out of memory") : VX_OK;
}

static int load_entries(struct vx_cache *cache, const json_t *list, const char *path,
                        struct vx_err *err) {
    size_t n = json_array_size(list);
    cache->cases = calloc(n + 1, sizeof *cache->cases);
    if (!cache->cases) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the list of %zu cases", n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *folder = json_string_value(json_object_get(row, "folder"));
        const char *sha = json_string_value(json_object_get(row, "sha256"));
        if (!name || !folder || !sha || strlen(sha) != VX_SHA256_HEX - 1 || !good_folder(folder)) {
            return damaged(path, "a case has no proper name, folder and sha256", err);
        }
        struct vx_cache_entry *e = &cache->cases[cache->n_cases++];
        memcpy(e->sha256, sha, VX_SHA256_HEX);
        e->name = strdup(name);
        e->folder = strdup(folder);
        if (!e->name || !e->folder) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the list of %zu cases", n);
        }
    }
    qsort(cache->cases, cache->n_cases, sizeof *cache->cases, compare_entries);
    for (size_t i = 1; i < cache->n_cases; i++) {
        if (strcmp(cache->cases[i - 1].name, cache->cases[i].name) == 0) {
            return damaged(path, "a case is listed twice", err);
        }
    }
    return digest_entries(cache, err);
}

static int load_manifest(struct vx_cache *cache, const char *path, struct vx_err *err) {
    vx_auto_json json_t *doc = NULL;
    if (!vx_path_exists(path)) {
        int code = vx_path_exists(cache->dir) ? VX_E_STATE : VX_E_NOT_FOUND;
        vx_fail(err, code, code == VX_E_STATE ? "cache_incomplete" : NULL,
                "%s has no manifest.json: the set was never prepared completely", cache->dir);
        vx_err_at(err, "%s", cache->dir);
        return code;
    }
    int rc = vx_json_load_file(path, MAX_MANIFEST_BYTES, &doc, err);
    if (rc == VX_E_INVALID || rc == VX_E_CORRUPT) {
        return damaged(path, "not valid JSON", err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    const json_t *format = json_object_get(doc, "format");
    const json_t *list = json_object_get(doc, "cases");
    const char *key = json_string_value(json_object_get(doc, "key"));
    if (json_is_integer(format) && json_integer_value(format) > VX_CACHE_FORMAT) {
        return vx_fail(err, VX_E_UNSUPPORTED, "cache_format",
                       "%s has format %lld, this voxeld reads up to %d", path,
                       (long long)json_integer_value(format), VX_CACHE_FORMAT);
    }
    if (!json_is_integer(format) || !json_is_array(list) || !key ||
        strlen(key) != VX_SHA256_HEX - 1) {
        return damaged(path, "format, key or cases are missing", err);
    }
    memcpy(cache->key, key, VX_SHA256_HEX);
    return load_entries(cache, list, path, err);
}

int vx_cache_open(const char *dir, struct vx_cache **ret, struct vx_err *err) {
    vx_auto_cache struct vx_cache *cache = calloc(1, sizeof *cache);
    vx_auto_free char *path = vx_strf("%s/manifest.json", dir);
    if (!cache || !path || !(cache->dir = strdup(dir))) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to open %s", dir);
    }
    int rc = load_manifest(cache, path, err);
    if (rc == VX_OK) {
        *ret = vx_steal(cache);
    }
    return rc;
}

struct vx_cache *vx_cache_free(struct vx_cache *cache) {
    if (cache) {
        for (size_t i = 0; i < cache->n_cases; i++) {
            free(cache->cases[i].name);
            free(cache->cases[i].folder);
        }
        free(cache->cases);
        vx_shard_scratch_release(&cache->scratch);
        free(cache->stage);
        free(cache->dir);
        free(cache);
    }
    return NULL;
}

const struct vx_cache_counters *vx_cache_counters(const struct vx_cache *cache) {
    return &cache->counters;
}

const char *vx_cache_dir(const struct vx_cache *cache) {
    return cache->dir;
}

const char *vx_cache_key_hex(const struct vx_cache *cache) {
    return cache->key;
}

size_t vx_cache_n_cases(const struct vx_cache *cache) {
    return cache->n_cases;
}

const char *vx_cache_case_name(const struct vx_cache *cache, size_t i) {
    return cache->cases[i].name;
}

const struct vx_cache_entry *vx_cache_find(const struct vx_cache *cache, const char *name) {
    struct vx_cache_entry wanted = {.name = (char *)name};
    return cache->n_cases == 0 ? NULL
                               : bsearch(&wanted, cache->cases, cache->n_cases,
                                         sizeof *cache->cases, compare_entries);
}

bool vx_cache_has_case(const struct vx_cache *cache, const char *name) {
    return vx_cache_find(cache, name) != NULL;
}

char *vx_cache_part_path(const struct vx_cache *cache, const char *name, enum vx_cache_part part) {
    static const char *const files[] = {
        [VX_CACHE_PART_CASE] = "case.json",
        [VX_CACHE_PART_IMAGE] = "image/c/0/0/0/0",
        [VX_CACHE_PART_SEG] = "seg/c/0/0/0",
        [VX_CACHE_PART_LOCATIONS] = "locations/c/0/0",
    };
    const struct vx_cache_entry *entry = vx_cache_find(cache, name);
    return entry ? vx_strf("%s/cases/%s/%s", cache->dir, entry->folder, files[part]) : NULL;
}

static void unlink_file(struct vx_cache *cache, struct vx_cache_file *f) {
    *(f->newer ? &f->newer->older : &cache->newest) = f->older;
    *(f->older ? &f->older->newer : &cache->oldest) = f->newer;
    f->newer = f->older = NULL;
}

static void link_newest(struct vx_cache *cache, struct vx_cache_file *f) {
    f->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = f;
    cache->newest = f;
}

void vx_cache_file_close(struct vx_cache *cache, struct vx_cache_file *f) {
    if (f->fd >= 0) {
        unlink_file(cache, f);
        close(f->fd);
        f->fd = -1;
        cache->n_open--;
    }
}

static void touch(struct vx_cache *cache, struct vx_cache_file *f) {
    unlink_file(cache, f);
    link_newest(cache, f);
}

static void install(struct vx_cache *cache, struct vx_cache_file *f, int fd, bool staged) {
    vx_cache_file_close(cache, f);
    f->fd = fd;
    f->staged = staged;
    link_newest(cache, f);
    cache->n_open++;
}

/* Descriptors run out where something else in the process takes them: fewer files are kept then. */
static int open_file(struct vx_cache *cache, const char *path) {
    uint64_t t0 = vx_now_ns();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd < 0 && (errno == EMFILE || errno == ENFILE) && cache->oldest) {
        vx_cache_file_close(cache, cache->oldest);
        cache->max_open = cache->n_open < cache->max_open ? cache->n_open : cache->max_open;
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    cache->counters.opens += fd >= 0;
    cache->counters.open_ns += vx_now_ns() - t0;
    return fd;
}

/* The copy of f, where it is there: false where the original is to be read. */
static bool acquire_copy(struct vx_cache *cache, struct vx_cache_file *f) {
    vx_auto_free char *path = vx_strf("%s%s", cache->stage, f->path + strlen(cache->dir));
    vx_auto_close int fd = path ? open_file(cache, path) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return false; /* not copied yet */
    }
    if ((uint64_t)st.st_size != f->layout.file.bytes) {
        f->stage_bad = true;
        cache->counters.stage_faults++;
        return false;
    }
    install(cache, f, vx_steal_fd(&fd), true);
    return true;
}

int vx_cache_file_acquire(struct vx_cache *cache, struct vx_cache_file *f, struct vx_err *err) {
    bool own = strncmp(f->path, cache->dir, strlen(cache->dir)) == 0; /* not in another folder */
    bool copy = cache->stage && !f->stage_bad && own;
    if (f->fd >= 0 && f->staged == copy) {
        touch(cache, f);
        return VX_OK;
    }
    if (copy && acquire_copy(cache, f)) {
        return VX_OK;
    }
    if (f->fd >= 0 && !f->staged) {
        touch(cache, f);
        return VX_OK;
    }
    vx_auto_close int fd = open_file(cache, f->path);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, f->path, "cannot open %s", f->path);
    }
    if ((uint64_t)st.st_size != f->layout.file.bytes) {
        vx_fail(err, VX_E_CORRUPT, "truncated_file", "%s has %lld bytes where %llu were written",
                f->path, (long long)st.st_size, (unsigned long long)f->layout.file.bytes);
        vx_err_at(err, "%s", f->path);
        return VX_E_CORRUPT;
    }
    install(cache, f, vx_steal_fd(&fd), false);
    return VX_OK;
}

bool vx_cache_file_retry(struct vx_cache *cache, struct vx_cache_file *f, int rc) {
    struct stat now, there;
    if (f->fd < 0 || (rc != VX_E_CORRUPT && rc != VX_E_IO)) {
        return false;
    }
    if (f->staged) {
        f->stage_bad = true;
        cache->counters.stage_faults++;
        vx_cache_file_close(cache, f);
        return true;
    }
    bool replaced =
        fstat(f->fd, &now) != 0 ||
        (stat(f->path, &there) == 0 && (there.st_ino != now.st_ino || there.st_dev != now.st_dev));
    if (replaced) {
        vx_cache_file_close(cache, f);
    }
    return replaced;
}

void vx_cache_file_settle(struct vx_cache *cache) {
    if (cache->cold && cache->newest) {
        posix_fadvise(cache->newest->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    while (cache->n_open > cache->max_open) {
        vx_cache_file_close(cache, cache->oldest);
    }
}

void vx_cache_keep_cold(struct vx_cache *cache, bool cold) {
    cache->cold = cold;
}

int vx_cache_read_staged(struct vx_cache *cache, const char *dir, struct vx_err *err) {
    char *copy = dir ? strdup(dir) : NULL;
    if (dir && !copy) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    free(cache->stage);
    cache->stage = copy;
    return VX_OK;
}

void vx_cache_read_held(struct vx_cache *cache, const struct vx_held *held) {
    cache->held = held;
}

void vx_cache_keep_open(struct vx_cache *cache, int max_files) {
    cache->max_open = max_files > 0 ? max_files : 0;
    vx_cache_file_settle(cache);
}
