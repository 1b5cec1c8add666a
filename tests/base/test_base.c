#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <string.h>

/* Vectors: the known-answer file that ships with the Random123 distribution of Philox's authors. */
Test(rng, philox_known_answers) {
    uint32_t zero[4] = {0, 0, 0, 0};
    struct vx_rng4 a = vx_philox(0, zero);
    cr_assert_eq(a.v[0], 0x6627e8d5u);
    cr_assert_eq(a.v[1], 0xe169c58du);
    cr_assert_eq(a.v[2], 0xbc57ac4cu);
    cr_assert_eq(a.v[3], 0x9b00dbd8u);
    uint32_t ones[4] = {~0u, ~0u, ~0u, ~0u};
    struct vx_rng4 b = vx_philox(~0ull, ones);
    cr_assert_eq(b.v[0], 0x408f276du);
    cr_assert_eq(b.v[1], 0x41c83b0eu);
    cr_assert_eq(b.v[2], 0xa20bc7c6u);
    cr_assert_eq(b.v[3], 0x6d5451fdu);
}

Test(rng, normal_has_unit_moments) {
    struct vx_rng r = vx_rng_at(7, 2, 0, 0, 1);
    double sum = 0, squares = 0;
    enum { N = 200000 };
    for (int i = 0; i < N; i++) {
        double x = vx_rng_normal(&r);
        sum += x;
        squares += x * x;
    }
    cr_assert_lt(fabs(sum / N), 0.01);
    cr_assert_lt(fabs(squares / N - 1), 0.02);
}

Test(rng, below_stays_in_range_and_covers_it) {
    struct vx_rng r = vx_rng_at(1, 0, 3, 4, 5);
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint32_t x = vx_rng_below(&r, 7);
        cr_assert_lt(x, 7u);
        seen[x]++;
    }
    for (int i = 0; i < 7; i++) {
        cr_assert(seen[i] > 850 && seen[i] < 1150, "value %d drawn %d times", i, seen[i]);
    }
}

