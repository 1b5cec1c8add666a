/* Between recorder.c (memory, streams, calls) and shadow.c (what was written by whom). */
#ifndef VX_TESTS_DEVICE_CUDA_RECORDER_PRIVATE_H
#define VX_TESTS_DEVICE_CUDA_RECORDER_PRIVATE_H

#include "device/cuda/internal.h"

enum { STREAMS = 4, MAX_ACCESSES = 64 };

/* rows pieces of row_bytes, stride bytes apart. */
struct access {
    const void *at;
    size_t rows, row_bytes, stride;
    bool write;
};

/* What one call touches. */
struct touched {
    struct access list[MAX_ACCESSES];
    int n;
};

void touch(struct touched *t, const void *at, size_t bytes, bool write);
void touch_view(struct touched *t, struct vx_cuda_view view, int64_t voxels, int channels,
                bool write);

/* Logical time of a stream, and what it knows of the others. */
struct clock {
    long at[STREAMS];
};

__attribute__((format(printf, 1, 2))) void problem(const char *fmt, ...);

/* shadow.c */
void shadow_reset(void);
bool shadow_is_device(const void *at);
/* The first byte of a watched program's input. */
bool shadow_is_input(const void *at);
void shadow_add_region(void *base, size_t bytes);
void shadow_remove_region(const void *base);
void shadow_watch(const struct cuda_program *p);
/* The step under way of the watched program whose arena the call touches; -1 outside of steps. */
int shadow_step(const struct touched *t);
void shadow_check(const char *call, const struct touched *t, int step, int stream,
                  const struct clock *now);
/* A run of the program that owns this place begins: what is not kept from run to run holds nothing,
 * and with poison not-a-numbers. */
void shadow_new_run(const void *at, bool poison);

#endif
