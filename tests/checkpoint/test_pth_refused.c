/* Bad .pth files: each is refused by name, and thousands of mutated ones never do more than that.
 */
#include "pth_maker.h"

#include "base/rng.h"
#include "checkpoint/pth_read.h"

#include <zlib.h>

static void expect_refused(const char *path, int code, const char *reason, const char *word) {
    struct vx_err e = {0};
    struct vx_pth p = {.plans = NULL};
    int rc = vx_pth_read(path, true, &p, &e);
    cr_assert_eq(rc, code, "%s: %d %s", reason, rc, e.text);
    cr_assert_str_eq(e.reason, reason, "%s: %s", e.reason, e.text);
    cr_assert(strstr(e.text, word), "%s lacks %s", e.text, word);
    cr_assert(strstr(e.text, path), "%s lacks the file", e.text);
    cr_assert_str_eq(e.where, path);
    cr_assert_null(p.ckpt.tensors);
}

/* One tensor "w" of two elements in a storage; the caller lies about one thing. */
static void expect_tensor_refused(const char *storage, const char *key, int elements, int length,
                                  size_t bytes, int code, const char *reason) {
    struct vx_buf b = VX_BUF_INIT;
    vx_auto_free char *path = pth_file("tensor");
    static const float data[4] = {1, 2, 3, 4};
    pth_open(&b);
    pk_str(&b, "w");
    pk_tensor(&b, storage, key, elements, 1, &length);
    pth_close(&b);
    pth_make(path, b.data, b.len, &(struct pth_storage){"0", data, bytes}, 1);
    expect_refused(path, code, reason, code == VX_E_CORRUPT && length > elements ? "" : "w");
    vx_buf_release(&b);
    unlink(path);
}

Test(checkpoint_pth, storages_that_lie) {
    expect_tensor_refused("Float", "0", 4, 4, 15, VX_E_CORRUPT, "storage_too_short");
    expect_tensor_refused("Float", "0", 4, 2, 8, VX_E_CORRUPT, "storage_too_short");
    expect_tensor_refused("Double", "0", 4, 4, 16, VX_E_CORRUPT, "storage_too_short");
    expect_tensor_refused("Float", "1", 4, 4, 16, VX_E_CORRUPT, "storage_missing");
    expect_tensor_refused("Float", "0", 4, 5, 16, VX_E_CORRUPT, "bad_pickle");
    expect_tensor_refused("Float", "0", 1 << 30, 1 << 30, 16, VX_E_CORRUPT, "storage_too_short");
    expect_tensor_refused("Long", "0", 2, 2, 16, VX_E_UNSUPPORTED, "unsupported_dtype");
    expect_tensor_refused("Float", "0", 4, 0, 16, VX_E_CORRUPT, "bad_pth");
}

static void expect_pickle_refused(const char *pickle, size_t n, int code, const char *reason,
                                  const char *word) {
    vx_auto_free char *path = pth_file("pickle");
    pth_make(path, pickle, n, NULL, 0);
    expect_refused(path, code, reason, word);
    unlink(path);
}
#define REFUSED(pickle, code, reason, word)                                                        \
    expect_pickle_refused(pickle, sizeof(pickle) - 1, code, reason, word)

Test(checkpoint_pth, pickles_that_are_no_checkpoint) {
    REFUSED("\x80\x02"
            "cposix\nsystem\nX\x02\x00\x00\x00id\x85R.",
            VX_E_UNSUPPORTED, "foreign_class", "posix.system");
    REFUSED("\x80\x02(ios\nsystem\n.", VX_E_UNSUPPORTED, "foreign_opcode", "INST");
    REFUSED("\x80\x02N.", VX_E_CORRUPT, "bad_pth", "network_weights");
    REFUSED("\x80\x02}X\x0f\x00\x00\x00network_weightsNs.", VX_E_CORRUPT, "bad_pth",
            "network_weights");
    REFUSED("\x80\x02}X\x0f\x00\x00\x00network_weights}s.", VX_E_CORRUPT, "bad_pth", "empty");
    REFUSED("\x80\x02}X\x0f\x00\x00\x00network_weights}K\x01NsS.", VX_E_UNSUPPORTED,
            "foreign_opcode", "STRING");
    REFUSED("\x80\x02}X\x0f\x00\x00\x00network_weights}K\x01Nss.", VX_E_CORRUPT, "bad_pth", "key");
    REFUSED("\x80\x02}X\x0f\x00\x00\x00network_weights}X\x01\x00\x00\x00wNss.", VX_E_CORRUPT,
            "bad_pth", "no tensor");
    REFUSED(
        "\x80\x02}(X\x0f\x00\x00\x00network_weights}X\x20\x00\x00\x00inference_allowed_mirroring"
        "_axesK\x03\x85u.",
        VX_E_CORRUPT, "bad_pth", "mirror axes");
}

