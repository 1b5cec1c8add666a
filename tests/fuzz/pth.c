/* libFuzzer target of the .pth reader. An input that begins like a zip archive is read as one,
 * after the checksums of its members were put right; any other is taken for the pickle of an
 * archive that has some storages. What is read must be whole: its words survive being written and
 * read again. */
#include "checkpoint/pickle_read.h"
#include "checkpoint/pickle_write.h"
#include "checkpoint/pth_read.h"

#include "base/err.h"
#include "base/own.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { MOST = 1 << 18, STORAGES = 8, STORAGE_BYTES = 256, ENTRY = 46, LOCAL = 30 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t crc_of(const uint8_t *data, size_t n) {
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, n);
}

static uint32_t word(const uint8_t *p, size_t n) {
    uint32_t x = 0;
    memcpy(&x, p, n);
    return x;
}

static void mend_checksums(uint8_t *zip, size_t n) {
    for (size_t i = 0; i + ENTRY <= n; i++) {
        if (memcmp(zip + i, "PK\1\2", 4) != 0) {
            continue;
        }
        size_t size = word(zip + i + 24, 4), local = word(zip + i + 42, 4);
        if (local + LOCAL > n) {
            continue;
        }
        size_t at = local + LOCAL + word(zip + local + 26, 2) + word(zip + local + 28, 2);
        if (at <= n && size <= n - at) {
            uint32_t crc = crc_of(zip + at, size);
            memcpy(zip + i + 16, &crc, sizeof crc);
        }
    }
}

struct archive {
    uint8_t bytes[MOST + STORAGES * (STORAGE_BYTES + 128) + 1024];
    uint8_t directory[(STORAGES + 1) * 128];
    size_t n, n_directory;
    uint16_t members;
};

static void put(uint8_t *to, size_t *at, const void *from, size_t n) {
    memcpy(to + *at, from, n);
    *at += n;
}

/* The fields that local header and directory entry share, then what only the entry has. */
static void add_member(struct archive *a, const char *name, const uint8_t *data, size_t size) {
    static const uint8_t none[16] = {0};
    uint32_t here = (uint32_t)a->n, crc = crc_of(data, size), bytes = (uint32_t)size;
    uint16_t len = (uint16_t)strlen(name);
    put(a->bytes, &a->n, "PK\3\4\24\0\0\0\0\0\0\0\41\0", 14);
    put(a->directory, &a->n_directory, "PK\1\2\24\0\24\0\0\0\0\0\0\0\41\0", 16);
    for (int side = 0; side < 2; side++) {
        uint8_t *to = side ? a->directory : a->bytes;
        size_t *at = side ? &a->n_directory : &a->n;
        put(to, at, &crc, 4);
        put(to, at, &bytes, 4);
        put(to, at, &bytes, 4);
        put(to, at, &len, 2);
        put(to, at, none, side ? 12 : 2);
        if (side) {
            put(to, at, &here, 4);
        }
        put(to, at, name, len);
    }
    put(a->bytes, &a->n, data, size);
    a->members++;
}

static void finish(struct archive *a) {
    uint32_t at = (uint32_t)a->n, bytes = (uint32_t)a->n_directory;
    put(a->bytes, &a->n, a->directory, a->n_directory);
    put(a->bytes, &a->n, "PK\5\6\0\0\0\0", 8);
    put(a->bytes, &a->n, &a->members, 2);
    put(a->bytes, &a->n, &a->members, 2);
    put(a->bytes, &a->n, &bytes, 4);
    put(a->bytes, &a->n, &at, 4);
    put(a->bytes, &a->n, "\0\0", 2);
}

static void wrap(struct archive *a, const uint8_t *pickle, size_t size) {
    uint8_t storage[STORAGE_BYTES];
    a->n = a->n_directory = a->members = 0;
    add_member(a, "x/data.pkl", pickle, size);
    for (int i = 0; i < STORAGES; i++) {
        char name[32];
        snprintf(name, sizeof name, "x/data/%d", i);
        memset(storage, i, sizeof storage);
        add_member(a, name, storage, sizeof storage);
    }
    finish(a);
}

/* JSON to pickle and back gives the same JSON. */
static void check_words(const json_t *words) {
    struct vx_pickle p = VX_PICKLE_INIT;
    vx_auto_free char *bytes = NULL;
    vx_auto_py struct vx_py_tree *tree = NULL;
    size_t len = 0;
    if (!words) {
        return;
    }
    vx_pickle_json(&p, words);
    if (vx_pickle_finish(&p, &bytes, &len, NULL) != VX_OK ||
        vx_pickle_read(bytes, len, &tree, NULL) != VX_OK) {
        __builtin_trap();
    }
    vx_auto_json json_t *back = vx_py_json(vx_py_root(tree));
    if (!json_equal(words, back)) {
        __builtin_trap();
    }
}

static void check(const struct vx_pth *p) {
    volatile float sum = 0;
    for (size_t i = 0; i < p->ckpt.n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &p->ckpt.tensors[i];
        for (size_t k = 0; k < t->n; k++) {
            sum += t->param[k] + (t->momentum ? t->momentum[k] : 0);
        }
    }
    check_words(p->ckpt.network);
    check_words(p->ckpt.history);
    check_words(p->plans);
    check_words(p->dataset_json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct archive a;
    static int fd = -1;
    static char path[64];
    if (size > MOST) {
        return -1;
    }
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (size >= 4 && memcmp(data, "PK\3\4", 4) == 0) {
        memcpy(a.bytes, data, size);
        a.n = size;
        mend_checksums(a.bytes, size);
    } else {
        wrap(&a, data, size);
    }
    struct vx_err err = {0};
    struct vx_pth p;
    if (ftruncate(fd, 0) != 0 || pwrite(fd, a.bytes, a.n, 0) != (ssize_t)a.n) {
        __builtin_trap();
    }
    int rc = vx_pth_read(path, true, &p, &err);
    if (rc == VX_OK) {
        check(&p);
        vx_pth_release(&p);
    } else if (err.code != rc || !err.text[0] || !err.where[0]) {
        __builtin_trap(); /* a refusal says what and where */
    }
    return 0;
}
