/* Where the processes of a session stand when no step ends any more: the evidence of a hang, taken
 * before anything is restarted. Thread: the telemetry thread. */
#ifndef VX_DAEMON_TELEMETRY_STUCK_H
#define VX_DAEMON_TELEMETRY_STUCK_H

#include <jansson.h>
#include <stdint.h>

struct watched;

/* [{"role": "step" | "augment", "pid", "doing" (our own marker), "marker_age_seconds", "state" (the
 * kernel's letter), "wchan", "syscall", "stack", "case_index"}]; what the kernel does not tell is
 * left out, as is a process that is gone. root: prefix of /proc, "" for this machine. New
 * reference; NULL when out of memory. */
json_t *stuck_json(const char *root, const struct watched *w, uint64_t now_ns);

#endif
