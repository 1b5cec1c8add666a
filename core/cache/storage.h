/* What kind of storage a path lies on. Thread: any. */
#ifndef VX_CACHE_STORAGE_H
#define VX_CACHE_STORAGE_H

#include <stdint.h>
#include <sys/types.h>

struct vx_err;

enum vx_storage_kind {
    VX_STORAGE_UNKNOWN, /* a virtual disk, or a file system whose device is not told */
    VX_STORAGE_MEMORY,  /* tmpfs, ramfs */
    VX_STORAGE_NVME,
    VX_STORAGE_SSD,
    VX_STORAGE_ROTATIONAL,
    VX_STORAGE_NETWORK, /* also file systems in user space, which mostly are one */
    VX_STORAGE_KINDS
};

struct vx_storage {
    enum vx_storage_kind kind;
    char name[64]; /* of the file system ("nfs") or the device ("nvme0n1"); may be empty */
};

/* "unknown", "memory", "nvme", "ssd", "rotational", "network". */
const char *vx_storage_word(enum vx_storage_kind kind);
/* Asks statfs, /proc/self/mountinfo and /sys. What the kernel does not tell is VX_STORAGE_UNKNOWN;
 * only a path that is not there is an error. */
int vx_storage_probe(const char *path, struct vx_storage *ret, struct vx_err *err);
/* The judgement alone, below another root ("" is the machine's): fs_type is statfs's f_type, dev
 * stat's st_dev, path absolute and without links. An overlay is what its upper folder lies on; a
 * device mapper or RAID volume is the slowest of its disks. */
void vx_storage_judge(const char *root, uint64_t fs_type, dev_t dev, const char *path,
                      struct vx_storage *ret);

#endif