Test(hash, sha256_of_abc) {
    char hex[VX_SHA256_HEX];
    vx_sha256_hex("abc", 3, hex);
    cr_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(err, errno_becomes_a_status_with_the_path) {
    struct vx_err err = {0};
    cr_assert_eq(vx_fail_errno(&err, ENOSPC, "/x/y", "cannot write %s", "/x/y"), VX_E_FULL);
    cr_assert_str_eq(err.text, "cannot write /x/y: No space left on device");
    cr_assert_str_eq(err.where, "/x/y");
    cr_assert_str_eq(err.reason, "no_space_left");
    vx_err_prefix(&err, "case %d", 7);
    cr_assert_str_eq(err.text, "case 7: cannot write /x/y: No space left on device");
}

Test(clock, iso8601) {
    char text[32];
    cr_assert_str_eq(vx_iso8601(1700000000123, text, sizeof text), "2023-11-14T22:13:20.123Z");
    cr_assert_str_eq(vx_iso8601(-1, text, sizeof text), "1969-12-31T23:59:59.999Z");
}

Test(json, problems_carry_pointers) {
    json_t *doc = NULL;
    struct vx_err err = {0};
    const char *text = "{\"a\": {\"n\": 5, \"s\": \"x\\ty\", \"b/c\": 1}, \"n\": \"five\"}";
    cr_assert_eq(vx_json_parse(text, strlen(text), 1000, 8, &doc, &err), VX_OK);
    struct vx_json_problems ps = {0};
    int64_t n = -1;
    char s[8] = "";
    const json_t *a = vx_json_get_object(doc, "", "a", &ps);
    cr_assert(!vx_json_get_int(a, "/a", "n", 10, 20, &n, &ps));
    cr_assert(!vx_json_get_string(a, "/a", "s", s, sizeof s, &ps));
    cr_assert(!vx_json_get_int(doc, "", "n", 0, 1, &n, &ps));
    vx_json_only_keys(a, "/a", (const char *const[]){"n", "s", NULL}, &ps);
    cr_assert_eq(ps.n, 4);
    cr_assert_str_eq(ps.list[0].pointer, "/a/n");
    cr_assert_str_eq(ps.list[0].code, "out_of_range");
    cr_assert_str_eq(ps.list[1].pointer, "/a/s");
    cr_assert_str_eq(ps.list[2].pointer, "/n");
    cr_assert_str_eq(ps.list[2].code, "wrong_type");
    cr_assert_str_eq(ps.list[3].pointer, "/a/b~1c");
    cr_assert_eq(n, -1);
    json_decref(doc);
}

Test(json, limits_on_size_depth_and_duplicates) {
    json_t *doc = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_json_parse("[[[1]]]", 7, 100, 2, &doc, &err), VX_E_LIMIT);
    cr_assert_str_eq(err.reason, "json_too_deep");
    cr_assert_eq(vx_json_parse("[[[1]]]", 7, 6, 9, &doc, &err), VX_E_LIMIT);
    cr_assert_eq(vx_json_parse("{\"a\":1,\"a\":2}", 13, 100, 9, &doc, &err), VX_E_INVALID);
    cr_assert_eq(vx_json_parse("{\"a\":", 5, 100, 9, &doc, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "malformed_json");
    cr_assert_null(doc);
}

Test(io, atomic_write_replaces_and_leaves_no_temporary) {
    char dir[] = "/tmp/vx-io-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    vx_auto_free char *sub = vx_strf("%s/a/b", dir);
    vx_auto_free char *file = vx_strf("%s/f.txt", sub);
    struct vx_err err = {0};
    cr_assert_eq(vx_mkdirs(sub, 0755, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_write_file_atomic(file, "one", 3, 0644, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_write_file_atomic(file, "two!", 4, 0644, &err), VX_OK, "%s", err.text);
    vx_auto_free char *data = NULL;
    size_t len = 0;
    cr_assert_eq(vx_read_file(file, 100, &data, &len, &err), VX_OK);
    cr_assert_eq(len, 4);
    cr_assert_str_eq(data, "two!");
    cr_assert_eq(vx_read_file(file, 3, &data, &len, &err), VX_E_LIMIT);
    cr_assert_eq(vx_read_file(sub, 3, &data, &len, &err), VX_E_INVALID);
    cr_assert_eq(vx_remove_tree(dir, &err), VX_OK);
    cr_assert_not(vx_path_exists(dir));
}

Test(buf, grows_and_hands_over) {
    struct vx_buf b = VX_BUF_INIT;
    for (int i = 0; i < 1000; i++) {
        vx_buf_printf(&b, "%d,", i);
    }
    vx_buf_puts(&b, "end");
    size_t len = 0;
    vx_auto_free char *text = vx_buf_take(&b, &len);
    cr_assert_eq(len, strlen(text));
    cr_assert_eq(len, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    cr_assert_str_eq(text + len - 7, "999,end");
}

/* Texts about files hold names from files. */
Test(err, texts_are_utf8_in_one_line) {
    struct vx_err e = {0};
    vx_fail(&e, VX_E_CORRUPT, "x", "%s",
            "Gr\xc3\xb6\xc3\x9f"
            "e \xe2\x82\xac \xf0\x9f\xa7\xa0");
    cr_assert_str_eq(e.text, "Gr\xc3\xb6\xc3\x9f"
                             "e \xe2\x82\xac \xf0\x9f\xa7\xa0");
    vx_fail(&e, VX_E_CORRUPT, "x", "%s",
            "a\xff"
            "b\x80 c\xc0\xaf d\xed\xa0\x80 e\n\x1b[1m\xf4\x90\x80\x80");
    cr_assert_str_eq(e.text, "a?b? c?? d??? e??[1m????");
    vx_fail(&e, VX_E_CORRUPT, "x", "%.2s", "a\xc3\xb6");
    cr_assert_str_eq(e.text, "a?");
    vx_err_at(&e, "%s", "/\xe4.pth");
    cr_assert_str_eq(e.where, "/?.pth");
    vx_err_prefix(&e, "%s", "\xf0\x9f");
    cr_assert_str_eq(e.text, "??: a?");
    vx_fail(&e, VX_E_CORRUPT, "x", "%512s", "\xc3\xb6"); /* cut after its first byte */
    vx_auto_json json_t *text = json_string(e.text);
    cr_assert_not_null(text);
}
