/* Inside daemon/roles/step*.c: one training process. Thread: its main thread. */
#ifndef VX_DAEMON_ROLES_STEP_H
#define VX_DAEMON_ROLES_STEP_H

#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <stdatomic.h>

struct vx_brief;
struct vx_device;
struct vx_err;
struct vx_oplist;
struct vx_plan_config;
struct vx_plans;
struct vx_recipe;
struct vx_train;
struct vx_train_source;
struct step_bench;

struct step {
    struct vx_brief *brief;
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
    const char *device_name; /* borrowed; the brief's, unless it was given another */
    struct vx_device *device;
    struct vx_recipe *recipe; /* the brief's */
    struct vx_plans *plans;
    const struct vx_plan_config *config; /* inside plans */
    struct vx_oplist *net;
    int precision; /* enum vx_precision */
    struct vx_train *train;
    struct step_bench *bench; /* NULL: a training */
};

extern atomic_bool vx_step_stop; /* set by SIGTERM */

/* step_export.c: the finished checkpoints as .pth files beside them. */
int vx_step_export(struct step *s, struct vx_err *err);
/* step_validate.c: the held-out cases through the trained network; says the result. VX_E_CANCELLED
 * where stopped. */
int vx_step_validate(struct step *s, struct vx_err *err);

/* bench/step.c, where the brief asks for a benchmark: makes the pretended device known; the samples
 * for the engine; the figures as the result, given how the engine's run ended (rc is handed on
 * where it was not the benchmark that ended it). */
int vx_step_bench_open(struct step *s, struct vx_err *err);
struct vx_train_source *vx_step_bench_source(struct step *s);
int vx_step_bench_end(struct step *s, int rc, struct vx_err *err);
void vx_step_bench_release(struct step *s);

#endif
