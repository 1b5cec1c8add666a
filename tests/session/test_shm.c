/* Regions: layout, sealing, and headers that lie. */
#include "base/err.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/shm.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Test(session_shm, tables_are_aligned_and_apart) {
    struct vx_shm_table t[3] = {{0, 8, 5}, {0, 100, 3}, {0, 5000, 2}};
    struct vx_shm s = VX_SHM_INIT;
    struct vx_err err = {0};
    cr_assert_eq(vx_shm_create("test", VX_SHM_RING, t, 3, 1u << 2, &s, &err), VX_OK, "%s",
                 err.text);
    cr_assert_eq(s.base->table[0].stride, 64);
    cr_assert_eq(s.base->table[1].stride, 128);
    cr_assert_eq(s.base->table[2].stride, 8192);
    cr_assert_eq(s.base->table[2].offset % 4096, 0);
    char *last = NULL;
    for (uint32_t table = 0; table < 3; table++) {
        for (uint64_t i = 0; i < s.base->table[table].count; i++) {
            char *at = vx_shm_record(&s, table, i);
            cr_assert(at > last);
            memset(at, 7, s.base->table[table].stride);
            last = at + s.base->table[table].stride - 1;
        }
        cr_assert_null(vx_shm_record(&s, table, s.base->table[table].count));
    }
    cr_assert(last < (char *)s.base + s.size);
    cr_assert_null(vx_shm_record(&s, 3, 0));
    cr_assert_eq(ftruncate(s.fd, 4096), -1, "the size is sealed");
    vx_shm_close(&s);
    vx_shm_close(&s);
}

static int map_damaged(void (*damage)(struct vx_shm_header *), struct vx_err *err) {
    struct vx_knobs knobs = {2, 0, 1, 0, 5, 0};
    struct vx_control c = {VX_SHM_INIT}, other = {VX_SHM_INIT};
    cr_assert_eq(vx_control_create(&knobs, &c, NULL), VX_OK);
    damage(c.shm.base);
    int fd = dup(c.shm.fd);
    int rc = vx_control_map(fd, &other, err);
    if (rc != VX_OK) {
        cr_assert_eq(close(fd), 0, "a refused descriptor stays the caller's");
    }
    vx_control_close(&other);
    vx_control_close(&c);
    return rc;
}

static void no_damage(struct vx_shm_header *h) {
    (void)h;
}
static void other_magic(struct vx_shm_header *h) {
    h->magic = VX_SHM_RING;
}
static void other_abi(struct vx_shm_header *h) {
    h->abi = 99;
}
static void other_order(struct vx_shm_header *h) {
    h->byte_order = 0x04030201u;
}
static void other_size(struct vx_shm_header *h) {
    h->size += 4096;
}
static void far_table(struct vx_shm_header *h) {
    h->table[2].offset = h->size - 64;
}
static void huge_count(struct vx_shm_header *h) {
    h->table[2].count = UINT64_MAX / 64;
}
static void small_stride(struct vx_shm_header *h) {
    h->table[1].stride = 0;
}
static void no_records(struct vx_shm_header *h) {
    h->table[0].count = 0;
}
static void many_tables(struct vx_shm_header *h) {
    h->tables = 1000;
}

