/* The spec's "loader". Private to this room. */
#ifndef VX_SPEC_LOADER_H
#define VX_SPEC_LOADER_H

#include "spec/spec.h"

void vx_spec_parse_loader(const json_t *json, struct vx_job_spec *s, struct vx_json_problems *ps);
/* New reference. */
json_t *vx_spec_loader_to_json(const struct vx_job_spec *s);

/* parse.c: a string that must be one of the NULL-terminated words; -1 where it is absent or wrong.
 */
int vx_spec_one_of(const json_t *obj, const char *base, const char *key, const char *const *words,
                   struct vx_json_problems *ps);

#endif
