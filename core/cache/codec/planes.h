/* A chunk as c-blosc leaves it when it shuffles 32-bit values and codes each of their four bytes by
 * itself: four planes, one after another. Rows are put together from the planes, so what a box does
 * not want of a chunk is never put together, and planes that do not compress (three of the four
 * bytes of most float images) are used where they were read.
 *
 * Layout: c-blosc 1.x, README_CHUNK_FORMAT: 16 bytes of header, the offset of the block, and per
 * plane its coded length and bytes; as long as the plane itself means not coded. Coded planes go
 * through c-blosc. Internal to core/cache. Thread: any. */
#ifndef VX_CACHE_CODEC_PLANES_H
#define VX_CACHE_CODEC_PLANES_H

#include <stddef.h>
#include <stdint.h>

struct vx_planes {
    const uint8_t *plane[4]; /* lowest byte first; borrowed from coded and room */
};

/* Bytes of room for chunks of so many values. */
size_t vx_planes_room(size_t values);
/* coded[nbytes]: a blosc buffer whose header was found good and declares 4 * values bytes. 1: ret
 * is filled in; 0: coded another way; -1: a plane cannot be decoded. */
int vx_planes_open(const uint8_t *coded, size_t nbytes, size_t values, uint8_t *room,
                   struct vx_planes *ret);
/* Codes each plane of a buffer anew with lz4hc where lz4 made it 1 / ratio of its size or less, and
 * keeps what is smaller: the same values in fewer bytes, and fewer matches to follow when they are
 * decoded. Returns the buffer's new length; one that is coded another way stays as it is. */
size_t vx_planes_squeeze(uint8_t *coded, size_t nbytes, size_t values, double ratio, int level,
                         uint8_t *room);
/* Values at, at + 1, ... of the chunk. */
void vx_planes_row(const struct vx_planes *p, size_t at, size_t n, void *out);

#endif
