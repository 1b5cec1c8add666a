#include "infer/stamp.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define MAX_BYTES 4096

int vx_stamp_hold(const char *dir, int *ret_fd, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/.lock", dir);
    vx_auto_close int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write into %s", dir);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        vx_fail(err, VX_E_BUSY, "output_in_use", "another process writes predictions into %s", dir);
        return vx_err_at(err, "%s", dir);
    }
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

bool vx_stamp_any(const char *dir) {
    vx_auto_free char *path = vx_strf("%s/.stamp", dir);
    return path && vx_path_exists(path);
}

bool vx_stamp_is(const char *dir, const char *stamp) {
    vx_auto_free char *path = vx_strf("%s/.stamp", dir), *found = NULL;
    return path && vx_read_file(path, MAX_BYTES, &found, NULL, NULL) == VX_OK &&
           strcmp(found, stamp) == 0;
}

int vx_stamp_write(const char *dir, const char *stamp, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/.stamp", dir);
    return path ? vx_write_file_atomic(path, stamp, strlen(stamp), 0666, err)
                : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}
