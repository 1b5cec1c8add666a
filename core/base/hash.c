#include "base/hash.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <sha2.h>

void vx_sha256_hex(const void *data, size_t len, char ret_hex[VX_SHA256_HEX]) {
    SHA2_CTX ctx;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256Init(&ctx);
    SHA256Update(&ctx, data, len);
    SHA256Final(digest, &ctx);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        snprintf(ret_hex + (size_t)i * 2, 3, "%02x", digest[i]);
    }
}
