/* What can be said of a case from its files' names and headers. */
#include "prepare/case.h"

#include "base/err.h"
#include "base/own.h"
#include "cache/cache.h"
#include "plan/dataset.h"
#include "plan/plans.h"
#include "volume/nifti.h"
#include "volume/resample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* path without "dir/" in front, where it lies below dir. */
static const char *relative(const char *dir, const char *path) {
    size_t len = dir ? strlen(dir) : 0;
    while (len > 0 && dir[len - 1] == '/') {
        len--;
    }
    if (len == 0 || strncmp(path, dir, len) != 0 || path[len] != '/') {
        return path;
    }
    while (path[len] == '/') {
        len++;
    }
    return path + len;
}

static int describe(const char *dir, const char *path, struct vx_cache_source *ret,
                    struct vx_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) {
        return vx_fail_errno(err, errno, path, "cannot look at %s", path);
    }
    const char *name = relative(dir, path);
    if ((size_t)snprintf(ret->path, sizeof ret->path, "%s", name) >= sizeof ret->path) {
        return vx_fail(err, VX_E_LIMIT, "path_too_long", "the path %.80s... is longer than %zu",
                       name, sizeof ret->path - 1);
    }
    ret->size_bytes = st.st_size;
    ret->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return VX_OK;
}

int vx_case_sources(const struct vx_case_input *in, struct vx_cache_source **ret, size_t *ret_n,
                    struct vx_err *err) {
    size_t n = (size_t)in->n_images + (in->label ? 1 : 0);
    vx_auto_free struct vx_cache_source *list = calloc(n ? n : 1, sizeof *list);
    if (!list) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = VX_OK;
    for (size_t i = 0; i < n && rc == VX_OK; i++) {
        const char *path = i < (size_t)in->n_images ? in->images[i] : in->label;
        rc = describe(in->dir, path, &list[i], err);
    }
    if (rc == VX_OK) {
        *ret = vx_steal(list);
        *ret_n = n;
    }
    return rc;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

int vx_case_estimate(const struct vx_case_input *in, const struct vx_case_recipe *recipe,
                     uint64_t *ret_memory, uint64_t *ret_voxels, struct vx_err *err) {
    struct vx_nifti_info info;
    int rc = vx_nifti_read_header(in->images[0], &info, err);
    if (rc != VX_OK) {
        return rc;
    }
    const int *f = recipe->plans->transpose_forward;
    const struct vx_plan_config *config = recipe->config;
    double spacing[3], target[3];
    int64_t shape[3], after[3];
    uint64_t n = 1, m = 1, between = 1, c = (uint64_t)config->n_channels;
    for (int a = 0; a < 3; a++) {
        spacing[a] = info.geo.spacing[f[a]];
        shape[a] = info.shape[f[a]];
        target[a] = config->dims == 2 && a == 0 ? spacing[0] : config->spacing[a];
    }
    vx_resample_shape(shape, spacing, target, after);
    for (int a = 0; a < 3; a++) {
        n *= (uint64_t)shape[a];
        m *= (uint64_t)after[a];
        between *= (uint64_t)(shape[a] > after[a] ? shape[a] : after[a]);
    }
    const uint64_t voxel = c * sizeof(float) + sizeof(int16_t); /* image and labels */
    uint64_t cropping = n * (2 * voxel + 1);                    /* both copies, mask */
    uint64_t resampling = n * voxel + m * voxel + between * sizeof(float);
    uint64_t locating = m * (voxel + 2 * sizeof(uint32_t));
    if (ret_memory) {
        *ret_memory = larger(cropping, larger(resampling, locating)) + (8u << 20);
    }
    if (ret_voxels) {
        *ret_voxels = m;
    }
    return VX_OK;
}
