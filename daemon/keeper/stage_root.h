/* The folder that a job's cases may be staged below. Thread: any. */
#ifndef VX_DAEMON_KEEPER_STAGE_ROOT_H
#define VX_DAEMON_KEEPER_STAGE_ROOT_H

#include <limits.h>
#include <stdbool.h>

struct vx_config;
struct vx_err;
struct vx_job_spec;

/* What the job gave, or the configured one where it gave none; ret is empty where there is neither.
 * A job's folder must be there and, unless any path is allowed (the user is who runs this), lie
 * beneath the configured one, links resolved: VX_E_PERM "stage_not_allowed" or VX_E_NOT_FOUND
 * "no_stage_folder", err->where the field of the spec. */
int vx_stage_root(const struct vx_job_spec *spec, const struct vx_config *config, bool any_path,
                  char ret[PATH_MAX], struct vx_err *err);
/* What the words alone tell of a job's folder, for the moment it is submitted: VX_E_INVALID
 * "stage_not_allowed" where it is not named beneath the configured one. Looks at no disk. */
int vx_stage_admit(const char *asked, const struct vx_config *config, struct vx_err *err);

#endif
