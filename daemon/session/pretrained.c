/* See pretrained.h. */
#include "daemon/session/pretrained.h"

#include "base/err.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/predict/place.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define POINTER "/training/pretrained_weights"

static int at_pointer(struct vx_err *err, int rc) {
    vx_err_at(err, POINTER);
    return rc;
}

/* Which root's refusal says most: an absolute path lies beneath one of them at best, a relative one
 * is looked for in each. */
static int telling(const struct vx_err *err, bool absolute) {
    switch (err->code) {
    case VX_OK:
        return 0;
    case VX_E_PERM:
        return absolute ? 1 : 2;
    case VX_E_NOT_FOUND:
        return absolute ? 2 : 1;
    default:
        return 3;
    }
}

int vx_pretrained_find(const struct vx_config *config, const char *asked, char *ret_path,
                       size_t size, struct vx_err *err) {
    const char *const roots[] = {config->data, config->preprocessed, config->results};
    struct vx_err why = {0};
    for (size_t i = 0; i < VX_COUNTOF(roots); i++) {
        struct vx_err here = {0};
        struct stat st;
        if (!roots[i] || stat(roots[i], &st) != 0) {
            continue; /* made when something is first put there */
        }
        if (vx_place_file(roots[i], "folder", asked, ret_path, size, &here) == VX_OK) {
            return VX_OK;
        }
        if (telling(&here, asked[0] == '/') > telling(&why, asked[0] == '/')) {
            why = here;
        }
    }
    if (why.code == VX_E_PERM) {
        vx_fail(err, VX_E_PERM, "outside_root",
                "%.200s leads out of the data, preprocessed and results folders", asked);
    } else if (why.code == VX_OK || why.code == VX_E_NOT_FOUND) {
        vx_fail(err, VX_E_NOT_FOUND, "no_weights",
                "there is no file %.200s in the data, preprocessed or results folder", asked);
    } else {
        vx_fail(err, why.code, why.reason, "%s", why.text);
    }
    return at_pointer(err, why.code == VX_OK ? VX_E_NOT_FOUND : why.code);
}

int vx_pretrained_any(const char *asked, char *ret_path, size_t size, struct vx_err *err) {
    vx_auto_free char *path = realpath(asked, NULL);
    struct stat st;
    if (!path || stat(path, &st) != 0) {
        vx_fail_errno(err, errno, NULL, "the pretrained weights %.200s cannot be opened", asked);
        return at_pointer(err, err ? err->code : VX_E_IO);
    }
    if (!S_ISREG(st.st_mode)) {
        vx_fail(err, VX_E_INVALID, "not_a_file", "%.200s is not a regular file", asked);
        return at_pointer(err, VX_E_INVALID);
    }
    if ((size_t)snprintf(ret_path, size, "%s", path) >= size) {
        vx_fail(err, VX_E_LIMIT, "path_too_long", "the path of %.100s is too long", asked);
        return at_pointer(err, VX_E_LIMIT);
    }
    return VX_OK;
}
