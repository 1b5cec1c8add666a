/* Process-shared futexes on 32-bit words of shared memory. Private to this room. Thread and
 * process: any. */
#ifndef VX_SESSION_FUTEX_H
#define VX_SESSION_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Sleeps while *word == seen, at most timeout_ns; returns early on a wake, a signal or a changed
 * word. */
static inline void vx_futex_wait(const uint32_t *word, uint32_t seen, uint64_t timeout_ns) {
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
}

static inline void vx_futex_wake(uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Changes the word and wakes everyone who sleeps on it. */
static inline void vx_futex_bump(uint32_t *word) {
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    vx_futex_wake(word, INT_MAX);
}

#endif
