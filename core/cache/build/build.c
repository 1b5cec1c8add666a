#include "cache/build.h"
#include "cache/meta.h"
#include "cache/store.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define MAX_CASE_JSON_BYTES ((size_t)64 << 20)

struct vx_cache_builder {
    char *dir, *cases;        /* owned: the store, and its folder of cases */
    char *key_hex, *key_text; /* owned */
    int lock;                 /* descriptor that holds the flock */
    struct vx_cache *before;  /* owned: the set as it was when the builder opened it; NULL: none */
};

char *vx_cache_store_dir(const char *dataset_dir, const char *key_hex) {
    return vx_strf("%s/voxeld/%s", dataset_dir, key_hex);
}

/* The kernel drops a flock with its last descriptor, so a dead owner never blocks; the pid inside
 * is for people. */
static int take_lock(const char *dir, int *ret_fd, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/.lock", dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    char pid[32] = "";
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return vx_fail_errno(err, errno, path, "cannot lock %s", path);
        }
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        vx_fail(err, VX_E_BUSY, "cache_being_built", "%s is being built by process %s", dir,
                pid[0] ? pid : "?");
        vx_err_at(err, "%s", dir);
        return VX_E_BUSY;
    }
    int len = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    int rc = ftruncate(fd, 0) == 0 ? vx_write_all(fd, pid, (size_t)len, err)
                                   : vx_fail_errno(err, errno, path, "cannot write %s", path);
    if (rc == VX_OK) {
        *ret_fd = vx_steal_fd(&fd);
    }
    return rc;
}

