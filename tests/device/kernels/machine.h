/* The little of CUDA's runtime that the parity program needs: machine_gpu.c, or machine_none.c
 * where the "device" is the CPU with blocks and threads in another order, to test the program. */
#ifndef VX_TESTS_KERNELS_MACHINE_H
#define VX_TESTS_KERNELS_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

/* False where there is no GPU; name says what there is, or why there is none. */
bool machine_open(char *name, size_t size);
void *machine_new(size_t bytes); /* ends the program where there is no memory */
void machine_free(void *p);
void machine_put(void *device, const void *host, size_t bytes);
void machine_get(void *host, const void *device, size_t bytes);
void machine_copy(void *to, const void *from, size_t bytes); /* on the device */
/* Waits; 0 or what went wrong since, as a text. */
const char *machine_wait(void);
/* Median milliseconds of one call among `times`, after a first one. 0: this machine has no clock
 * worth reading. */
double machine_time(void (*call)(void *context), void *context, int times);

#endif
