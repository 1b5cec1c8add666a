/* A file system whose opens are slow, as one over a network is with many small files: loaded ahead
 * of the C library, it lets every open for reading beneath SLOW_OPEN_BELOW take SLOW_OPEN_MS
 * longer. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int open_fn(const char *path, int flags, ...);

static bool slow(const char *path) {
    const char *below = getenv("SLOW_OPEN_BELOW");
    return below && strncmp(path, below, strlen(below)) == 0;
}

static void wait_a_little(void) {
    const char *text = getenv("SLOW_OPEN_MS");
    long ms = text ? strtol(text, NULL, 10) : 0;
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

#define OPEN_LIKE(name)                                                                            \
    int name(const char *path, int flags, ...) {                                                   \
        open_fn *real = (open_fn *)dlsym(RTLD_NEXT, #name);                                        \
        if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                                      \
            va_list args;                                                                          \
            va_start(args, flags);                                                                 \
            int mode = va_arg(args, int);                                                          \
            va_end(args);                                                                          \
            return real(path, flags, mode);                                                        \
        }                                                                                          \
        if (slow(path)) {                                                                          \
            wait_a_little();                                                                       \
        }                                                                                          \
        return real(path, flags);                                                                  \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)
