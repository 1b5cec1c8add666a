/* Zip archives: what is written is what is read; damage is refused by name. */
#include "checkpoint/zip.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define expect_ok(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, e.text, e.where);                   \
    } while (0)

static char *temp_file(const char *name) {
    const char *tmp = getenv("TMPDIR");
    return vx_strf("%s/vx-zip-%s-%d.zip", tmp ? tmp : "/tmp", name, (int)getpid());
}

static void fill(unsigned char *data, size_t n, uint32_t seed) {
    struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 1);
    for (size_t i = 0; i < n; i++) {
        data[i] = (unsigned char)(vx_rng_u32(&r) % 7);
    }
}

enum { LONG = 700001 };

static void write_sample(const char *path, const unsigned char *data) {
    struct vx_err e = {0};
    vx_auto_zip_writer struct vx_zip_writer *w = NULL;
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "top/data.pkl", "\x80\x02N.", 4, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_begin(w, "top/data/0", LONG, VX_ZIP_STORED, &e));
    for (size_t at = 0; at < LONG; at += 100000) {
        expect_ok(vx_zip_put(w, data + at, at + 100000 < LONG ? 100000 : LONG - at, &e));
    }
    expect_ok(vx_zip_end(w, &e));
    expect_ok(vx_zip_add(w, "top/empty", NULL, 0, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_commit(w, &e));
}

Test(checkpoint_zip, stored_members_come_back_aligned) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("stored");
    vx_auto_free unsigned char *data = malloc(LONG), *back = malloc(LONG);
    vx_auto_zip struct vx_zip *z = NULL;
    fill(data, LONG, 1);
    write_sample(path, data);
    expect_ok(vx_zip_open(path, &z, &e));
    cr_assert_eq(vx_zip_count(z), 3);
    cr_assert_eq(vx_zip_find(z, "top/data/0"), 1);
    cr_assert_eq(vx_zip_find(z, "top/data/1"), -1);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(vx_zip_member(z, i)->at % VX_ZIP_ALIGN, 0);
    }
    cr_assert_eq(vx_zip_member(z, 1)->size, LONG);
    expect_ok(vx_zip_read(z, 1, back, &e));
    cr_assert_eq(memcmp(data, back, LONG), 0);
    expect_ok(vx_zip_read(z, 0, back, &e));
    cr_assert_eq(memcmp(back, "\x80\x02N.", 4), 0);
    expect_ok(vx_zip_read(z, 2, back, &e));
    unlink(path);
}

/* The raw deflate stream behind the first local header. */
static void inflate_first(const unsigned char *file, size_t len, unsigned char *ret, size_t n) {
    z_stream s = {0};
    size_t at = 30 + (size_t)(file[26] | file[27] << 8) + (size_t)(file[28] | file[29] << 8);
    cr_assert_eq(file[8] | file[9] << 8, 8);
    cr_assert_eq(inflateInit2(&s, -MAX_WBITS), Z_OK);
    s.next_in = (unsigned char *)file + at;
    s.avail_in = (uInt)(len - at);
    s.next_out = ret;
    s.avail_out = (uInt)n;
    cr_assert_eq(inflate(&s, Z_FINISH), Z_STREAM_END);
    cr_assert_eq(s.total_out, n);
    inflateEnd(&s);
}

Test(checkpoint_zip, deflated_members_inflate_and_are_refused_by_the_reader) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("deflated");
    vx_auto_free unsigned char *data = malloc(LONG), *back = malloc(LONG);
    vx_auto_free char *file = NULL;
    struct vx_zip_writer *w = NULL;
    struct vx_zip *z = NULL;
    size_t len = 0;
    fill(data, LONG, 2);
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "probabilities.npy", data, LONG, VX_ZIP_DEFLATED, &e));
    expect_ok(vx_zip_commit(w, &e));
    vx_zip_discard(w);
    expect_ok(vx_read_file(path, 1 << 20, &file, &len, &e));
    cr_assert_lt(len, LONG / 2);
    inflate_first((unsigned char *)file, len, back, LONG);
    cr_assert_eq(memcmp(data, back, LONG), 0);
    cr_assert_eq(vx_zip_open(path, &z, &e), VX_E_UNSUPPORTED);
    cr_assert_str_eq(e.reason, "compressed_member");
    cr_assert(strstr(e.text, "probabilities.npy"));
    unlink(path);
}

