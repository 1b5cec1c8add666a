#include "daemon/evidence/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH 1024

/* Content of /proc/PID/FILE, NUL-terminated; the number of bytes, 0 where there are none. */
static size_t slurp(const char *root, int32_t pid, const char *file, char *buf, size_t size) {
    char path[PATH];
    buf[0] = '\0';
    if ((size_t)snprintf(path, sizeof path, "%s/proc/%d/%s", root, pid, file) >= sizeof path) {
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n =
        fd >= 0 ? read(fd, buf, size - 1) : -1; /* the kernel gives such files in one piece */
    if (fd >= 0) {
        close(fd);
    }
    buf[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static uint64_t ticks_to_ns(uint64_t ticks) {
    static long hz;
    if (!hz) {
        hz = sysconf(_SC_CLK_TCK);
        hz = hz > 0 ? hz : 100;
    }
    return ticks * (1000000000ull / (uint64_t)hz);
}

bool vx_process_read(const char *root, int32_t pid, struct vx_process *ret) {
    char text[1024];
    struct vx_process p = {.pid = pid};
    if (!slurp(root, pid, "stat", text, sizeof text)) {
        return false;
    }
    /* the name is in parentheses and may hold anything, further parentheses too */
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open) {
        return false;
    }
    snprintf(p.name, sizeof p.name, "%.*s", (int)(close - open - 1), open + 1);
    unsigned long long faults = 0, user = 0, system = 0, start = 0;
    unsigned processor = 0;
    /* fields 3 to 39 of proc(5) */
    int n = sscanf(close + 1,
                   " %c %d %*d %*d %*d %*d %*u %*u %*u %llu %*u %llu %llu %*d %*d %*d %*d %*d %*d "
                   "%llu %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %u",
                   &p.state, &p.ppid, &faults, &user, &system, &start, &processor);
    if (n < 6) {
        return false;
    }
    p.processor = processor;
    p.cpu_ns = ticks_to_ns(user + system);
    p.major_faults = faults;
    p.start_ticks = start;
    *ret = p;
    return true;
}

void vx_process_waits(const char *root, int32_t pid, struct vx_process_waits *ret) {
    char text[512];
    unsigned long long ran, waited, bytes;
    *ret = (struct vx_process_waits){0};
    if (slurp(root, pid, "schedstat", text, sizeof text) &&
        sscanf(text, "%llu %llu", &ran, &waited) == 2) {
        ret->has_runqueue = true;
        ret->runqueue_ns = waited;
    }
    if (slurp(root, pid, "io", text, sizeof text)) {
        const char *at = strstr(text, "\nread_bytes:");
        if (at && sscanf(at, "\nread_bytes: %llu", &bytes) == 1) {
            ret->has_device = true;
            ret->device_bytes = bytes;
        }
    }
}

uint64_t vx_process_memory(const char *root, int32_t pid) {
    char text[256];
    unsigned long long resident, shared;
    if (!slurp(root, pid, "statm", text, sizeof text) ||
        sscanf(text, "%*u %llu %llu", &resident, &shared) != 2 || resident < shared) {
        return 0;
    }
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool vx_process_uid(const char *root, int32_t pid, uint32_t *ret) {
    char text[4096];
    unsigned uid;
    if (!slurp(root, pid, "status", text, sizeof text)) {
        return false;
    }
    const char *at = strstr(text, "\nUid:");
    if (!at || sscanf(at, "\nUid: %u", &uid) != 1) {
        return false;
    }
    *ret = uid;
    return true;
}

void vx_process_stuck(const char *root, int32_t pid, struct vx_process_stuck *ret) {
    struct vx_process p;
    *ret = (struct vx_process_stuck){0};
    if (vx_process_read(root, pid, &p)) {
        ret->state = p.state;
    }
    slurp(root, pid, "wchan", ret->wchan, sizeof ret->wchan);
    slurp(root, pid, "syscall", ret->syscall, sizeof ret->syscall);
    ret->syscall[strcspn(ret->syscall, "\n")] = '\0';
    slurp(root, pid, "stack", ret->stack, sizeof ret->stack);
}
