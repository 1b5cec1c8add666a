/* Numbers that C and Python make alike (hashed.py), for inputs of golden figures. */
#ifndef VX_TESTS_ORACLE_HASHED_H
#define VX_TESTS_ORACLE_HASHED_H

#include <stdint.h>

/* Word i of row c. */
static inline uint32_t hashed_word(uint32_t i, uint32_t c) {
    uint32_t u = (i + 1000003u * c) * 2654435761u;
    u = (u ^ u >> 15) * 2246822519u;
    return u ^ u >> 13;
}

/* The same in [-2, 2), 24 bits. */
static inline float hashed(uint32_t i, uint32_t c) {
    return (float)(hashed_word(i, c) >> 8) * 0x1p-22f - 2.0f;
}

#endif
