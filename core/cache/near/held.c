#include "cache/held.h"
#include "cache/store.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define HELD_MAGIC      0x31646c6548787856ull /* "VxxHeld1" */
#define HELD_ABI        1u
#define HELD_BYTE_ORDER 0x01020304u
#define PAGE            ((uint64_t)4096)

/* In shared memory. `magic` is written last. */
struct held_header {
    uint64_t magic;
    uint32_t abi, byte_order;
    uint64_t size; /* of the whole region */
    uint64_t n_cases;
    char manifest[VX_SHA256_HEX + 7];
};

struct held_case {
    uint32_t word; /* odd: whole */
    uint32_t reserved;
    uint64_t offset, bytes;
};

_Static_assert(offsetof(struct held_header, manifest) == 32, "held layout");
_Static_assert(sizeof(struct held_case) == 24, "held layout");

struct vx_held {
    int fd;                   /* borrowed */
    struct vx_cache *cache;   /* borrowed; the filler's */
    struct held_header *base; /* owned mapping */
    struct held_case *cases;  /* inside */
    size_t size;
};

static uint64_t round_up(uint64_t x, uint64_t to) {
    return (x + to - 1) / to * to;
}

/* --- where a case's arrays lie --- */

static uint64_t array_bytes(const struct vx_shard *s) {
    uint64_t n = s->item_bytes;
    for (int a = 0; a < 4; a++) {
        n *= (uint64_t)s->shape[a];
    }
    return n;
}

/* Offset of an array in its case. */
static uint64_t array_offset(const struct vx_cache_case *c, enum vx_cache_array which) {
    uint64_t at = 0;
    for (int i = 0; i < (int)which; i++) {
        const struct vx_cache_layout *a = &c->files[i].layout;
        at += a->present ? round_up(array_bytes(&a->shard), 64) : 0;
    }
    return at;
}

static uint64_t case_bytes(const struct vx_cache_case *c) {
    const struct vx_cache_layout *last = &c->files[VX_CACHE_N_ARRAYS - 1].layout;
    return round_up(array_offset(c, VX_CACHE_N_ARRAYS - 1) + array_bytes(&last->shard), PAGE);
}

/* --- making and mapping --- */

int vx_held_create(int *ret_fd, struct vx_err *err) {
    int fd = memfd_create("voxeld-held", MFD_CLOEXEC);
    if (fd < 0) {
        return vx_fail_errno(err, errno, NULL, "cannot make memory for the data to be held in");
    }
    *ret_fd = fd;
    return VX_OK;
}

static int map(int fd, size_t size, bool writable, const struct vx_cache *cache,
               struct vx_held **ret, struct vx_err *err) {
    struct vx_held *h = calloc(1, sizeof *h);
    if (!h) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    void *base = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        free(h);
        return vx_fail_errno(err, errno, NULL, "cannot map %zu bytes of held data", size);
    }
    *h = (struct vx_held){fd, (struct vx_cache *)cache, base, NULL, size};
    h->cases = (struct held_case *)((char *)base + PAGE);
    *ret = h;
    return VX_OK;
}

/* VX_E_STATE where the region is not laid out for this store. */
static int check(const struct vx_held *h, const struct vx_cache *cache, struct vx_err *err) {
    const struct held_header *b = h->base;
    if (__atomic_load_n(&b->magic, __ATOMIC_ACQUIRE) != HELD_MAGIC || b->size != h->size) {
        return vx_fail(err, VX_E_STATE, "held_empty", "no data is held yet");
    }
    if (b->abi != HELD_ABI || b->byte_order != HELD_BYTE_ORDER || b->n_cases != cache->n_cases ||
        strcmp(b->manifest, cache->digest) != 0) {
        return vx_fail(err, VX_E_STATE, "held_other_store",
                       "the data held in memory is that of another state of the store");
    }
    return VX_OK;
}

int vx_held_map(int fd, const struct vx_cache *cache, struct vx_held **ret, struct vx_err *err) {
    vx_auto_held struct vx_held *h = NULL;
    struct stat st;
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size < PAGE) {
        return vx_fail(err, VX_E_STATE, "held_empty", "no data is held yet");
    }
    int rc = map(fd, (size_t)st.st_size, false, cache, &h, err);
    if (rc == VX_OK) {
        rc = check(h, cache, err);
    }
    if (rc == VX_OK) {
        *ret = vx_steal(h);
    }
    return rc;
}

/* Places of all cases, into list; *ret_size: of the whole region. */
static int lay_out(struct vx_cache *cache, struct held_case *list, uint64_t *ret_size,
                   struct vx_err *err) {
    uint64_t at = PAGE + round_up(cache->n_cases * sizeof *list, PAGE);
    for (size_t i = 0; i < cache->n_cases; i++) {
        vx_auto_cache_case struct vx_cache_case *c = NULL;
        int rc = vx_cache_case_open(cache, cache->cases[i].name, &c, err);
        if (rc != VX_OK) {
            return rc;
        }
        list[i] = (struct held_case){0, 0, at, case_bytes(c)};
        at += list[i].bytes;
    }
    *ret_size = at;
    return VX_OK;
}