static int write_group(const char *dir, struct vx_err *err) {
    static const char group[] =
        "{\"zarr_format\": 3, \"node_type\": \"group\", \"attributes\": {}}\n";
    vx_auto_free char *path = vx_strf("%s/zarr.json", dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return vx_path_exists(path) ? VX_OK
                                : vx_write_file_atomic(path, group, sizeof group - 1, 0644, err);
}

/* Removes the entries of cases/ for which keep answers false. */
static int sweep(const struct vx_cache_builder *b, bool (*keep)(const char *, const void *),
                 const void *arg, struct vx_err *err) {
    DIR *d = opendir(b->cases);
    if (!d) {
        return vx_fail_errno(err, errno, b->cases, "cannot list %s", b->cases);
    }
    int rc = VX_OK;
    for (struct dirent *e; rc == VX_OK && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            strcmp(e->d_name, "zarr.json") == 0 || keep(e->d_name, arg)) {
            continue;
        }
        vx_auto_free char *path = vx_strf("%s/%s", b->cases, e->d_name);
        rc = path ? vx_remove_tree(path, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    closedir(d);
    return rc;
}

static bool not_temporary(const char *name, const void *arg) {
    (void)arg;
    return strncmp(name, ".tmp-", 5) != 0;
}

int vx_cache_build_open(const char *dataset_dir, const char *key_hex, const char *key_text,
                        struct vx_cache_builder **ret, struct vx_err *err) {
    struct vx_cache_builder *b = calloc(1, sizeof *b);
    if (!b) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    b->lock = -1;
    b->dir = vx_cache_store_dir(dataset_dir, key_hex);
    b->cases = b->dir ? vx_strf("%s/cases", b->dir) : NULL;
    b->key_hex = strdup(key_hex);
    b->key_text = strdup(key_text);
    int rc = VX_OK;
    if (!b->cases || !b->key_hex || !b->key_text) {
        rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    } else if (strlen(key_hex) != VX_SHA256_HEX - 1 ||
               strspn(key_hex, "0123456789abcdef") != VX_SHA256_HEX - 1) {
        rc = vx_fail(err, VX_E_INVALID, "bad_cache_key", "a cache key is 64 hex digits");
    }
    if (rc == VX_OK) {
        rc = vx_mkdirs(b->cases, 0755, err);
    }
    if (rc == VX_OK) {
        rc = take_lock(b->dir, &b->lock, err);
    }
    if (rc == VX_OK) {
        rc = sweep(b, not_temporary, NULL, err);
    }
    if (rc == VX_OK) {
        rc = write_group(b->dir, err);
    }
    if (rc == VX_OK) {
        rc = write_group(b->cases, err);
    }
    if (rc == VX_OK) {
        vx_cache_open(b->dir, &b->before, NULL); /* none, or none that can be read: all is new */
    }
    if (rc != VX_OK) {
        vx_cache_build_close(b);
        return rc;
    }
    *ret = b;
    return VX_OK;
}

struct vx_cache_builder *vx_cache_build_close(struct vx_cache_builder *b) {
    if (b) {
        if (b->lock >= 0) {
            close(b->lock);
        }
        vx_cache_free(b->before);
        free(b->dir);
        free(b->cases);
        free(b->key_hex);
        free(b->key_text);
        free(b);
    }
    return NULL;
}

const char *vx_cache_build_dir(const struct vx_cache_builder *b) {
    return b->dir;
}

static bool same_sources(const struct vx_cache_info *in, const struct vx_cache_member *m) {
    if (in->n_sources != m->n_sources) {
        return false;
    }
    for (size_t i = 0; i < m->n_sources; i++) {
        const struct vx_cache_source *a = &in->sources[i], *b = &m->sources[i];
        if (strcmp(a->path, b->path) != 0 || a->size_bytes != b->size_bytes ||
            a->mtime_ns != b->mtime_ns) {
            return false;
        }
    }
    return true;
}

static bool files_have_their_sizes(const char *folder, const struct vx_cache_meta *meta) {
    for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
        const struct vx_cache_layout *a = &meta->arrays[i];
        if (!a->present || a->shard.n_chunks == 0) {
            continue;
        }
        vx_auto_free char *path =
            vx_strf("%s/%s/%s", folder, vx_cache_array_name((enum vx_cache_array)i),
                    vx_shard_path(&a->shard));
        struct stat st;
        if (!path || stat(path, &st) != 0 || (uint64_t)st.st_size != a->file.bytes) {
            return false;
        }
    }
    return true;
}

/* Looks for the member's complete folder; ret_sha256 gets the digest of its case.json. */
static int find_member(const struct vx_cache_builder *b, const struct vx_cache_member *m,
                       char **ret_folder, char ret_sha256[VX_SHA256_HEX], struct vx_err *err) {
    vx_auto_free char *folder = NULL;
    int rc = vx_cache_case_folder(m->name, m->sources, m->n_sources, &folder, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free char *dir = vx_strf("%s/%s", b->cases, folder);
    vx_auto_free char *path = vx_strf("%s/%s/case.json", b->cases, folder);
    vx_auto_free char *text = NULL;
    vx_auto_json json_t *doc = NULL;
    size_t len = 0;
    struct vx_cache_meta meta = {0};
    if (!dir || !path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    rc = vx_read_file(path, MAX_CASE_JSON_BYTES, &text, &len, err);
    if (rc == VX_OK) {
        rc = vx_json_parse(text, len, MAX_CASE_JSON_BYTES, 64, &doc, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_meta_from_json(doc, &meta, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    bool own =
        !meta.key[0] || strcmp(meta.key, b->key_hex) == 0; /* not copied from another plan's */
    bool whole = own && same_sources(&meta.info, m) && strcmp(meta.info.name, m->name) == 0 &&
                 files_have_their_sizes(dir, &meta);
    vx_cache_meta_release(&meta);
    if (!whole) {
        vx_fail(err, VX_E_CORRUPT, "case_incomplete", "%s is not whole; it will be made again",
                dir);
        vx_err_at(err, "%s", dir);
        return VX_E_CORRUPT;
    }
    vx_sha256_hex(text, len, ret_sha256);
    *ret_folder = vx_steal(folder);
    return VX_OK;
}

bool vx_cache_build_has_case(const struct vx_cache_builder *b, const struct vx_cache_member *m) {
    vx_auto_free char *folder = NULL;
    char sha256[VX_SHA256_HEX];
    if (find_member(b, m, &folder, sha256, NULL) != VX_OK) {
        return false;
    }
    /* a case.json that was changed since the set was complete describes it no longer */
    const struct vx_cache_entry *entry = b->before ? vx_cache_find(b->before, m->name) : NULL;
    if (!entry || strcmp(entry->folder, folder) != 0) {
        return true;
    }
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    return vx_cache_case_open(b->before, m->name, &c, NULL) ==
           VX_OK; /* and its indices are whole */
}

static bool listed(const char *name, const void *arg) {
    return json_object_get((const json_t *)arg, name) != NULL;
}

static int collect(const struct vx_cache_builder *b, const struct vx_cache_member *members,
                   size_t n, json_t *cases, json_t *folders, struct vx_err *err) {
    for (size_t i = 0; i < n; i++) {
        vx_auto_free char *folder = NULL;
        char sha256[VX_SHA256_HEX];
        struct vx_err why = {0};
        int rc = find_member(b, &members[i], &folder, sha256, &why);
        if (rc == VX_E_NOMEM) {
            return vx_fail(err, rc, NULL, "out of memory");
        }
        if (rc != VX_OK) {
            return vx_fail(err, VX_E_STATE, "case_missing", "case %s is not in the store: %s",
                           members[i].name, why.text);
        }
        if (json_object_get(folders, folder)) {
            return vx_fail(err, VX_E_INVALID, "duplicate_case", "case %s is listed twice",
                           members[i].name);
        }
        json_object_set_new(folders, folder, json_true());
        json_array_append_new(cases, json_pack("{s:s,s:s,s:s}", "name", members[i].name, "folder",
                                               folder, "sha256", sha256));
    }
    return VX_OK;
}

int vx_cache_build_commit(struct vx_cache_builder *b, const struct vx_cache_member *members,
                          size_t n_members, struct vx_err *err) {
    vx_auto_json json_t *cases = json_array();
    vx_auto_json json_t *folders = json_object();
    vx_auto_free char *path = vx_strf("%s/manifest.json", b->dir);
    if (!cases || !folders || !path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = collect(b, members, n_members, cases, folders, err);
    if (rc != VX_OK) {
        return rc;
    }
    json_t *input = json_loads(b->key_text, 0, NULL);
    vx_auto_json json_t *doc =
        json_pack("{s:i,s:s,s:o,s:O}", "format", VX_CACHE_FORMAT, "key", b->key_hex, "key_input",
                  input ? input : json_null(), "cases", cases);
    rc = doc ? vx_json_write_file(path, doc, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    return rc == VX_OK ? sweep(b, listed, folders, err) : rc;
}
