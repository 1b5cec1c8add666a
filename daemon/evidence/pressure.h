/* The kernel's measure of standing still for lack of something (PSI): /proc/pressure, or the own
 * control group's files where version 2 has them. `root` as in base/cgroup.h. Thread: any. */
#ifndef VX_DAEMON_EVIDENCE_PRESSURE_H
#define VX_DAEMON_EVIDENCE_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

struct vx_pressure {
    uint64_t some_us, full_us; /* only ever grow */
};
/* resource: "cpu", "io" or "memory". False where this kernel does not keep it. */
bool vx_pressure_read(const char *root, const char *resource, struct vx_pressure *ret);

#endif
