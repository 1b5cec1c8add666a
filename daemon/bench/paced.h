/* A device that pretends: each run takes a given time and computes nothing. It works as a GPU does,
 * beside its caller: a run begins when the one before has ended, at most one waits behind it, and
 * its end is a moment fixed at the start, so that a caller that wakes late makes nothing later.
 * Nobody waits busily. It exists in processes that ask for it, for benchmarks and tests; no job can
 * train on it. Thread: as device.h has it. */
#ifndef VX_DAEMON_BENCH_PACED_H
#define VX_DAEMON_BENCH_PACED_H

#include <stdint.h>

struct vx_err;

struct vx_paced_options {
    uint64_t step_ns;     /* of one run; 0: none */
    uint64_t spike_every; /* so many runs one takes longer; 0: none does */
    uint64_t spike_ns;    /* by so much */
    double growth;        /* of step_ns, relative, per hour since the first run */
    /* Called as each run is handed over; runs counts them from 1. */
    void (*on_run)(void *ctx, uint64_t runs);
    void *ctx;
};

#define VX_PACED_DEVICE "paced"

/* Makes device VX_PACED_DEVICE known to vx_device_open in this process; once. */
int vx_paced_register(const struct vx_paced_options *options, struct vx_err *err);
/* Nanoseconds between runs in which it had nothing to do, since the first one. */
uint64_t vx_paced_idle_ns(void);

#endif
