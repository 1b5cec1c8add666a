/* State folder: lock and token. The lock is a flock on DIR/lock, so the kernel drops it however the
 * owner ends; the pid inside is only for the message. */
#include "daemon/home.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int take_lock(const char *dir, int *ret_fd, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/lock", dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open the lock file %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return vx_fail_errno(err, errno, path, "cannot lock %s", path);
        }
        char pid[32] = "";
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        vx_fail(err, VX_E_BUSY, "state_locked",
                "the state folder %s is in use by another voxeld (pid %s); stop it or give another "
                "--state",
                dir, pid[0] ? pid : "unknown");
        return vx_err_at(err, "%s", path);
    }
    char pid[32];
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

static int make_token(const char *path, char ret[VX_TOKEN_SIZE], struct vx_err *err) {
    uint8_t raw[32];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
        return vx_fail_errno(err, errno, path, "cannot draw a token");
    }
    char text[VX_TOKEN_SIZE + 1];
    for (size_t i = 0; i < sizeof raw; i++) {
        snprintf(text + 2 * i, 3, "%02x", raw[i]);
    }
    memcpy(ret, text, VX_TOKEN_SIZE);
    text[VX_TOKEN_SIZE - 1] = '\n';
    return vx_write_file_atomic(path, text, VX_TOKEN_SIZE, 0600, err);
}

static int read_token(const char *dir, char ret[VX_TOKEN_SIZE], struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/token", dir);
    vx_auto_free char *text = NULL;
    size_t len = 0;
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    if (!vx_path_exists(path)) {
        return make_token(path, ret, err);
    }
    int rc = vx_read_file(path, 4096, &text, &len, err);
    if (rc != VX_OK) {
        return rc;
    }
    len = strcspn(text, "\r\n");
    text[len] = '\0';
    if (len < 16 || len >= VX_TOKEN_SIZE ||
        strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != len) {
        return vx_fail(
            err, VX_E_INVALID, "token_invalid",
            "%s must hold one line of 16 to 64 letters, digits, - or _; remove it to get a new one",
            path);
    }
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0 && chmod(path, 0600) != 0) {
        return vx_fail_errno(err, errno, path, "%s is readable by others and cannot be closed",
                             path);
    }
    memcpy(ret, text, len + 1);
    return VX_OK;
}

int vx_home_open(const char *dir, struct vx_home *ret, struct vx_err *err) {
    vx_auto_free char *jobs = vx_strf("%s/jobs", dir);
    if (!jobs) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    struct vx_home s = {.lock_fd = -1};
    int rc = vx_mkdirs(dir, 0700, err);
    if (rc == VX_OK) {
        rc = take_lock(dir, &s.lock_fd, err);
    }
    if (rc == VX_OK) {
        rc = vx_mkdirs(jobs, 0700, err);
    }
    if (rc == VX_OK) {
        rc = read_token(dir, s.token, err);
    }
    if (rc != VX_OK) {
        vx_home_close(&s);
        return rc;
    }
    *ret = s;
    return VX_OK;
}

void vx_home_close(struct vx_home *s) {
    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
    s->lock_fd = -1;
}
