/* sd_notify. See notify.h. */
#include "daemon/notify.h"

#include <systemd/sd-daemon.h>

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