static int make(int fd, struct vx_cache *cache, struct vx_held **ret, struct vx_err *err) {
    vx_auto_free struct held_case *list = calloc(cache->n_cases + 1, sizeof *list);
    vx_auto_held struct vx_held *h = NULL;
    uint64_t size = 0;
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = lay_out(cache, list, &size, err);
    if (rc == VX_OK && ftruncate(fd, (off_t)size) != 0) {
        rc = vx_fail_errno(err, errno, NULL, "cannot set %llu bytes aside",
                           (unsigned long long)size);
    }
    if (rc == VX_OK) {
        rc = map(fd, (size_t)size, true, cache, &h, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    struct held_header *b = h->base;
    memcpy(h->cases, list, cache->n_cases * sizeof *list);
    b->abi = HELD_ABI;
    b->byte_order = HELD_BYTE_ORDER;
    b->size = size;
    b->n_cases = cache->n_cases;
    memcpy(b->manifest, cache->digest, VX_SHA256_HEX);
    __atomic_store_n(&b->magic, HELD_MAGIC, __ATOMIC_RELEASE);
    *ret = vx_steal(h);
    return VX_OK;
}

int vx_held_fill(int fd, struct vx_cache *cache, struct vx_held **ret, struct vx_err *err) {
    vx_auto_held struct vx_held *h = NULL;
    struct stat st;
    struct vx_err why = {0};
    if (fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, NULL, "cannot look at the memory for held data");
    }
    if ((uint64_t)st.st_size < PAGE) {
        return make(fd, cache, ret, err);
    }
    int rc = map(fd, (size_t)st.st_size, true, cache, &h, err);
    if (rc == VX_OK && check(h, cache, &why) != VX_OK) {
        bool began = strcmp(why.reason, "held_empty") == 0; /* and died before it was done */
        return began ? make(fd, cache, ret, err)
                     : vx_fail(err, why.code, why.reason, "%s", why.text);
    }
    if (rc == VX_OK) {
        *ret = vx_steal(h);
    }
    return rc;
}

struct vx_held *vx_held_close(struct vx_held *h) {
    if (h) {
        munmap(h->base, h->size);
        free(h);
    }
    return NULL;
}

/* --- filling --- */

uint64_t vx_held_case_bytes(const struct vx_held *h, size_t i) {
    return h->cases[i].bytes;
}

bool vx_held_has(const struct vx_held *h, size_t i) {
    return __atomic_load_n(&h->cases[i].word, __ATOMIC_ACQUIRE) & 1u;
}

void vx_held_drop(struct vx_held *h, size_t i) {
    struct held_case *k = &h->cases[i];
    uint32_t word = __atomic_load_n(&k->word, __ATOMIC_RELAXED);
    __atomic_store_n(&k->word, (word & ~1u) + 2, __ATOMIC_SEQ_CST);
    fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)k->offset, (off_t)k->bytes);
}

static int load_array(struct vx_cache_case *c, enum vx_cache_array which, char *at,
                      struct vx_err *err) {
    const struct vx_shard *s = &c->files[which].layout.shard;
    if (!c->files[which].layout.present || s->n_chunks == 0) {
        return VX_OK;
    }
    const int64_t lo[4] = {0, 0, 0, 0};
    const int64_t stride[3] = {s->shape[1] * s->shape[2] * s->shape[3], s->shape[2] * s->shape[3],
                               s->shape[3]};
    return vx_cache_read_array(c, which, lo, s->shape, NULL, at + array_offset(c, which), stride,
                               err);
}

int vx_held_load(struct vx_held *h, size_t i, struct vx_err *err) {
    struct held_case *k = &h->cases[i];
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    if (vx_held_has(h, i)) {
        return VX_OK;
    }
    int rc = vx_cache_case_open(h->cache, h->cache->cases[i].name, &c, err);
    if (rc != VX_OK) {
        return rc;
    }
    /* a store into memory that the kernel cannot find would be a signal: ask for it first */
    if (fallocate(h->fd, 0, (off_t)k->offset, (off_t)k->bytes) != 0) {
        int why = errno;
        vx_held_drop(h, i);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to hold case %s: %s", c->info.name,
                       strerror(why));
    }
    for (int a = 0; rc == VX_OK && a < VX_CACHE_N_ARRAYS; a++) {
        rc = load_array(c, (enum vx_cache_array)a, (char *)h->base + k->offset, err);
    }
    if (rc != VX_OK) {
        vx_held_drop(h, i);
        return rc;
    }
    __atomic_store_n(&k->word, __atomic_load_n(&k->word, __ATOMIC_RELAXED) | 1u, __ATOMIC_RELEASE);
    return VX_OK;
}

/* --- reading --- */

bool vx_held_read(const struct vx_held *h, const struct vx_cache_case *c, enum vx_cache_array which,
                  const int64_t lo[4], const int64_t hi[4], void *dst, const int64_t stride[3]) {
    const struct held_case *k = &h->cases[c->index];
    const struct vx_shard *s = &c->files[which].layout.shard;
    uint32_t word = __atomic_load_n(&k->word, __ATOMIC_ACQUIRE);
    if (!(word & 1u) || s->n_chunks == 0) {
        return false;
    }
    vx_shard_copy_box(s, (const char *)h->base + k->offset + array_offset(c, which), lo, hi, dst,
                      stride);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&k->word, __ATOMIC_RELAXED) == word;
}