Test(checkpoint_pth, other_containers_by_name) {
    struct vx_err e = {0};
    vx_auto_free char *path = pth_file("container");
    char tar[600] = {0};
    memcpy(tar + 257, "ustar", 5);
    expect_ok(vx_write_file_atomic(path, tar, sizeof tar, 0644, &e));
    expect_refused(path, VX_E_UNSUPPORTED, "legacy_pth", "1.6");
    expect_ok(
        vx_write_file_atomic(path, "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", 15, 0644, &e));
    expect_refused(path, VX_E_UNSUPPORTED, "legacy_pth", "1.6");
    expect_ok(vx_write_file_atomic(path, "", 0, 0644, &e));
    expect_refused(path, VX_E_CORRUPT, "bad_pth", "no zip");
    vx_auto_zip_writer struct vx_zip_writer *w = NULL;
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "a/b/data.pkl", "N.", 2, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_commit(w, &e));
    expect_refused(path, VX_E_CORRUPT, "bad_pth", "data.pkl");
    w = vx_zip_discard(w);
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "a/data.pkl", "N.", 2, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_add(w, "a/constants.pkl", "N.", 2, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_commit(w, &e));
    expect_refused(path, VX_E_UNSUPPORTED, "torchscript", "TorchScript");
    w = vx_zip_discard(w);
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "a/data.pkl", "N.", 2, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_add(w, "a/byteorder", "big", 3, VX_ZIP_STORED, &e));
    expect_ok(vx_zip_commit(w, &e));
    expect_refused(path, VX_E_UNSUPPORTED, "big_endian", "byte order");
    unlink(path);
}

static void two_keys(const char *a, const char *b, const float x[2], const float y[2], int length,
                     const char *path) {
    struct vx_buf p = VX_BUF_INIT;
    pth_open(&p);
    pk_str(&p, a);
    pk_tensor(&p, "Float", "0", 2, 1, (const int[]){2});
    pk_str(&p, b);
    pk_tensor(&p, "Float", "1", 2, 1, &length);
    pth_close(&p);
    const struct pth_storage s[] = {{"0", x, 8}, {"1", y, 8}};
    pth_make(path, p.data, p.len, s, 2);
    vx_buf_release(&p);
}

Test(checkpoint_pth, keys_of_one_parameter_agree) {
    struct vx_err e = {0};
    vx_auto_free char *path = pth_file("alias");
    const float x[] = {1, 2}, y[] = {1, 3};
    struct vx_pth p;
    two_keys("encoder.a.conv.weight", "decoder.encoder.a.all_modules.0.weight", x, x, 2, path);
    expect_ok(vx_pth_read(path, false, &p, &e));
    cr_assert_eq(p.ckpt.n_tensors, 1);
    vx_pth_release(&p);
    two_keys("encoder.a.conv.weight", "decoder.encoder.a.all_modules.0.weight", x, y, 2, path);
    expect_refused(path, VX_E_CORRUPT, "aliases_differ", "decoder.encoder.a.all_modules.0.weight");
    two_keys("encoder.a.conv.weight", "module.encoder.a.conv.weight", x, x, 1, path);
    expect_refused(path, VX_E_CORRUPT, "aliases_differ", "module.encoder.a.conv.weight");
    unlink(path);
}

/* 2000 tensors that are one storage of 1 MiB would be 2 GB; and aliases that make the reader go
 * through two storages in turn would read 2 MiB each time. */
Test(checkpoint_pth, memory_and_reading_are_bounded_by_the_file) {
    enum { ELEMENTS = 256 << 10, TENSORS = 2000 };
    vx_auto_free char *path = pth_file("bomb");
    vx_auto_free float *data = calloc(ELEMENTS, sizeof *data);
    const struct pth_storage s[] = {{"0", data, ELEMENTS * sizeof *data},
                                    {"1", data, ELEMENTS * sizeof *data}};
    for (int kind = 0; kind < 2; kind++) {
        struct vx_buf b = VX_BUF_INIT;
        pth_open(&b);
        for (int i = 0; i < TENSORS; i++) {
            char name[64];
            snprintf(name, sizeof name, kind ? "encoder.%d.%s.weight" : "%d.%s.w", i / 2,
                     i % 2 == 0 ? "conv" : "all_modules.0");
            pk_str(&b, name);
            pk_tensor(&b, "Float", i % 2 ? "1" : "0", ELEMENTS, 1,
                      (const int[]){kind ? 1 : ELEMENTS});
        }
        pth_close(&b);
        pth_make(path, b.data, b.len, s, 2);
        expect_refused(path, VX_E_LIMIT, "pth_too_large", "larger than the file");
        vx_buf_release(&b);
    }
    unlink(path);
}

