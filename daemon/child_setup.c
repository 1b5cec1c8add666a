/* See child_setup.h. */
#include "daemon/child_setup.h"

#include "base/own.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

void vx_child_setup_format(const struct vx_child_setup *s, char *buf, size_t size) {
    snprintf(buf, size, VX_CHILD_SETUP_ENV "=parent=%ld signal=%d nice=%d oom=%d memory=%llu",
             (long)s->parent, s->death_signal, s->nice, s->oom_score_adj,
             (unsigned long long)s->memory_bytes);
}

static void set_oom_score(int value) {
    vx_auto_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        dprintf(fd, "%d", value); /* best effort: a container may forbid it */
    }
}

void vx_child_setup_apply(void) {
    const char *text = getenv(VX_CHILD_SETUP_ENV);
    if (!text) {
        return;
    }
    long parent = 0;
    int death_signal = 0, nice_value = 0, oom = 0;
    unsigned long long memory = 0;
    if (sscanf(text, "parent=%ld signal=%d nice=%d oom=%d memory=%llu", &parent, &death_signal,
               &nice_value, &oom, &memory) != 5) {
        fprintf(stderr, "voxeld: " VX_CHILD_SETUP_ENV " is malformed: %s\n", text);
        _exit(2);
    }
    prctl(PR_SET_PDEATHSIG, death_signal);
    if (getppid() != (pid_t)parent) {
        _exit(3); /* the parent died between spawn and here: its death signal was never armed */
    }
    setpriority(PRIO_PROCESS, 0, nice_value);
    set_oom_score(oom);
#ifdef __SANITIZE_ADDRESS__
    memory = 0; /* the sanitizer's shadow memory alone is terabytes of address space */
#endif
    if (memory) {
        struct rlimit limit = {memory, memory};
        setrlimit(RLIMIT_DATA, &limit);
    }
    unsetenv(VX_CHILD_SETUP_ENV);
}
