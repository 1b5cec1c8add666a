/* SHA-256 through libmd. Thread: any. */
#ifndef VX_BASE_HASH_H
#define VX_BASE_HASH_H

#include <stddef.h>

#define VX_SHA256_HEX 65

/* Writes 64 lower-case hex digits and a NUL. */
void vx_sha256_hex(const void *data, size_t len, char ret_hex[VX_SHA256_HEX]);

#endif
