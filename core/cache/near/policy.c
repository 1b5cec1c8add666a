#include "cache/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Left free where cases are staged, beside a fiftieth of what they take. */
#define STAGE_SPARE ((uint64_t)256 << 20)

static const char *const words[VX_READINGS] = {"auto", "open", "keep", "warm", "stage", "memory"};

const char *vx_reading_word(enum vx_reading mode) {
    return mode < VX_READINGS ? words[mode] : "auto";
}

int vx_reading_of_word(const char *word) {
    for (int i = 0; i < VX_READINGS; i++) {
        if (strcmp(words[i], word) == 0) {
            return i;
        }
    }
    return -1;
}

/* --- texts --- */

struct amount {
    char text[24];
};

static struct amount amount(uint64_t bytes) {
    struct amount a;
    double mb = (double)bytes * 1e-6;
    snprintf(a.text, sizeof a.text,
             mb < 10      ? "%.1f MB"
             : mb < 10000 ? "%.0f MB"
                          : "%.0f GB",
             mb < 10000 ? mb : mb * 1e-3);
    return a;
}

__attribute__((format(printf, 3, 4))) static void
choose(struct vx_cache_choice *c, enum vx_reading mode, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    c->mode = mode;
    vsnprintf(c->reason, sizeof c->reason, fmt, ap);
    va_end(ap);
}

/* Puts "why; " in front of the reason. */
static void because(struct vx_cache_choice *c, const char *why) {
    char rest[sizeof c->reason];
    memcpy(rest, c->reason, sizeof rest);
    snprintf(c->reason, sizeof c->reason, "%s; %.*s", why,
             (int)(sizeof c->reason - strlen(why) - 3), rest);
}

/* --- conditions --- */

static bool fits_memory(const struct vx_cache_facts *f, uint64_t share) {
    return f->resident_bytes > 0 && f->resident_bytes <= share;
}

/* The page cache is everybody's: half of what is free is left to others. */
static bool fits_page_cache(const struct vx_cache_facts *f) {
    return f->store_bytes > 0 && f->store_bytes <= f->memory_available / 2;
}

static bool fits_stage(const struct vx_cache_facts *f) {
    return f->stage && f->store_bytes + f->store_bytes / 50 + STAGE_SPARE <= f->stage_free;
}

static bool slow(enum vx_storage_kind kind) {
    return kind == VX_STORAGE_NETWORK || kind == VX_STORAGE_ROTATIONAL;
}

static bool fast(enum vx_storage_kind kind) {
    return kind == VX_STORAGE_NVME || kind == VX_STORAGE_SSD || kind == VX_STORAGE_MEMORY;
}

/* --- choices --- */

/* Files as they lie, opened once where descriptors allow it. */
static void from_files(const struct vx_cache_facts *f, struct vx_cache_choice *c, const char *why) {
    if (f->files_max == 0) {
        choose(c, VX_READ_OPEN, "%s; the limit of descriptors leaves none for keeping files open",
               why);
    } else if (f->files_max < f->n_files) {
        choose(c, VX_READ_KEEP, "%s; %u of %llu files stay open, the limit of descriptors says",
               why, f->files_max, (unsigned long long)f->n_files);
    } else {
        choose(c, VX_READ_KEEP, "%s", why);
    }
}

/* Neither memory nor another folder. */
static void without_room(const struct vx_cache_facts *f, struct vx_cache_choice *c) {
    char why[192];
    const char *on = vx_storage_word(f->storage);
    if (f->memory_available == 0 && !fast(f->storage)) {
        snprintf(why, sizeof why, "files are read where they lie, on %s storage", on);
        from_files(f, c, why);
    } else if (fast(f->storage)) {
        snprintf(why, sizeof why, "%s storage is fast enough to read from", on);
        from_files(f, c, why);
    } else if (fits_page_cache(f)) {
        choose(c, VX_READ_WARM, "%s on %s storage fits the page cache (%s of memory are free)",
               amount(f->store_bytes).text, on, amount(f->memory_available).text);
    } else {
        snprintf(why, sizeof why,
                 "%s on %s storage is more than memory holds (%s free): sharded_epochs or a "
                 "folder to stage to would help",
                 amount(f->store_bytes).text, on, amount(f->memory_available).text);
        from_files(f, c, why);
    }
}

