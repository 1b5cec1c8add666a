#include "session/shm.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The layout that other versions and other programs read: these never change. */
_Static_assert(offsetof(struct vx_shm_header, abi) == 8, "shm header");
_Static_assert(offsetof(struct vx_shm_header, size) == 16, "shm header");
_Static_assert(offsetof(struct vx_shm_header, table) == 32, "shm header");
_Static_assert(sizeof(struct vx_shm_table) == 24, "shm header");

static uint64_t round_up(uint64_t x, uint64_t to) {
    return (x + to - 1) / to * to;
}

/* Fills the header's tables and returns the region's size. */
static uint64_t lay_out(struct vx_shm_header *h, const struct vx_shm_table *tables, uint32_t n,
                        uint32_t page_mask) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t at = round_up(sizeof *h, VX_SHM_ALIGN);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t align = page_mask >> i & 1u ? page : VX_SHM_ALIGN;
        at = round_up(at, align);
        h->table[i].offset = at;
        h->table[i].stride = round_up(tables[i].stride, align);
        h->table[i].count = tables[i].count;
        at += h->table[i].stride * h->table[i].count;
    }
    h->tables = n;
    h->size = round_up(at, page);
    return h->size;
}

static struct vx_shm mapped(void *base, size_t size, int fd, const struct vx_shm_header *h) {
    struct vx_shm shm = {base, size, fd, h->tables, {{0, 0, 0}}};
    memcpy(shm.table, h->table, sizeof shm.table);
    return shm;
}

int vx_shm_create(const char *name, uint64_t magic, const struct vx_shm_table *tables, uint32_t n,
                  uint32_t page_mask, struct vx_shm *ret, struct vx_err *err) {
    if (n > VX_SHM_TABLES) {
        return vx_fail(err, VX_E_INVALID, NULL, "shared region %s: too many tables", name);
    }
    struct vx_shm_header header = {magic, VX_SHM_ABI, VX_SHM_BYTE_ORDER, 0, 0, 0, {{0, 0, 0}}};
    uint64_t size = lay_out(&header, tables, n, page_mask);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return vx_fail_errno(err, errno, name, "cannot create the shared region %s", name);
    }
    void *base = MAP_FAILED;
    /* allocates every page, so that a lack of memory shows here and not as SIGBUS in a child */
    int rc = ftruncate(fd, (off_t)size) != 0 ? errno : posix_fallocate(fd, 0, (off_t)size);
    if (rc == 0) {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        rc = base == MAP_FAILED ? errno : 0;
    }
    if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        rc = errno;
        munmap(base, size);
    }
    if (rc != 0) {
        close(fd);
        return vx_fail_errno(err, rc, name, "cannot allocate the shared region %s of %llu bytes",
                             name, (unsigned long long)size);
    }
    memcpy(base, &header, sizeof header);
    *ret = mapped(base, size, fd, &header);
    return VX_OK;
}

/* All of a header's claims against the size of its file. */
static int check(const struct vx_shm_header *h, uint64_t file_size, uint64_t magic,
                 const uint64_t *min_strides, uint32_t n, struct vx_err *err) {
    if (h->magic != magic) {
        return vx_fail(err, VX_E_CORRUPT, "shm_magic", "not the shared region that was expected");
    }
    if (h->byte_order != VX_SHM_BYTE_ORDER || h->abi != VX_SHM_ABI) {
        return vx_fail(err, VX_E_UNSUPPORTED, "shm_abi",
                       "shared region of another version (ABI %u, this program speaks %u)", h->abi,
                       VX_SHM_ABI);
    }
    if (h->size != file_size || h->tables > VX_SHM_TABLES || h->tables < n) {
        return vx_fail(err, VX_E_CORRUPT, "shm_header", "damaged header of a shared region");
    }
    for (uint32_t i = 0; i < h->tables; i++) {
        const struct vx_shm_table *t = &h->table[i];
        uint64_t least = min_strides && i < n ? min_strides[i] : 1;
        bool fits = t->offset >= sizeof *h && t->offset <= h->size &&
                    t->offset % VX_SHM_ALIGN == 0 && t->stride % VX_SHM_ALIGN == 0 &&
                    t->stride >= least && (t->count > 0 || !min_strides || i >= n) &&
                    (t->count == 0 || t->stride <= (h->size - t->offset) / t->count);
        if (!fits) {
            return vx_fail(err, VX_E_CORRUPT, "shm_table",
                           "table %u of a shared region does not fit it", i);
        }
    }
    return VX_OK;
}

int vx_shm_map(int fd, uint64_t magic, bool writable, const uint64_t *min_strides, uint32_t n,
               struct vx_shm *ret, struct vx_err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, "", "descriptor %d is not a shared region", fd);
    }
    if ((uint64_t)st.st_size < sizeof(struct vx_shm_header)) {
        return vx_fail(err, VX_E_CORRUPT, "shm_size", "descriptor %d is too small for a region",
                       fd);
    }
    size_t size = (size_t)st.st_size;
    void *base = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return vx_fail_errno(err, errno, "", "cannot map the shared region of descriptor %d", fd);
    }
    struct vx_shm_header header;
    memcpy(&header, base, sizeof header); /* what is checked is what is used */
    int rc = check(&header, size, magic, min_strides, n, err);
    if (rc != VX_OK) {
        munmap(base, size);
        return rc;
    }
    *ret = mapped(base, size, fd, &header);
    return VX_OK;
}

void vx_shm_close(struct vx_shm *shm) {
    if (shm->base) {
        munmap(shm->base, shm->size);
    }
    if (shm->fd >= 0) {
        close(shm->fd);
    }
    *shm = (struct vx_shm)VX_SHM_INIT;
}

void *vx_shm_record(const struct vx_shm *shm, uint32_t table, uint64_t i) {
    if (!shm->base || table >= shm->tables || i >= shm->table[table].count) {
        return NULL;
    }
    const struct vx_shm_table *t = &shm->table[table];
    return (char *)shm->base + t->offset + t->stride * i;
}
