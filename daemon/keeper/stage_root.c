#include "daemon/keeper/stage_root.h"

#include "base/err.h"
#include "daemon/config.h"
#include "spec/spec.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD "/loader/cache/stage"

static bool beneath(const char *path, const char *root) {
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/') {
        n--;
    }
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1);
}

static int not_allowed(const struct vx_config *config, const char *asked, int rc,
                       struct vx_err *err) {
    if (config->stage) {
        vx_fail(err, rc, "stage_not_allowed", "%s is not beneath %s, which jobs may stage to",
                asked, config->stage);
    } else {
        vx_fail(err, rc, "stage_not_allowed",
                "no folder is configured that jobs may stage to (stage in voxeld.conf, --stage)");
    }
    vx_err_at(err, FIELD);
    return rc;
}

int vx_stage_admit(const char *asked, const struct vx_config *config, struct vx_err *err) {
    bool fits = config->stage && beneath(asked, config->stage);
    return fits ? VX_OK : not_allowed(config, asked, VX_E_INVALID, err);
}

int vx_stage_root(const struct vx_job_spec *spec, const struct vx_config *config, bool any_path,
                  char ret[PATH_MAX], struct vx_err *err) {
    const char *asked = spec->loader.stage;
    char root[PATH_MAX], real[PATH_MAX];
    ret[0] = '\0';
    if (!asked[0]) {
        snprintf(ret, PATH_MAX, "%s", config->stage ? config->stage : "");
        return VX_OK;
    }
    if (!any_path && (!config->stage || !realpath(config->stage, root))) {
        return not_allowed(config, asked, VX_E_PERM, err);
    }
    if (!realpath(asked, real)) {
        vx_fail(err, VX_E_NOT_FOUND, "no_stage_folder", "the folder %s is not there", asked);
        vx_err_at(err, FIELD);
        return VX_E_NOT_FOUND;
    }
    if (!any_path && !beneath(real, root)) {
        return not_allowed(config, asked, VX_E_PERM, err);
    }
    snprintf(ret, PATH_MAX, "%s", real);
    return VX_OK;
}
