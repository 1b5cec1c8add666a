#include "cache/warm.h"
#include "cache/store.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>

uint64_t vx_warm_pause_ns(uint64_t bytes, uint64_t ns, bool readers_wait) {
    if (ns == 0 || (double)bytes / ((double)ns * 1e-9) > VX_WARM_MEMORY_RATE) {
        return 0;
    }
    return readers_wait ? 3 * ns : ns;
}

int vx_warm_stream(int from, int to, vx_warm_pace_fn *pace, void *ctx, struct vx_err *err) {
    vx_auto_free char *buffer = malloc(VX_WARM_STEP);
    if (!buffer) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    posix_fadvise(from, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        uint64_t start = vx_now_ns();
        ssize_t n = read(from, buffer, VX_WARM_STEP);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return vx_fail_errno(err, errno, NULL, "cannot read");
        }
        if (n == 0) {
            return VX_OK;
        }
        int rc = to < 0 ? VX_OK : vx_write_all(to, buffer, (size_t)n, err);
        if (rc != VX_OK) {
            return rc;
        }
        if (pace && !pace(ctx, (uint64_t)n, vx_now_ns() - start)) {
            return vx_fail(err, VX_E_CANCELLED, "stopped", "stopped");
        }
    }
}

int vx_warm_case(struct vx_cache *cache, size_t i, vx_warm_pace_fn *pace, void *ctx,
                 struct vx_err *err) {
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    int rc = vx_cache_case_open(cache, cache->cases[i].name, &c, err);
    for (int a = 0; rc == VX_OK && a < VX_CACHE_N_ARRAYS; a++) {
        const struct vx_cache_file *f = &c->files[a];
        if (!f->layout.present || f->layout.shard.n_chunks == 0) {
            continue;
        }
        vx_auto_close int fd = open(f->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return vx_fail_errno(err, errno, f->path, "cannot open %s", f->path);
        }
        rc = vx_warm_stream(fd, -1, pace, ctx, err);
        if (rc != VX_OK && rc != VX_E_CANCELLED) {
            vx_err_at(err, "%s", f->path);
        }
    }
    return rc;
}
