/* Folders and files that a job names, resolved beneath a configured root: no "..", no absolute path
 * and no link leads out of it (openat2 with RESOLVE_BENEATH; links within the root are followed).
 * asked is relative to the root, or absolute beneath it. Thread: any; a few system calls. */
#ifndef VX_DAEMON_PREDICT_PLACE_H
#define VX_DAEMON_PREDICT_PLACE_H

#include <stddef.h>

struct vx_err;

/* ret_path (size bytes): ROOT/ASKED, a folder that exists. what: the root's name for messages, e.g.
 * "data root". VX_E_NOT_FOUND "no_folder", VX_E_PERM "outside_root", VX_E_LIMIT "path_too_long". */
int vx_place_find(const char *root, const char *what, const char *asked, char *ret_path,
                  size_t size, struct vx_err *err);
/* The same for a folder that need not exist yet: as far as it does, it lies beneath the root. Makes
 * nothing. */
int vx_place_new(const char *root, const char *what, const char *asked, char *ret_path, size_t size,
                 struct vx_err *err);

/* The same for a file that exists; ret_path is its real path, links resolved. Other reasons:
 * VX_E_NOT_FOUND "no_file", VX_E_INVALID "not_a_file". */
int vx_place_file(const char *root, const char *what, const char *asked, char *ret_path,
                  size_t size, struct vx_err *err);

#endif
