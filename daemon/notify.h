/* What the daemon tells systemd: ready, status, watchdog, stopping. Without a manager
 * (NOTIFY_SOCKET unset) every call does nothing. Thread: loop thread. */
#ifndef VX_DAEMON_NOTIFY_H
#define VX_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

void vx_notify_ready(const char *status);
void vx_notify_status(const char *status);
void vx_notify_watchdog(void);
void vx_notify_stopping(void);
/* Milliseconds between two watchdog messages (half of WatchdogSec); 0: no watchdog. */
uint64_t vx_notify_watchdog_ms(void);
/* Whether stdout goes to systemd's journal, which others than the daemon's user may read. */
bool vx_notify_journal(void);

#endif
