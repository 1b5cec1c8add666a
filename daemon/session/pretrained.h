/* Where pretrained weights lie. Over HTTP they are named beneath the daemon's own folders, and
 * nothing leads out of those; whoever runs `voxeld train` may name any file. Thread: any; a few
 * system calls, the file is not read. */
#ifndef VX_DAEMON_SESSION_PRETRAINED_H
#define VX_DAEMON_SESSION_PRETRAINED_H

#include <stddef.h>

struct vx_config;
struct vx_err;

/* ret_path (size bytes): the real path of the file that asked names beneath the data, preprocessed
 * or results folder, in this order; relative to one of them, or absolute. VX_E_NOT_FOUND
 * "no_weights", VX_E_PERM "outside_root", VX_E_INVALID "not_a_file"; err->where is the spec's
 * pointer. */
int vx_pretrained_find(const struct vx_config *config, const char *asked, char *ret_path,
                       size_t size, struct vx_err *err);
/* The same for any file; a relative path begins in the current folder. */
int vx_pretrained_any(const char *asked, char *ret_path, size_t size, struct vx_err *err);

#endif
