/* The control groups that this process lives in, of both versions: where their folders lie, and
 * what their files say.
 *
 * A controller is looked for in /proc/self/cgroup; its mount point in /proc/self/mountinfo, because
 * neither hosts nor containers agree on one. Where both versions are mounted the controller counts
 * that is attached to version 1. Limits hold for a whole subtree, so a reader walks from the own
 * group up to the mount point and takes the narrowest.
 *
 * `root` is a prefix to every path: "" for this machine, a folder of made-up files in tests.
 * Missing files mean "no limit", never an error. Thread: any. */
#ifndef VX_BASE_CGROUP_H
#define VX_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VX_CGROUP_PATH 1024

struct vx_cgroup {
    int version;              /* 1 or 2 */
    char dir[VX_CGROUP_PATH]; /* of the group, below the mount point */
    size_t top;               /* bytes of dir that are the mount point */
};

/* Group of this process for "cpu", "cpuset", "memory", "blkio" (version 2: "io"); false where the
 * machine has none. */
bool vx_cgroup_find(const char *root, const char *controller, struct vx_cgroup *ret);
/* One level up; false at the mount point. */
bool vx_cgroup_parent(struct vx_cgroup *g);

/* First line of a file of the group, without its newline. False where there is none. */
bool vx_cgroup_line(const struct vx_cgroup *g, const char *file, char *buf, size_t size);
/* A file that holds one number; false also for "max" and negative ones, which mean "none". */
bool vx_cgroup_number(const struct vx_cgroup *g, const char *file, uint64_t *ret);
/* What follows KEY in a line "KEY ...", without its newline. */
bool vx_cgroup_entry(const struct vx_cgroup *g, const char *file, const char *key, char *buf,
                     size_t size);
/* Value of a line "KEY VALUE". */
bool vx_cgroup_field(const struct vx_cgroup *g, const char *file, const char *key, uint64_t *ret);

#endif