Test(checkpoint_pth, momentum_of_another_network) {
    struct vx_buf b = VX_BUF_INIT;
    vx_auto_free char *path = pth_file("momentum");
    const float x[] = {1, 2};
    for (int kind = 0; kind < 2; kind++) {
        vx_buf_clear(&b);
        pth_open(&b);
        pk_str(&b, "w");
        pk_tensor(&b, "Float", "0", 2, 1, (const int[]){2});
        vx_buf_puts(&b, "u");
        pk_str(&b, "optimizer_state");
        vx_buf_puts(&b, "}");
        pk_str(&b, "state");
        vx_buf_puts(&b, "}");
        pk_int(&b, kind);
        vx_buf_puts(&b, "}");
        pk_str(&b, "momentum_buffer");
        pk_tensor(&b, "Float", "0", 2, 1, (const int[]){1 + kind});
        vx_buf_puts(&b, "sssu.");
        pth_make(path, b.data, b.len, &(struct pth_storage){"0", x, 8}, 1);
        expect_refused(path, VX_E_CORRUPT, "momentum_mismatch", kind ? "optimizer_state" : "w");
    }
    vx_buf_release(&b);
    unlink(path);
}

/* --- mutations of PyTorch's own file --- */

/* Reads it whatever it is: either it is refused with a reason, or it is whole. */
static bool survives(const char *path) {
    struct vx_err e = {0};
    struct vx_pth p;
    int rc = vx_pth_read(path, true, &p, &e);
    if (rc != VX_OK) {
        cr_assert(e.code == rc && e.reason[0] && e.text[0]);
        return false;
    }
    for (size_t i = 0; i < p.ckpt.n_tensors; i++) {
        cr_assert(p.ckpt.tensors[i].param && p.ckpt.tensors[i].n > 0);
    }
    vx_pth_release(&p);
    return true;
}

static void mutate(unsigned char *data, size_t n, struct vx_rng *r) {
    uint32_t times = 1 + vx_rng_below(r, 3);
    for (uint32_t i = 0; i < times; i++) {
        size_t at = vx_rng_below(r, (uint32_t)n);
        switch (vx_rng_below(r, 4)) {
        case 0:
            data[at] ^= (unsigned char)(1u << vx_rng_below(r, 8));
            break;
        case 1:
            data[at] = (unsigned char)vx_rng_u32(r);
            break;
        case 2:
            data[at] = vx_rng_below(r, 2) ? 0xff : 0;
            break;
        default: { /* a piece from elsewhere */
            size_t from = vx_rng_below(r, (uint32_t)n), len = vx_rng_below(r, 16);
            len = from + len > n ? n - from : len;
            memmove(data + at, data + from, at + len > n ? n - at : len);
        }
        }
    }
}

static void write_plain(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

Test(checkpoint_pth, thousands_of_mutated_archives) {
    struct vx_err e = {0};
    vx_auto_free char *path = pth_file("mutated"), *file = NULL;
    size_t len = 0;
    int whole = 0;
    expect_ok(vx_read_file(TORCH_SAMPLE, 1 << 20, &file, &len, &e));
    vx_auto_free unsigned char *copy = malloc(len);
    struct vx_rng r = vx_rng_at(3, 0, 0, 0, 1);
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, file, len);
        /* half of them in the directory, where a byte counts */
        size_t from = i % 2 ? len - 3000 : 0;
        mutate(copy + from, len - from, &r);
        write_plain(path, copy, i % 8 == 0 ? vx_rng_below(&r, (uint32_t)len) : len);
        whole += survives(path);
    }
    cr_assert(whole > 100 && whole < 2900, "%d", whole); /* padding and names may change */
    unlink(path);
}

/* The checksum of the changed pickle is put right, so that the unpickler sees it. */
Test(checkpoint_pth, thousands_of_mutated_pickles) {
    struct vx_err e = {0};
    vx_auto_free char *path = pth_file("mutated-pickle"), *file = NULL;
    vx_auto_zip struct vx_zip *zip = NULL;
    size_t len = 0;
    int whole = 0;
    expect_ok(vx_read_file(TORCH_SAMPLE, 1 << 20, &file, &len, &e));
    expect_ok(vx_zip_open(TORCH_SAMPLE, &zip, &e));
    const struct vx_zip_member *m = vx_zip_member(zip, 0);
    char *entry = memmem(file, len, "PK\1\2", 4); /* the directory's first is the pickle's */
    vx_auto_free unsigned char *pickle = malloc((size_t)m->size);
    memcpy(pickle, file + m->at, (size_t)m->size);
    struct vx_rng r = vx_rng_at(4, 0, 0, 0, 1);
    for (int i = 0; i < 5000; i++) {
        unsigned char *copy = (unsigned char *)file + m->at;
        memcpy(copy, pickle, (size_t)m->size);
        mutate(copy, (size_t)m->size, &r);
        uint32_t crc = (uint32_t)crc32_z(crc32_z(0, NULL, 0), copy, (size_t)m->size);
        memcpy(entry + 16, &crc, sizeof crc);
        write_plain(path, file, len);
        whole += survives(path);
    }
    cr_assert(whole > 50 && whole < 4900, "%d", whole);
    unlink(path);
}
