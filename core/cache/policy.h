/* How a prepared store is read, by its size, what it lies on, and memory. Thread: any; pure. */
#ifndef VX_CACHE_POLICY_H
#define VX_CACHE_POLICY_H

#include "cache/storage.h"

#include <stdbool.h>
#include <stdint.h>

/* From the least to the most that is done; session/control.h has the same numbers as enum
 * vx_cache_mode. */
enum vx_reading {
    VX_READ_AUTO = 0,
    VX_READ_OPEN,   /* files are opened for each read */
    VX_READ_KEEP,   /* files stay open, least recently used first to go */
    VX_READ_WARM,   /* and the page cache is filled in the background */
    VX_READ_STAGE,  /* and cases are copied to a faster folder */
    VX_READ_MEMORY, /* decoded arrays in memory that the workers share */
    VX_READINGS
};
/* "auto", "open", "keep", "warm", "stage", "memory"; -1 for other words. */
const char *vx_reading_word(enum vx_reading mode);
int vx_reading_of_word(const char *word);

/* What is known when it is chosen; 0 where nothing is. */
struct vx_cache_facts {
    uint64_t n_files;     /* array files of the store */
    uint64_t store_bytes; /* as they lie in the files */
    uint64_t dense_bytes; /* decoded */
    /* Decoded bytes that must be in memory at once: all, or two windows of sharded epochs, the
     * present and the next. */
    uint64_t resident_bytes;
    bool windows; /* sharded epochs: resident_bytes is less than dense_bytes */
    enum vx_storage_kind storage;
    uint64_t memory_available; /* within the control groups */
    uint64_t memory_share;     /* what one data set may take of it: base/budget.h */
    uint32_t files_max;        /* descriptors a worker may keep for data */
    /* a folder to stage to; zero where none is configured */
    bool stage;
    enum vx_storage_kind stage_storage;
    uint64_t stage_free;
};

struct vx_cache_choice {
    enum vx_reading mode;
    char reason[256]; /* a sentence for people, with the figures that decided */
};

/* asked: VX_READ_AUTO, or what a job wants, which is followed where it can be. Where it cannot (no
 * memory, no room, no folder to stage to) the next best is chosen and the reason says so. */
void vx_cache_choose(enum vx_reading asked, const struct vx_cache_facts *facts,
                     struct vx_cache_choice *ret);

#endif