static void choose_auto(const struct vx_cache_facts *f, struct vx_cache_choice *c) {
    if (f->windows && fits_memory(f, f->memory_share)) {
        choose(c, VX_READ_MEMORY, "two windows of cases take %s decoded, and %s may be taken",
               amount(f->resident_bytes).text, amount(f->memory_share).text);
    } else if (!f->windows && fits_memory(f, f->memory_available / 4) &&
               fits_memory(f, f->memory_share)) {
        choose(c, VX_READ_MEMORY,
               "%s decoded is less than a quarter of the memory that is free (%s)",
               amount(f->resident_bytes).text, amount(f->memory_available).text);
    } else if (slow(f->storage) && fast(f->stage_storage) && fits_stage(f)) {
        choose(c, VX_READ_STAGE,
               "%s on %s storage fits the %s folder it may be staged to (%s free)",
               amount(f->store_bytes).text, vx_storage_word(f->storage),
               vx_storage_word(f->stage_storage), amount(f->stage_free).text);
    } else {
        without_room(f, c);
    }
}

/* What was asked for cannot be had. */
static void instead(const struct vx_cache_facts *f, struct vx_cache_choice *c, const char *why) {
    without_room(f, c);
    because(c, why);
}

static void choose_memory(const struct vx_cache_facts *f, struct vx_cache_choice *c) {
    char why[128];
    if (fits_memory(f, f->memory_share)) {
        choose(c, VX_READ_MEMORY, "asked for; %s decoded of the %s that may be taken",
               amount(f->resident_bytes).text, amount(f->memory_share).text);
        return;
    }
    snprintf(why, sizeof why,
             "asked for memory, but %s decoded is more than the %s that may be taken",
             amount(f->resident_bytes).text, amount(f->memory_share).text);
    instead(f, c, why);
}

static void choose_warm(const struct vx_cache_facts *f, struct vx_cache_choice *c) {
    char why[160];
    if (fits_page_cache(f)) {
        choose(c, VX_READ_WARM, "asked for; %s, and %s of memory are free",
               amount(f->store_bytes).text, amount(f->memory_available).text);
        return;
    }
    snprintf(why, sizeof why,
             "asked to warm the page cache, but %s is more than half of the %s that are free",
             amount(f->store_bytes).text, amount(f->memory_available).text);
    from_files(f, c, why);
}

static void choose_stage(const struct vx_cache_facts *f, struct vx_cache_choice *c) {
    char why[128];
    if (fits_stage(f)) {
        choose(c, VX_READ_STAGE, "asked for; %s, and the folder has %s free",
               amount(f->store_bytes).text, amount(f->stage_free).text);
        return;
    }
    if (f->stage) {
        snprintf(why, sizeof why, "asked to stage %s, but the folder has %s free",
                 amount(f->store_bytes).text, amount(f->stage_free).text);
    } else {
        snprintf(why, sizeof why, "asked to stage, but there is no folder to stage to");
    }
    instead(f, c, why);
}

void vx_cache_choose(enum vx_reading asked, const struct vx_cache_facts *facts,
                     struct vx_cache_choice *ret) {
    switch (asked) {
    case VX_READ_OPEN:
        choose(ret, VX_READ_OPEN, "asked for");
        break;
    case VX_READ_KEEP:
        from_files(facts, ret, "asked for");
        break;
    case VX_READ_WARM:
        choose_warm(facts, ret);
        break;
    case VX_READ_STAGE:
        choose_stage(facts, ret);
        break;
    case VX_READ_MEMORY:
        choose_memory(facts, ret);
        break;
    default:
        choose_auto(facts, ret);
    }
}
