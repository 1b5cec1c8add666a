/* Reading plans.json, inside this folder: what its parts share. Thread: any. */
#ifndef VX_PLAN_PLANS_READING_H
#define VX_PLAN_PLANS_READING_H

#include "plan/plans.h"

/* One configuration while it is read: where it is, for messages. */
struct reading {
    const char *name;
    struct vx_err *err;
};

/* read.c. Both name the configuration and the field, as text and as a JSON pointer. */
int plans_bad(const struct reading *r, const char *field, const char *why); /* VX_E_INVALID */
int plans_foreign(const struct reading *r, const char *field,
                  const json_t *value); /* _UNSUPPORTED */
/* `dims` integers from lo to hi into axes 3 - dims .. 2; the axis that 2d leaves out gets 1. */
bool plans_axes_int(const json_t *list, int dims, int lo, int hi, int out[3]);

/* architecture.c: network, stages, features, kernels, strides, convolutions. c->dims is known. */
int plans_read_architecture(const json_t *config, const struct reading *r,
                            struct vx_plan_config *c);

/* inherit.c: the configuration with what it inherits (`inherits_from`, any depth; a child's keys
 * replace its parent's whole). *ret: new reference. VX_E_NOT_FOUND "unknown_configuration" names
 * those that there are; VX_E_INVALID where a parent is missing or inherits from its child. */
int plans_inherit(const json_t *configs, const char *name, json_t **ret, struct vx_err *err);

#endif
