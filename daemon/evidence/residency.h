/* How much of a folder's files the page cache holds, by a sample of them. Thread: one at a time per
 * object. */
#ifndef VX_DAEMON_EVIDENCE_RESIDENCY_H
#define VX_DAEMON_EVIDENCE_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>

struct vx_residency;

/* Walks the folder once for names and sizes. NULL where it cannot be read or memory is out. */
struct vx_residency *vx_residency_open(const char *dir);
struct vx_residency *vx_residency_close(struct vx_residency *r); /* NULL is fine; returns NULL */
uint64_t vx_residency_bytes(const struct vx_residency *r);
/* Bytes that are not in memory, from the pages of some of the files (64 a call, another part each
 * time; all of a small folder). False where the kernel does not say. */
bool vx_residency_cold(struct vx_residency *r, uint64_t *ret_bytes);

#endif
