/* CRC-32C (Castagnoli, reflected 0x1EDC6F41), the checksum of Zarr v3's crc32c codec; RFC 3720
 * appendix B.4 has the test vectors. Thread: any. */
#ifndef VX_CACHE_CODEC_CRC32C_H
#define VX_CACHE_CODEC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over len bytes. */
uint32_t vx_crc32c(uint32_t crc, const void *data, size_t len);
/* The table version, for CPUs without the instruction; public so that a test can hold one against
 * the other. */
uint32_t vx_crc32c_table(uint32_t crc, const void *data, size_t len);

#endif
