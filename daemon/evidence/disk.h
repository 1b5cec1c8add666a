/* What the own control groups allow of a disk (io.max, blkio.throttle). `root` is a prefix to every
 * path, "" for this machine. Thread: any. */
#ifndef VX_DAEMON_EVIDENCE_DISK_H
#define VX_DAEMON_EVIDENCE_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes a second that may be read from the disk with that number, or whose partition it is; the
 * narrowest limit up to the mount point. False where there is none. */
bool vx_disk_read_limit(const char *root, uint32_t major, uint32_t minor, uint64_t *ret);

#endif
