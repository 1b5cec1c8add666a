/* Clocks. Thread: any. */
#ifndef VX_BASE_CLOCK_H
#define VX_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds: for durations; comparable between processes of one boot. */
uint64_t vx_now_ns(void);
/* CLOCK_REALTIME in milliseconds since 1970: for stored times. */
int64_t vx_wall_ms(void);
/* Writes "2026-11-23T05:30:00.123Z" into buf (at least 25 bytes) and returns buf. */
char *vx_iso8601(int64_t wall_ms, char *buf, size_t size);

#endif
