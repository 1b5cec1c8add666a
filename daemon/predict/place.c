/* See place.h. */
#include "daemon/predict/place.h"

#include "base/err.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One resolution. */
struct place {
    const char *root, *what;
    const char *rel; /* beneath root */
    bool file;       /* asked for a file, not a folder */
};

static int open_beneath(int root, const char *rel, int flags) {
    struct open_how how = {.flags = (unsigned)(O_PATH | O_CLOEXEC | flags),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, rel, &how, sizeof how);
}

/* errno of an attempt to open rel as an error. */
static int refuse(const struct place *p, int why, struct vx_err *err) {
    if (why == EXDEV || why == ELOOP) {
        return vx_fail(err, VX_E_PERM, "outside_root", "%s leads out of the %s %s", p->rel, p->what,
                       p->root);
    }
    if (why == ENOENT) {
        return vx_fail(err, VX_E_NOT_FOUND, p->file ? "no_file" : "no_folder",
                       "there is no %s %s in the %s %s", p->file ? "file" : "folder", p->rel,
                       p->what, p->root);
    }
    if (why == ENOTDIR) {
        return vx_fail(err, VX_E_INVALID, "not_a_folder", "%s in the %s %s is not a folder", p->rel,
                       p->what, p->root);
    }
    return vx_fail_errno(err, why, NULL, "%s in the %s %s cannot be opened", p->rel, p->what,
                         p->root);
}

static int open_root(const struct place *p, int *ret_fd, struct vx_err *err) {
    int fd = open(p->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return vx_fail_errno(err, errno, p->root, "the %s %s cannot be opened", p->what, p->root);
    }
    *ret_fd = fd;
    return VX_OK;
}

/* The part of asked beneath the root. */
static const char *relative(const char *root, const char *asked) {
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/') {
        n--;
    }
    bool inside = strncmp(asked, root, n) == 0 && asked[n] == '/';
    const char *rel = inside ? asked + n : asked;
    while (inside && *rel == '/') {
        rel++;
    }
    return *rel ? rel : ".";
}

static int finish(const struct place *p, char *ret_path, size_t size, struct vx_err *err) {
    return (size_t)snprintf(ret_path, size, "%s/%s", p->root, p->rel) < size
               ? VX_OK
               : vx_fail(err, VX_E_LIMIT, "path_too_long", "the path of %.100s is too long",
                         p->rel);
}

int vx_place_find(const char *root, const char *what, const char *asked, char *ret_path,
                  size_t size, struct vx_err *err) {
    struct place p = {root, what, relative(root, asked), false};
    vx_auto_close int fd = -1;
    int rc = open_root(&p, &fd, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_close int found = open_beneath(fd, p.rel, O_DIRECTORY);
    return found < 0 ? refuse(&p, errno, err) : finish(&p, ret_path, size, err);
}

/* Whether rel lies beneath root as far as it exists: its longest part that can be opened does, and
 * what is missing behind it cannot lead anywhere. */
static int check_new(const struct place *p, int root, struct vx_err *err) {
    vx_auto_free char *part = strdup(p->rel);
    if (!part) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    if (p->rel[0] == '/') {
        return refuse(p, EXDEV, err); /* absolute, and not beneath the root */
    }
    for (const char *at = p->rel; *at; at += strspn(at, "/")) {
        size_t n = strcspn(at, "/");
        if (n == 2 && at[0] == '.' && at[1] == '.') {
            return refuse(p, EXDEV, err); /* also where it would stay inside: nobody needs it */
        }
        at += n;
    }
    for (;;) {
        vx_auto_close int fd = open_beneath(root, part, O_DIRECTORY);
        char *slash = strrchr(part, '/');
        if (fd >= 0 || (errno == ENOENT && !slash)) {
            return VX_OK;
        }
        if (errno != ENOENT) {
            return refuse(p, errno, err);
        }
        *slash = '\0';
    }
}

int vx_place_new(const char *root, const char *what, const char *asked, char *ret_path, size_t size,
                 struct vx_err *err) {
    struct place p = {root, what, relative(root, asked), false};
    vx_auto_close int fd = -1;
    int rc = open_root(&p, &fd, err);
    rc = rc == VX_OK ? check_new(&p, fd, err) : rc;
    return rc == VX_OK ? finish(&p, ret_path, size, err) : rc;
}

int vx_place_file(const char *root, const char *what, const char *asked, char *ret_path,
                  size_t size, struct vx_err *err) {
    struct place p = {root, what, relative(root, asked), true};
    vx_auto_close int fd = -1;
    int rc = open_root(&p, &fd, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_close int found = open_beneath(fd, p.rel, 0);
    struct stat st;
    char self[64];
    if (found < 0 || fstat(found, &st) != 0) {
        return refuse(&p, errno == ENOTDIR ? ENOENT : errno, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return vx_fail(err, VX_E_INVALID, "not_a_file", "%s in the %s %s is not a file", p.rel,
                       what, root);
    }
    snprintf(self, sizeof self, "/proc/self/fd/%d", found);
    ssize_t n = readlink(self, ret_path, size);
    if (n < 0 || (size_t)n >= size) {
        return vx_fail(err, VX_E_LIMIT, "path_too_long", "the path of %.100s is too long", p.rel);
    }
    ret_path[n] = '\0';
    return VX_OK;
}
