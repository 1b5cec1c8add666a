#include "loader/pretend.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void vx_pretend_augment(const struct vx_pretence *p) {
    uint64_t start = vx_now_ns(), end = start + p->augment_ns;
    uint64_t until = thread_cpu_ns() + p->cpu_ns;
    volatile double x = 1;
    while (p->cpu_ns && thread_cpu_ns() < until) {
        for (int i = 0; i < 1000; i++) {
            x = x * 1.0000001 + 1e-9;
        }
    }
    struct timespec t = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

void vx_pretend_leak(const struct vx_pretence *p) {
    static void **last; /* a chain, so that a leak checker does not take it for a mistake */
    void **block = p->leak_bytes > sizeof(void *) ? malloc(p->leak_bytes) : NULL;
    if (block) {
        memset(block, 1, p->leak_bytes);
        *block = last;
        last = block;
    }
}