Test(session_shm, refuses_headers_that_lie) {
    struct vx_err err = {0};
    cr_assert_eq(map_damaged(no_damage, &err), VX_OK);
    cr_assert_eq(map_damaged(other_magic, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(other_abi, &err), VX_E_UNSUPPORTED);
    cr_assert_eq(map_damaged(other_order, &err), VX_E_UNSUPPORTED);
    cr_assert_eq(map_damaged(other_size, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(far_table, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(huge_count, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(small_stride, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(no_records, &err), VX_E_CORRUPT);
    cr_assert_eq(map_damaged(many_tables, &err), VX_E_CORRUPT);
    cr_assert_eq(vx_control_map(-1, &(struct vx_control){VX_SHM_INIT}, &err), VX_E_IO);
}

/* A worker that writes where it should not must not take those with it who look after it. */
Test(session_shm, a_header_overwritten_later_leads_nobody_astray) {
    const struct vx_knobs knobs = {2, 7, 1, 0, 5, 0};
    struct vx_knobs seen = {0};
    struct vx_control c = {VX_SHM_INIT}, other = {VX_SHM_INIT};
    cr_assert_eq(vx_control_create(&knobs, &c, NULL), VX_OK);
    cr_assert_eq(vx_control_map(dup(c.shm.fd), &other, NULL), VX_OK);
    void *first = vx_shm_record(&c.shm, 2, 5), *second = vx_shm_record(&other.shm, 2, 5);
    memset(c.shm.base, 0xa5, sizeof *c.shm.base);
    cr_expect_eq(vx_shm_record(&c.shm, 2, 5), first);
    cr_expect_eq(vx_shm_record(&other.shm, 2, 5), second);
    cr_expect_null(vx_shm_record(&c.shm, 2, VX_WORKERS_MAX));
    cr_assert(vx_control_knobs(&other, &seen));
    cr_expect_eq(seen.window, 7);
    vx_control_close(&other);
    vx_control_close(&c);
}

Test(session_shm, refuses_a_ring_whose_descriptor_lies) {
    struct vx_ring r = {VX_SHM_INIT}, other;
    uint32_t size[3] = {2, 3, 4};
    struct vx_sample_schedule s = {1, 1, 0, 1};
    struct vx_err err = {0};
    cr_assert_eq(vx_ring_create(1, size, &s, 8, 0, &r, &err), VX_OK, "%s", err.text);
    struct vx_ring_desc *d = vx_shm_record(&r.shm, 1, 0);
    d->size[0] = 4000;
    int fd = dup(r.shm.fd);
    cr_assert_eq(vx_ring_map(fd, &other, &err), VX_E_CORRUPT);
    d->size[0] = 2;
    cr_assert_eq(vx_ring_map(fd, &other, &err), VX_OK);
    vx_ring_close(&other);
    vx_ring_close(&r);
}

Test(session_control, the_cache_mode_overrules_whether_files_stay_open) {
    struct vx_knobs k = {.keep_files_open = 1};
    for (uint32_t mode = 0; mode < VX_CACHE_MODES; mode++) {
        k.cache_mode = mode;
        k.keep_files_open = 1;
        cr_expect_eq(vx_knobs_keep_open(&k), mode != VX_CACHE_OPEN);
        k.keep_files_open = 0;
        cr_expect_eq(vx_knobs_keep_open(&k), mode == VX_CACHE_KEEP);
    }
}

Test(session_control, carries_knobs_gate_and_worker_table) {
    struct vx_knobs knobs = {2, 16, 1, VX_CACHE_WARM, -3, VX_CACHE_KEEP}, seen;
    struct vx_control c = {VX_SHM_INIT}, other = {VX_SHM_INIT};
    cr_assert_eq(vx_control_create(&knobs, &c, NULL), VX_OK);
    cr_assert_eq(vx_control_map(dup(c.shm.fd), &other, NULL), VX_OK);
    cr_assert(vx_control_knobs(&other, &seen));
    cr_assert_eq(memcmp(&seen, &knobs, sizeof seen), 0);
    uint32_t before = vx_control_changed(&other);
    knobs.window = 4;
    vx_control_set_knobs(&c, &knobs);
    cr_assert_neq(vx_control_changed(&other), before);
    vx_control_wait(&other, before, 1000000000u); /* returns at once: it changed */
    cr_assert(vx_control_knobs(&other, &seen));
    cr_assert_eq(seen.window, 4);
    cr_assert_eq(vx_control_gate(&other), VX_GATE_OPEN);
    vx_control_set_gate(&c, VX_GATE_STOPPED);
    cr_assert_eq(vx_control_gate(&other), VX_GATE_STOPPED);
    int32_t pid = 0;
    cr_assert_eq(vx_control_worker(&other, 3, &pid), VX_WANT_NONE);
    vx_control_set_worker(&c, 3, 1234, VX_WANT_LEAVE);
    cr_assert_eq(vx_control_worker(&other, 3, &pid), VX_WANT_LEAVE);
    cr_assert_eq(pid, 1234);
    cr_assert_eq(vx_control_worker(&other, 64, &pid), VX_WANT_NONE);
    vx_control_set_worker(&c, 64, 1, VX_WANT_RUN);
    struct vx_exclusions x, out = {.n = 1, .list = {{7, {0, 1}, 0, {30, 4}}}};
    cr_assert(vx_control_exclusions(&other, &x));
    cr_assert(x.version == 0 && x.n == 0);
    before = vx_control_changed(&other);
    vx_control_set_exclusions(&c, &out);
    cr_assert_neq(vx_control_changed(&other), before);
    cr_assert(vx_control_exclusions(&other, &x));
    cr_assert(x.version == 1 && x.n == 1 && x.list[0].case_index == 7);
    cr_assert(x.list[0].from_k[1] == 4 && x.list[0].from_j[1] == 1);
    vx_control_close(&other);
    vx_control_close(&c);
}
