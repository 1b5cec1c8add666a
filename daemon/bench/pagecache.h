/* The page cache's share in a folder of files: read in, dropped, asked for. Links are not followed.
 * Thread: any. */
#ifndef VX_DAEMON_BENCH_PAGECACHE_H
#define VX_DAEMON_BENCH_PAGECACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_err;

struct vx_pagecache {
    uint64_t bytes;    /* of all files below the folder */
    uint64_t resident; /* of them in memory */
};

int vx_pagecache_look(const char *dir, struct vx_pagecache *ret, struct vx_err *err);
/* Reads files until max_bytes were read. */
int vx_pagecache_warm(const char *dir, uint64_t max_bytes, struct vx_err *err);
/* Asks the kernel to drop them; what somebody has mapped, and what has no disk below it (tmpfs),
 * stays: look afterwards. */
int vx_pagecache_drop(const char *dir, struct vx_err *err);

#endif
