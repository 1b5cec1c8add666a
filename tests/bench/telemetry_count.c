/* Loaded ahead of the C library, it counts how often a process asks for the time and for its own
 * CPU time: $COUNT_CALLS/PID is a file of two 64-bit numbers that grow while the process runs. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static uint64_t unseen[2], *count = unseen;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_getrusage)(__rusage_who_t, struct rusage *);

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    const char *dir = getenv("COUNT_CALLS");
    snprintf(path, sizeof path, "%s/%d", dir ? dir : ".", (int)getpid());
    int fd = dir ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0) {
        return;
    }
    void *at = ftruncate(fd, sizeof unseen) == 0
                   ? mmap(NULL, sizeof unseen, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                   : MAP_FAILED;
    count = at != MAP_FAILED ? at : unseen;
    close(fd);
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret) {
    if (!real_clock_gettime) {
        *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    }
    __atomic_fetch_add(&count[0], 1, __ATOMIC_RELAXED);
    return real_clock_gettime(clock, ret);
}

EXPORT int getrusage(__rusage_who_t who, struct rusage *ret) {
    if (!real_getrusage) {
        *(void **)&real_getrusage = dlsym(RTLD_NEXT, "getrusage");
    }
    __atomic_fetch_add(&count[1], 1, __ATOMIC_RELAXED);
    return real_getrusage(who, ret);
}
