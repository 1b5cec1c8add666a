/* Zip archives as PyTorch and numpy write and read them: APPNOTE.TXT 6.3 without encryption,
 * spanning or comments, with ZIP64 where a size, an offset or the number of members needs it.
 *
 *   struct vx_zip_writer *zip;
 *   vx_zip_create("case.npz", &zip, err);
 *   vx_zip_add(zip, "probabilities.npy", data, bytes, VX_ZIP_DEFLATED, err);
 *   vx_zip_commit(zip, err);
 *   zip = vx_zip_discard(zip);
 *
 * The writer lays the data of stored members at multiples of 64 bytes, with a padding field in the
 * local header, as torch.save does, so that they can be mapped. The file has its name only after
 * vx_zip_commit: readers see all or nothing. The reader takes stored members only (a .pth has no
 * others), so that nothing it hands out is larger than the file. Thread: any; one at a time per
 * object. */
#ifndef VX_CHECKPOINT_ZIP_H
#define VX_CHECKPOINT_ZIP_H

#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_zip_writer;
struct vx_zip; /* an opened archive */

#define VX_ZIP_MAX_NAME    255
#define VX_ZIP_MAX_MEMBERS ((size_t)1 << 20)
#define VX_ZIP_ALIGN       64

enum vx_zip_method { VX_ZIP_STORED = 0, VX_ZIP_DEFLATED = 8 };

/* Opens path.tmp.PID for writing. */
int vx_zip_create(const char *path, struct vx_zip_writer **ret, struct vx_err *err);
/* One whole member. name: relative, at most VX_ZIP_MAX_NAME bytes of UTF-8, once per archive (the
 * caller's care). */
int vx_zip_add(struct vx_zip_writer *w, const char *name, const void *data, size_t size,
               enum vx_zip_method method, struct vx_err *err);
/* A member in pieces: begin with its size, any number of puts that add up to it, end. */
int vx_zip_begin(struct vx_zip_writer *w, const char *name, uint64_t size,
                 enum vx_zip_method method, struct vx_err *err);
int vx_zip_put(struct vx_zip_writer *w, const void *data, size_t size, struct vx_err *err);
int vx_zip_end(struct vx_zip_writer *w, struct vx_err *err);
/* Writes the directory, syncs and renames to path. After any failure the old file at path still
 * stands. Errors of all of these: VX_E_FULL, VX_E_IO, VX_E_NOMEM, VX_E_INVALID for a name or for
 * sizes that do not add up. */
int vx_zip_commit(struct vx_zip_writer *w, struct vx_err *err);
/* Frees the writer; without a commit the temporary file goes as well. NULL is fine. Returns NULL.
 */
struct vx_zip_writer *vx_zip_discard(struct vx_zip_writer *w);

struct vx_zip_member {
    const char *name; /* borrowed from the archive */
    uint64_t at;      /* offset of the data in the file */
    uint64_t size;    /* bytes; at + size lies within the file */
    uint32_t crc32;
};

/* Reads and checks the directory and every local header: members lie inside the file, before the
 * directory, and do not overlap; names are unique. VX_E_CORRUPT names what is wrong,
 * VX_E_UNSUPPORTED a compressed or encrypted member, VX_E_LIMIT too many members. */
int vx_zip_open(const char *path, struct vx_zip **ret, struct vx_err *err);
struct vx_zip *vx_zip_close(struct vx_zip *z); /* NULL is fine. Returns NULL. */
size_t vx_zip_count(const struct vx_zip *z);
/* In the directory's order. */
const struct vx_zip_member *vx_zip_member(const struct vx_zip *z, size_t i);
/* Index, or -1. */
int64_t vx_zip_find(const struct vx_zip *z, const char *name);
/* All of member i into dst, which has room for its size; its checksum is compared. */
int vx_zip_read(const struct vx_zip *z, size_t i, void *dst, struct vx_err *err);

static inline void vx_own_zip_writer(struct vx_zip_writer **w) {
    vx_zip_discard(*w);
}
static inline void vx_own_zip(struct vx_zip **z) {
    vx_zip_close(*z);
}
#define vx_auto_zip_writer __attribute__((cleanup(vx_own_zip_writer)))
#define vx_auto_zip        __attribute__((cleanup(vx_own_zip)))

#endif
