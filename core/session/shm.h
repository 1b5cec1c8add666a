/* Shared memory regions of a session: anonymous memory files (memfd), passed to children by
 * inheritance.
 *
 * Every region starts with a header that says what it is and where its tables lie. Readers go by
 * offset, stride and count, never by sizeof, so a region stays readable when records grow at their
 * end. All tables and records start at multiples of 64 bytes. Thread: the mapping may be used from
 * any; create and map are called once per process. */
#ifndef VX_SESSION_SHM_H
#define VX_SESSION_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

#define VX_SHM_ABI        1u
#define VX_SHM_BYTE_ORDER 0x01020304u
#define VX_SHM_TABLES     8
#define VX_SHM_ALIGN      64u

/* Eight characters each, as they appear in memory. */
#define VX_SHM_CONTROL  0x3172746e6f437856ull /* "VxContr1" */
#define VX_SHM_TIMELINE 0x31656e696c547856ull /* "VxTline1" */
#define VX_SHM_RING     0x31676e6952787856ull /* "VxxRing1" */

struct vx_shm_table {
    uint64_t offset; /* bytes from the region's start */
    uint64_t stride; /* bytes from one record to the next */
    uint64_t count;  /* records; 0: no such table */
};

struct vx_shm_header {
    uint64_t magic;
    uint32_t abi;
    uint32_t byte_order;
    uint64_t size; /* of the whole region in bytes */
    uint32_t tables;
    uint32_t reserved;
    struct vx_shm_table table[VX_SHM_TABLES];
};

/* A mapped region of this process. */
struct vx_shm {
    struct vx_shm_header *base; /* owned mapping; NULL when closed */
    size_t size;
    int fd; /* owned; -1 when not held. Close-on-exec: whoever spawns clears that in the child */
    /* The header's tables as they were when they were made or checked: another process that goes
     * astray may overwrite those in the region, and must not lead anybody out of it. */
    uint32_t tables;
    struct vx_shm_table table[VX_SHM_TABLES];
};

#define VX_SHM_INIT                                                                                \
    { .fd = -1 }

/* Makes a region holding the n tables given by stride and count (offsets are filled in; strides are
 * rounded up to 64, or to whole pages for the tables whose bit is set in page_mask), all memory
 * allocated and mapped at once: a lack of memory is an error here (VX_E_NOMEM or VX_E_FULL),
 * not a signal later. The size is sealed. name is for people reading /proc. */
int vx_shm_create(const char *name, uint64_t magic, const struct vx_shm_table *tables, uint32_t n,
                  uint32_t page_mask, struct vx_shm *ret, struct vx_err *err);

/* Maps the region behind fd (writable or read-only) and checks its header against the file's size:
 * magic, ABI, byte order, every table inside the file; the first n with a record at least, of
 * min_strides[i] bytes at least (NULL: not checked). VX_E_CORRUPT or VX_E_UNSUPPORTED otherwise. On
 * success *ret owns fd; on failure the caller still does. */
int vx_shm_map(int fd, uint64_t magic, bool writable, const uint64_t *min_strides, uint32_t n,
               struct vx_shm *ret, struct vx_err *err);

/* Unmaps and closes; fine on a closed one. */
void vx_shm_close(struct vx_shm *shm);

/* Record i of a table; NULL where there is none. */
void *vx_shm_record(const struct vx_shm *shm, uint32_t table, uint64_t i);

#endif
