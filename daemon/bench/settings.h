/* What a benchmark session is told beside its brief (brief.h, `bench`): how the device is paced,
 * how long to measure, and what of a sample's cost is pretended. Thread: any. */
#ifndef VX_DAEMON_BENCH_SETTINGS_H
#define VX_DAEMON_BENCH_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>

struct vx_err;

#define VX_BENCH_COSTS "costs.txt"

struct vx_bench_settings {
    double step_ms;     /* of the pretended device; 0: it takes no time */
    double spike_every; /* steps; one of them takes spike_ms longer; 0: none does */
    double spike_ms;
    double step_growth;   /* relative growth of step_ms per hour */
    double leak_kib;      /* memory that each sample leaves behind in its worker */
    double warm_seconds;  /* not measured, after the first step began */
    double seconds;       /* measured */
    double sample_ms;     /* pretended augmentation of a sample; 0: the real one */
    double sample_cpu_ms; /* of it on a core */
    bool synthetic;       /* samples cost nothing at all */
    bool cold;            /* what was read does not stay in the page cache */
    bool nearer;          /* the store is brought nearer, as for a training */
    bool costs; /* what each sample cost goes to VX_BENCH_COSTS in the job's folder: milliseconds,
                   one a line */
};

/* Absent keys are 0 and false; keys of other readers are left alone. */
int vx_bench_settings_read(const json_t *json, struct vx_bench_settings *ret, struct vx_err *err);
/* New reference; NULL when out of memory. */
json_t *vx_bench_settings_write(const struct vx_bench_settings *s);

#endif
