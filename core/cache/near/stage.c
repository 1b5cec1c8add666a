#include "cache/stage.h"
#include "cache/build.h"
#include "cache/store.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FOLDER "voxeld-stage"
#define DAY    ((int64_t)86400)

struct vx_stage {
    struct vx_cache *cache; /* borrowed */
    char *dir, *cases;      /* owned */
    int users, copying;     /* locked descriptors; -1: not held */
};

/* --- who uses it --- */

/* Locks DIR/.users; false where the folder was removed between opening and locking. */
static int lock_users(const char *dir, int *ret_fd, bool *ret_there, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/.users", dir);
    int rc = path ? vx_mkdirs(dir, 0755, err) : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;
    if (fd < 0 && errno == ENOENT) { /* removed just now */
        *ret_there = false;
        return VX_OK;
    }
    if (fd < 0 || flock(fd, LOCK_SH) != 0 || fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, path, "cannot lock %s", path);
    }
    *ret_there = st.st_nlink > 0;
    if (*ret_there) {
        futimens(fd, NULL); /* used now */
        *ret_fd = vx_steal_fd(&fd);
    }
    return VX_OK;
}

char *vx_stage_path(const char *root, const char *dataset, const char *key_hex) {
    return vx_strf("%s/" FOLDER "/%s/%s", root, dataset, key_hex);
}

int vx_stage_open(const char *root, const char *dataset, struct vx_cache *cache,
                  struct vx_stage **ret, struct vx_err *err) {
    struct vx_stage *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    *s = (struct vx_stage){.cache = cache, .users = -1, .copying = -1};
    s->dir = vx_stage_path(root, dataset, vx_cache_key_hex(cache));
    s->cases = s->dir ? vx_strf("%s/cases", s->dir) : NULL;
    int rc = s->cases ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    if (rc == VX_OK && !vx_path_exists(root)) {
        rc = vx_fail(err, VX_E_NOT_FOUND, "no_stage_folder", "the folder %s is not there", root);
        vx_err_at(err, "%s", root);
    }
    bool there = false;
    while (rc == VX_OK && !there) {
        rc = lock_users(s->dir, &s->users, &there, err);
    }
    if (rc == VX_OK) {
        rc = vx_mkdirs(s->cases, 0755, err);
    }
    if (rc != VX_OK) {
        vx_stage_close(s);
        return rc;
    }
    *ret = s;
    return VX_OK;
}

struct vx_stage *vx_stage_close(struct vx_stage *s) {
    if (s) {
        if (s->users >= 0) {
            futimens(s->users, NULL); /* until now */
            close(s->users);
        }
        if (s->copying >= 0) {
            close(s->copying);
        }
        free(s->dir);
        free(s->cases);
        free(s);
    }
    return NULL;
}

const char *vx_stage_dir(const struct vx_stage *s) {
    return s->dir;
}

/* --- copying --- */

bool vx_stage_has(struct vx_stage *s, size_t i) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    vx_auto_free char *folder = vx_strf("%s/%s", s->cases, s->cache->cases[i].folder);
    return folder && vx_cache_folder_open(s->cache, folder, &s->cache->cases[i], &c, NULL) == VX_OK;
}

int vx_stage_own(struct vx_stage *s, struct vx_err *err) {
    if (s->copying >= 0) {
        return VX_OK;
    }
    vx_auto_free char *path = vx_strf("%s/.copying", s->dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? vx_fail(err, VX_E_BUSY, "being_staged", "another process copies to %s", s->dir)
                   : vx_fail_errno(err, errno, path, "cannot lock %s", path);
    }
    s->copying = vx_steal_fd(&fd);
    return VX_OK;
}

static int copy_file(const char *from, const char *to, vx_warm_pace_fn *pace, void *ctx,
                     struct vx_err *err) {
    vx_auto_close int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        return vx_fail_errno(err, errno, from, "cannot open %s", from);
    }
    vx_auto_close int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0) {
        return vx_fail_errno(err, errno, to, "cannot write %s", to);
    }
    int rc = vx_warm_stream(in, out, pace, ctx, err);
    if (rc != VX_OK && rc != VX_E_CANCELLED) {
        vx_err_at(err, "%s", rc == VX_E_FULL ? to : from);
    }
    return rc;
}

