/* A network on a device, for the checks of gpu_check: any failure prints a line and ends the
 * program.
 */
#ifndef VX_TESTS_DEVICE_CUDA_GPU_HOST_H
#define VX_TESTS_DEVICE_CUDA_GPU_HOST_H

#include "device/device.h"
#include "device/net_maker.h"
#include "device/oplist.h"

#include <jansson.h>

struct vx_err;

/* "tiny" is built for every network of networks.c: on the recording device. */
extern bool network_stand_in;

enum { HOST_SEED = 11 };

struct host {
    const struct vx_oplist *net; /* borrowed */
    struct vx_device *device;
    struct vx_state *state;
};

/* The state has weights drawn by core/net from HOST_SEED. */
struct host open_host(const char *device, const struct vx_oplist *net);
void close_host(struct host *h);
struct vx_program *compile(struct host *h, enum vx_mode mode, enum vx_precision precision);
/* Starts a run and waits for it. */
struct vx_run_result run(struct vx_program *p, const struct vx_run_input *in);
/* All parameters of a part, one after the other; owned by the caller. */
float *all_of(struct host *h, enum vx_state_part part, size_t *ret_n);
/* Of x from y, by the length of y; the cosine between them. */
double distance(const float *x, const float *y, size_t n, double *ret_cosine);

/* Samples where a device can take them without a detour, as it takes those of the ring. */
struct lent {
    void *memory; /* owned */
    size_t bytes;
    const float **images; /* into memory; the arrays are owned */
    const int16_t **labels;
};
struct vx_run_input lend(struct host *h, const struct samples *s, float rate, struct lent *ret);
/* After close_host. */
void lent_release(struct lent *l);

/* One of networks.c by name, "small" or "tiny" for a little one; ends the program where there is
 * none. maker_release frees it. */
struct vx_oplist *named(const char *name, struct maker *m);

void must(int rc, const struct vx_err *err, const char *what);
/* Prints o, with whether it passed, on a line; takes the reference. */
void print_line(json_t *o, bool passed);
/* JSON has no not-a-number: null. */
json_t *real(double v);

#endif
