/* Small file helpers. Every descriptor is close-on-exec. Thread: any. */
#ifndef VX_BASE_IO_H
#define VX_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct vx_err;

/* mkdir -p; mode applies to folders made. */
int vx_mkdirs(const char *path, mode_t mode, struct vx_err *err);
/* Whole file into memory, NUL-terminated; refuses files over limit bytes. Caller frees *ret_data.
 */
int vx_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_len,
                 struct vx_err *err);
/* All of len bytes or an error; EINTR and short transfers are handled. read: EOF before len is
 * VX_E_CORRUPT. */
int vx_write_all(int fd, const void *data, size_t len, struct vx_err *err);
int vx_pread_all(int fd, void *data, size_t len, off_t offset, struct vx_err *err);
/* Writes path.tmp.PID, fsyncs it, renames it to path and fsyncs the folder: readers see all or
 * nothing. */
int vx_write_file_atomic(const char *path, const void *data, size_t len, mode_t mode,
                         struct vx_err *err);
int vx_fsync_dir(const char *path, struct vx_err *err);
/* The fsync + rename + fsync-of-folder half, for files or folders written by others. */
int vx_rename_durable(const char *from, const char *to, struct vx_err *err);
/* rm -rf, without following links; a missing path is fine. */
int vx_remove_tree(const char *path, struct vx_err *err);
bool vx_path_exists(const char *path);
/* malloc'ed printf; NULL when out of memory. */
char *vx_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
