/* A job without the daemon: its spec read, its data set checked and planned, its data prepared, all
 * in this process. What `voxeld train` and `voxeld bench` have in common. Thread: main thread of a
 * verb. */
#ifndef VX_DAEMON_ROLES_ALONE_H
#define VX_DAEMON_ROLES_ALONE_H

#include "daemon/config.h"
#include "daemon/resolve.h"
#include "spec/spec.h"

#include <jansson.h>
#include <stdatomic.h>

struct vx_err;

struct vx_alone {
    struct vx_config config;
    struct vx_job_spec spec;
    json_t *spec_json;                   /* canonical */
    char *spec_text, *raw_dir, *job_dir; /* owned */
    json_t *plans, *fingerprint;
    struct vx_resolved resolved;
};

/* The configuration of a verb; argv[0] is the verb. Exit status: 0, or 2 with the reason on stderr.
 */
int vx_alone_config(struct vx_alone *a, int argc, char **argv, const char *usage);
/* json: the job as POST /v1/jobs takes it, of that type; where: how messages name it. The job's
 * folder is STATE/TYPE/DIGEST, of what the job asks for and, where people have one, the plan of
 * their own; keys of the spec named in apart (NULL-terminated) do not count. */
int vx_alone_spec(struct vx_alone *a, const json_t *json, const char *where, enum vx_job_type type,
                  const char *const *apart, struct vx_err *err);
/* Plan, prepared data and brief: *a is resolved and complete. Plan and fingerprint of an earlier
 * run in the same folder are kept, for planning means reading every volume. */
int vx_alone_prepare(struct vx_alone *a, atomic_bool *stop, struct vx_err *err);
void vx_alone_release(struct vx_alone *a);

#endif
