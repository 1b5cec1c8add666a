/* Record signatures and sizes of the zip format (APPNOTE.TXT 6.3, sections 4.3 and 4.5). Private to
 * this room. */
#ifndef VX_CHECKPOINT_ZIP_FORMAT_H
#define VX_CHECKPOINT_ZIP_FORMAT_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "zip records are read and written as native words"
#endif

enum {
    ZIP_LOCAL = 0x04034b50, /* local file header, 4.3.7 */
    ZIP_LOCAL_BYTES = 30,
    ZIP_CENTRAL = 0x02014b50, /* central directory header, 4.3.12 */
    ZIP_CENTRAL_BYTES = 46,
    ZIP_END64 = 0x06064b50, /* ZIP64 end of central directory record, 4.3.14 */
    ZIP_END64_BYTES = 56,
    ZIP_LOCATOR64 = 0x07064b50, /* its locator, 4.3.15 */
    ZIP_LOCATOR64_BYTES = 20,
    ZIP_END = 0x06054b50, /* end of central directory record, 4.3.16 */
    ZIP_END_BYTES = 22,
    ZIP_EXTRA64 = 0x0001,   /* ZIP64 extra field, 4.5.3 */
    ZIP_EXTRA_PAD = 0x4246, /* "FB": PyTorch's padding */
    ZIP_VERSION = 20,
    ZIP_VERSION64 = 45,
    ZIP_FLAG_ENCRYPTED = 0x0001,
    ZIP_FLAG_UTF8 = 0x0800,
    ZIP_1980 = 0x0021, /* 1980-01-01: a file's bytes depend on its contents only */
};
#define ZIP_MASK32 UINT32_MAX /* "see the ZIP64 field" */
#define ZIP_MASK16 UINT16_MAX

static inline uint16_t zip_u16(const unsigned char *p) {
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline uint32_t zip_u32(const unsigned char *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline uint64_t zip_u64(const unsigned char *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
/* Each writes a word at p and returns the place behind it. */
static inline unsigned char *zip_put16(unsigned char *p, unsigned x) {
    uint16_t word = (uint16_t)x;
    memcpy(p, &word, sizeof word);
    return p + sizeof word;
}
static inline unsigned char *zip_put32(unsigned char *p, uint32_t x) {
    memcpy(p, &x, sizeof x);
    return p + sizeof x;
}
static inline unsigned char *zip_put64(unsigned char *p, uint64_t x) {
    memcpy(p, &x, sizeof x);
    return p + sizeof x;
}

#endif
