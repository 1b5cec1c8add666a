#include "base/io.h"
#include "base/err.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

char *vx_strf(const char *fmt, ...) {
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

bool vx_path_exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

int vx_mkdirs(const char *path, mode_t mode, struct vx_err *err) {
    vx_auto_free char *copy = strdup(path);
    if (!copy) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char saved = *p;
        *p = '\0';
        if (mkdir(copy, mode) != 0 && errno != EEXIST) {
            return vx_fail_errno(err, errno, copy, "cannot make the folder %s", copy);
        }
        *p = saved;
        if (saved == '\0') {
            break;
        }
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return vx_fail_errno(err, ENOTDIR, path, "%s is not a folder", path);
    }
    return VX_OK;
}

int vx_pread_all(int fd, void *data, size_t len, off_t offset, struct vx_err *err) {
    char *p = data;
    while (len > 0) {
        ssize_t n = pread(fd, p, len, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return vx_fail_errno(err, errno, NULL, "read failed");
        }
        if (n == 0) {
            return vx_fail(err, VX_E_CORRUPT, "truncated_file", "file ends %zu bytes too early",
                           len);
        }
        p += n;
        len -= (size_t)n;
        offset += n;
    }
    return VX_OK;
}

int vx_write_all(int fd, const void *data, size_t len, struct vx_err *err) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return vx_fail_errno(err, errno, NULL, "write failed");
        }
        p += n;
        len -= (size_t)n;
    }
    return VX_OK;
}

int vx_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_len,
                 struct vx_err *err) {
    vx_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return vx_fail_errno(err, errno, path, "cannot stat %s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        vx_fail(err, VX_E_INVALID, "not_a_file", "%s is not a regular file", path);
        return vx_err_at(err, "%s", path), VX_E_INVALID;
    }
    if ((size_t)st.st_size > limit) {
        vx_fail(err, VX_E_LIMIT, "file_too_large", "%s has %lld bytes; at most %zu are read", path,
                (long long)st.st_size, limit);
        return vx_err_at(err, "%s", path), VX_E_LIMIT;
    }
    size_t len = (size_t)st.st_size;
    vx_auto_free char *data = malloc(len + 1);
    if (!data) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu bytes of %s", len, path);
    }
    int rc = vx_pread_all(fd, data, len, 0, err);
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
        return rc;
    }
    data[len] = '\0';
    *ret_data = vx_steal(data);
    if (ret_len) {
        *ret_len = len;
    }
    return VX_OK;
}

int vx_fsync_dir(const char *path, struct vx_err *err) {
    vx_auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        return vx_fail_errno(err, errno, path, "cannot sync the folder %s", path);
    }
    return VX_OK;
}

static int fsync_parent(const char *path, struct vx_err *err) {
    vx_auto_free char *copy = strdup(path);
    return copy ? vx_fsync_dir(dirname(copy), err)
                : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}

int vx_rename_durable(const char *from, const char *to, struct vx_err *err) {
    vx_auto_close int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        return vx_fail_errno(err, errno, from, "cannot sync %s", from);
    }
    if (rename(from, to) != 0) {
        return vx_fail_errno(err, errno, to, "cannot rename %s to %s", from, to);
    }
    return fsync_parent(to, err);
}

int vx_write_file_atomic(const char *path, const void *data, size_t len, mode_t mode,
                         struct vx_err *err) {
    vx_auto_free char *tmp = vx_strf("%s.tmp.%d", path, (int)getpid());
    if (!tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    vx_auto_close int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    int rc = vx_write_all(fd, data, len, err);
    if (rc == VX_OK && fsync(fd) != 0) {
        rc = vx_fail_errno(err, errno, path, "cannot sync %s", path);
    }
    if (rc == VX_OK && rename(tmp, path) != 0) {
        rc = vx_fail_errno(err, errno, path, "cannot rename to %s", path);
    }
    if (rc != VX_OK) {
        unlink(tmp);
        vx_err_at(err, "%s", path);
        return rc;
    }
    return fsync_parent(path, err);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

int vx_remove_tree(const char *path, struct vx_err *err) {
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return vx_fail_errno(err, errno, path, "cannot remove %s", path);
    }
    return VX_OK;
}
