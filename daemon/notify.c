/* sd_notify. See notify.h. */
#include "daemon/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void vx_notify_ready(const char *status) {
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void vx_notify_status(const char *status) {
    sd_notifyf(0, "STATUS=%s", status);
}

void vx_notify_watchdog(void) {
    sd_notify(0, "WATCHDOG=1");
}

void vx_notify_stopping(void) {
    sd_notify(0, "STOPPING=1\nSTATUS=Stopping: trainings write a checkpoint");
}

uint64_t vx_notify_watchdog_ms(void) {
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec / 2000 : 0;
}

bool vx_notify_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device = 0, inode = 0;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDOUT_FILENO, &st) == 0 && st.st_dev == (dev_t)device &&
           st.st_ino == (ino_t)inode;
}
