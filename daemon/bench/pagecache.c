#include "daemon/bench/pagecache.h"

#include "base/err.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct walk {
    struct vx_pagecache found;
    uint64_t max_bytes, read_bytes;
};

static int each_file(const char *dir, int (*visit)(struct walk *w, int fd, uint64_t bytes),
                     struct walk *w, struct vx_err *err) {
    char *paths[] = {(char *)dir, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!tree) {
        return vx_fail_errno(err, errno, dir, "cannot list the prepared data");
    }
    int rc = VX_OK;
    for (FTSENT *e; rc == VX_OK && (e = fts_read(tree)) != NULL;) {
        if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS) {
            rc = vx_fail_errno(err, e->fts_errno, e->fts_path, "cannot list the prepared data");
            break;
        }
        if (e->fts_info != FTS_F || e->fts_statp->st_size == 0) {
            continue;
        }
        vx_auto_close int fd = open(e->fts_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || visit(w, fd, (uint64_t)e->fts_statp->st_size) != 0) {
            rc = vx_fail_errno(err, errno, e->fts_path, "cannot look at the prepared data");
        }
    }
    fts_close(tree);
    return rc;
}

static int count(struct walk *w, int fd, uint64_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page, there = 0;
    vx_auto_free unsigned char *in = malloc(pages);
    void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (!in || at == MAP_FAILED) {
        return -1;
    }
    int rc = mincore(at, bytes, in);
    munmap(at, bytes);
    for (size_t i = 0; rc == 0 && i < pages; i++) {
        there += in[i] & 1;
    }
    w->found.bytes += bytes;
    w->found.resident += there * page < bytes ? there * page : bytes;
    return rc;
}

int vx_pagecache_look(const char *dir, struct vx_pagecache *ret, struct vx_err *err) {
    struct walk w = {0};
    int rc = each_file(dir, count, &w, err);
    if (rc == VX_OK) {
        *ret = w.found;
    }
    return rc;
}

static int read_in(struct walk *w, int fd, uint64_t bytes) {
    enum { CHUNK = 1 << 20 };
    vx_auto_free char *buf = malloc(CHUNK);
    ssize_t n = 1;
    (void)bytes;
    for (uint64_t at = 0; buf && n > 0 && w->read_bytes < w->max_bytes; at += (uint64_t)n) {
        n = pread(fd, buf, CHUNK, (off_t)at);
        w->read_bytes += n > 0 ? (uint64_t)n : 0;
    }
    return buf && n >= 0 ? 0 : -1;
}

int vx_pagecache_warm(const char *dir, uint64_t max_bytes, struct vx_err *err) {
    struct walk w = {.max_bytes = max_bytes};
    return each_file(dir, read_in, &w, err);
}

static int drop(struct walk *w, int fd, uint64_t bytes) {
    (void)w;
    (void)bytes;
    fdatasync(fd); /* what is not on the disk yet cannot be dropped */
    errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return errno ? -1 : 0;
}

int vx_pagecache_drop(const char *dir, struct vx_err *err) {
    struct walk w = {0};
    return each_file(dir, drop, &w, err);
}
