#include "daemon/evidence/residency.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SAMPLE = 64, MOST_FILES = 400000 };

struct file {
    char *path; /* owned */
    uint64_t bytes;
};

struct vx_residency {
    struct file *v; /* owned */
    size_t n, cap, next;
    uint64_t bytes;
};

/* nftw passes no context; the walk happens in one call of one thread. */
static __thread struct vx_residency *walking;

static int take(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)ftw;
    struct vx_residency *r = walking;
    if (type != FTW_F || st->st_size == 0) {
        return 0;
    }
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 1024;
        struct file *v = cap <= MOST_FILES ? realloc(r->v, cap * sizeof *v) : NULL;
        if (!v) {
            return 1;
        }
        r->v = v;
        r->cap = cap;
    }
    r->v[r->n] = (struct file){strdup(path), (uint64_t)st->st_size};
    r->bytes += (uint64_t)st->st_size;
    return r->v[r->n++].path ? 0 : 1;
}

struct vx_residency *vx_residency_open(const char *dir) {
    struct vx_residency *r = calloc(1, sizeof *r);
    walking = r;
    if (r && nftw(dir, take, 16, FTW_PHYS) != 0) {
        r = vx_residency_close(r);
    }
    walking = NULL;
    return r;
}

struct vx_residency *vx_residency_close(struct vx_residency *r) {
    for (size_t i = 0; r && i < r->n; i++) {
        free(r->v[i].path);
    }
    if (r) {
        free(r->v);
        free(r);
    }
    return NULL;
}

uint64_t vx_residency_bytes(const struct vx_residency *r) {
    return r->bytes;
}

/* Pages of a file that are in memory; false where that cannot be asked. */
static bool resident(const struct file *f, uint64_t *ret_pages, uint64_t *ret_all) {
    long page = sysconf(_SC_PAGESIZE);
    size_t pages = (f->bytes + (uint64_t)page - 1) / (uint64_t)page;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOATIME);
    unsigned char *bits = fd >= 0 ? malloc(pages) : NULL;
    void *at = bits ? mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    bool good = at != MAP_FAILED && mincore(at, f->bytes, bits) == 0;
    for (size_t i = 0; good && i < pages; i++) {
        *ret_pages += bits[i] & 1u;
    }
    *ret_all += good ? pages : 0;
    if (at != MAP_FAILED) {
        munmap(at, f->bytes);
    }
    free(bits);
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

bool vx_residency_cold(struct vx_residency *r, uint64_t *ret_bytes) {
    uint64_t pages = 0, all = 0;
    size_t n = r->n < SAMPLE ? r->n : SAMPLE;
    for (size_t i = 0; i < n; i++) {
        resident(&r->v[r->next], &pages, &all);
        r->next = (r->next + 1) % r->n;
    }
    if (!all) {
        return false;
    }
    *ret_bytes = (uint64_t)((double)r->bytes * (double)(all - pages) / (double)all);
    return true;
}
