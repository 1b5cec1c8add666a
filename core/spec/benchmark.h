/* The part of a spec that only jobs of type benchmark have. Private to this room. */
#ifndef VX_SPEC_BENCHMARK_H
#define VX_SPEC_BENCHMARK_H

#include "spec/spec.h"

/* json: the whole job. */
void vx_spec_parse_benchmark(const json_t *json, struct vx_job_spec *s,
                             struct vx_json_problems *ps);
/* New reference. */
json_t *vx_spec_benchmark_to_json(const struct vx_job_spec *s);

#endif