Test(checkpoint_zip, nothing_stands_without_a_commit) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("atomic");
    vx_auto_free char *tmp = vx_strf("%s.tmp.%d", path, (int)getpid());
    vx_auto_free char *file = NULL;
    struct vx_zip_writer *w = NULL;
    expect_ok(vx_write_file_atomic(path, "old", 3, 0644, &e));
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_begin(w, "a", 10, VX_ZIP_DEFLATED, &e));
    expect_ok(vx_zip_put(w, "12345", 5, &e));
    cr_assert_eq(vx_zip_put(w, "123456", 6, &e), VX_E_INVALID);
    cr_assert_eq(vx_zip_end(w, &e), VX_E_INVALID);
    cr_assert_eq(vx_zip_commit(w, &e), VX_E_INVALID);
    cr_assert(vx_path_exists(tmp));
    vx_zip_discard(w);
    cr_assert_not(vx_path_exists(tmp));
    expect_ok(vx_read_file(path, 10, &file, NULL, &e));
    cr_assert_str_eq(file, "old");
    unlink(path);
}

/* The sample's file with one word of `bytes` bytes at `at` from its end replaced. */
static void expect_refused(const char *file, size_t len, size_t from_end, uint64_t word,
                           size_t bytes, const char *reason) {
    struct vx_err e = {0};
    struct vx_zip *z = NULL;
    vx_auto_free char *path = temp_file("bad");
    vx_auto_free char *copy = malloc(len);
    memcpy(copy, file, len);
    memcpy(copy + len - from_end, &word, bytes);
    expect_ok(vx_write_file_atomic(path, copy, len, 0644, &e));
    int rc = vx_zip_open(path, &z, &e);
    cr_assert_neq(rc, VX_OK, "%s", reason);
    cr_assert_str_eq(e.reason, reason, "%s instead of %s: %s", e.reason, reason, e.text);
    cr_assert_str_eq(e.where, path);
    unlink(path);
}

Test(checkpoint_zip, damage_is_refused_by_name) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("damage");
    vx_auto_free unsigned char *data = malloc(LONG);
    vx_auto_free char *file = NULL;
    struct vx_zip *z = NULL;
    size_t len = 0;
    fill(data, LONG, 3);
    write_sample(path, data);
    expect_ok(vx_read_file(path, 1 << 20, &file, &len, &e));
    /* from the end: end record 22, locator 20, ZIP64 end record 56, directory entries of
     * 46 + 9, 46 + 10 and 46 + 12 bytes */
    const size_t end64 = 22 + 20 + 56, third = end64 + 55, second = third + 56;
    expect_refused(file, len, 22, 0, 4, "truncated_zip");
    expect_refused(file, len, 22 + 20 - 8, len, 8, "truncated_zip");
    expect_refused(file, len, 22 + 20 - 8, 0, 8, "bad_zip");
    expect_refused(file, len, end64 - 32, 4, 8, "bad_zip");
    expect_refused(file, len, end64 - 32, 2, 8, "bad_zip");
    expect_refused(file, len, end64 - 32, 1 << 30, 8, "too_many_members");
    expect_refused(file, len, end64 - 40, 1 << 30, 8, "bad_zip");
    expect_refused(file, len, end64 - 48, UINT64_MAX - 5, 8, "bad_zip");
    expect_refused(file, len, third - 8, 1, 2, "encrypted_member");
    expect_refused(file, len, third - 10, 8, 2, "compressed_member");
    expect_refused(file, len, third - 20, 7, 4, "bad_zip");
    expect_refused(file, len, second - 28, 300, 2, "bad_zip");
    expect_refused(file, len, second - 20, (uint64_t)(LONG + 1) << 32 | LONG, 8, "bad_zip");
    expect_refused(file, len, second - 20, UINT64_MAX, 8, "member_outside");
    expect_refused(file, len, second - 20, (uint64_t)(2 * LONG) << 32 | 2 * LONG, 8,
                   "member_outside");
    expect_refused(file, len, second - 20, (uint64_t)(LONG + 400) << 32 | (LONG + 400), 8,
                   "member_outside");
    expect_refused(file, len, second - 42, 5, 4, "bad_zip");
    expect_refused(file, len, second - 46, 'x', 1, "bad_zip");
    for (size_t cut = 0; cut < len; cut += cut < len - 400 ? 50000 : 7) {
        expect_ok(vx_write_file_atomic(path, file, cut, 0644, &e));
        cr_assert_neq(vx_zip_open(path, &z, &e), VX_OK, "%zu", cut);
    }
    unlink(path);
}

Test(checkpoint_zip, a_changed_byte_of_a_member_fails_its_checksum) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("crc");
    vx_auto_free unsigned char *data = malloc(LONG);
    vx_auto_free char *file = NULL;
    vx_auto_zip struct vx_zip *z = NULL;
    size_t len = 0;
    fill(data, LONG, 4);
    write_sample(path, data);
    expect_ok(vx_read_file(path, 1 << 20, &file, &len, &e));
    file[5000] ^= 1;
    expect_ok(vx_write_file_atomic(path, file, len, 0644, &e));
    expect_ok(vx_zip_open(path, &z, &e));
    cr_assert_eq(vx_zip_read(z, 1, data, &e), VX_E_CORRUPT);
    cr_assert_str_eq(e.reason, "bad_checksum");
    unlink(path);
}
