#include "checkpoint/weights.h"

#include "base/err.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pth_read.h"

#include <errno.h>
#include <fcntl.h>

/* safetensors: 8 bytes of length, then a JSON object. */
static int is_safetensors(const char *path, bool *ret, struct vx_err *err) {
    char first = 0;
    vx_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &first, 1, 8) < 0) {
        return vx_fail_errno(err, errno, path, "cannot read %s", path);
    }
    *ret = first == '{';
    return VX_OK;
}

int vx_weights_read(const char *path, struct vx_ckpt *ret, struct vx_err *err) {
    bool own = false;
    int rc = is_safetensors(path, &own, err);
    if (rc != VX_OK || own) {
        return rc == VX_OK ? vx_ckpt_read(path, ret, err) : rc;
    }
    struct vx_pth p;
    rc = vx_pth_read(path, false, &p, err);
    if (rc == VX_OK) {
        *ret = p.ckpt;
        vx_ckpt_init(&p.ckpt);
        vx_pth_release(&p);
    }
    return rc;
}