static int copy_folder(const char *from, const char *to, vx_warm_pace_fn *pace, void *ctx,
                       struct vx_err *err) {
    char *const roots[] = {(char *)from, NULL};
    size_t len = strlen(from);
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk) {
        return vx_fail_errno(err, errno, from, "cannot list %s", from);
    }
    int rc = VX_OK;
    for (FTSENT *e; rc == VX_OK && (e = fts_read(walk));) {
        vx_auto_free char *target = vx_strf("%s%s", to, e->fts_path + len);
        if (!target) {
            rc = vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        } else if (e->fts_info == FTS_D) {
            rc = vx_mkdirs(target, 0755, err);
        } else if (e->fts_info == FTS_F) {
            rc = copy_file(e->fts_path, target, pace, ctx, err);
        } else if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS) {
            rc = vx_fail_errno(err, e->fts_errno, e->fts_path, "cannot read %s", e->fts_path);
        }
    }
    fts_close(walk);
    return rc;
}

int vx_stage_copy(struct vx_stage *s, size_t i, vx_warm_pace_fn *pace, void *ctx,
                  struct vx_err *err) {
    const struct vx_cache_entry *entry = &s->cache->cases[i];
    vx_auto_free char *from = vx_strf("%s/cases/%s", vx_cache_dir(s->cache), entry->folder);
    vx_auto_free char *final = vx_strf("%s/%s", s->cases, entry->folder);
    vx_auto_free char *tmp = vx_strf("%s/.tmp-%s", s->cases, entry->folder);
    if (!from || !final || !tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = vx_remove_tree(tmp, err); /* of one who died */
    if (rc == VX_OK) {
        rc = copy_folder(from, tmp, pace, ctx, err);
    }
    if (rc == VX_OK) { /* what is compared then comes from the disk */
        rc = vx_cache_sync_tree(tmp, true, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_folder_verify(s->cache, tmp, entry, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_publish(s->cases, tmp, final, err);
    }
    if (rc != VX_OK) {
        vx_remove_tree(tmp, NULL);
    }
    return rc;
}

/* --- tidying --- */

struct set {
    char *dir;
    int64_t used_s; /* when it was used last */
};

static int by_use(const void *a, const void *b) {
    const struct set *x = a, *y = b;
    return (x->used_s > y->used_s) - (x->used_s < y->used_s);
}

/* Removes the set unless somebody uses it. */
static bool remove_unused(const char *dir) {
    vx_auto_free char *path = vx_strf("%s/.users", dir);
    vx_auto_close int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && vx_remove_tree(dir, NULL) == VX_OK;
}

/* Every ROOT/voxeld-stage/DATASET/KEY that has its mark of users. */
static int list_sets(const char *root, struct set **ret, size_t *ret_n, struct vx_err *err) {
    vx_auto_free char *top = vx_strf("%s/" FOLDER, root);
    char *const roots[] = {top, NULL};
    struct set *list = NULL;
    size_t n = 0;
    FTS *walk =
        top && vx_path_exists(top) ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    int rc = top ? VX_OK : VX_E_NOMEM;
    for (FTSENT *e; rc == VX_OK && walk && (e = fts_read(walk));) {
        if (e->fts_info != FTS_D || e->fts_level != 2) {
            continue;
        }
        struct stat st;
        vx_auto_free char *mark = vx_strf("%s/.users", e->fts_path);
        fts_set(walk, e, FTS_SKIP);
        if (mark && stat(mark, &st) == 0) {
            struct set *more = realloc(list, (n + 1) * sizeof *list);
            char *dir = strdup(e->fts_path);
            rc = more && dir ? VX_OK : VX_E_NOMEM;
            list = more ? more : list;
            if (rc == VX_OK) {
                list[n++] = (struct set){dir, st.st_mtim.tv_sec};
            } else {
                free(dir);
            }
        }
    }
    if (walk) {
        fts_close(walk);
    }
    *ret = list;
    *ret_n = n;
    return rc == VX_OK ? VX_OK : vx_fail(err, rc, NULL, "out of memory");
}

int vx_stage_tidy(const char *root, uint64_t wanted, int64_t now_s, unsigned *ret_removed,
                  struct vx_err *err) {
    struct set *list = NULL;
    size_t n = 0;
    unsigned removed = 0;
    int rc = list_sets(root, &list, &n, err);
    if (n > 0) {
        qsort(list, n, sizeof *list, by_use);
    }
    for (size_t i = 0; i < n; i++) {
        bool old = now_s - list[i].used_s > VX_STAGE_KEEP_DAYS * DAY;
        bool short_of_room = wanted > 0 && vx_cache_check_space(root, wanted, NULL) == VX_E_FULL;
        if (rc == VX_OK && (old || short_of_room)) {
            removed += remove_unused(list[i].dir);
        }
        free(list[i].dir);
    }
    free(list);
    if (rc == VX_OK && ret_removed) {
        *ret_removed = removed;
    }
    return rc;
}
