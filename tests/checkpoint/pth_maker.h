/* Small .pth archives by hand, right ones and wrong ones. */
#ifndef VX_TESTS_CHECKPOINT_PTH_MAKER_H
#define VX_TESTS_CHECKPOINT_PTH_MAKER_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/zip.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TORCH_SAMPLE "tests/checkpoint/samples/torch.pth"

#define expect_ok(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, e.text, e.where);                   \
    } while (0)

static inline char *pth_file(const char *name) {
    const char *tmp = getenv("TMPDIR");
    return vx_strf("%s/vx-pth-%s-%d.pth", tmp ? tmp : "/tmp", name, (int)getpid());
}

/* A pickle in pieces: text, and the opcodes whose operands need care. */
static inline void pk_str(struct vx_buf *b, const char *s) {
    uint32_t n = (uint32_t)strlen(s);
    vx_buf_add(b, "X", 1);
    vx_buf_add(b, &n, sizeof n);
    vx_buf_puts(b, s);
}

static inline void pk_int(struct vx_buf *b, int x) {
    vx_buf_add(b, "J", 1);
    vx_buf_add(b, &x, sizeof x);
}

/* A dense tensor of class `storage` ("Half"), whole storage `key`, elements of shape. */
static inline void pk_tensor(struct vx_buf *b, const char *storage, const char *key, int elements,
                             int rank, const int *shape) {
    int stride[8], step = 1;
    for (int a = rank - 1; a >= 0; a--) {
        stride[a] = step;
        step *= shape[a];
    }
    vx_buf_puts(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pk_str(b, "storage");
    vx_buf_printf(b, "ctorch\n%sStorage\n", storage);
    pk_str(b, key);
    pk_str(b, "cuda:0");
    pk_int(b, elements);
    vx_buf_puts(b, "tQ");
    pk_int(b, 0);
    for (int k = 0; k < 2; k++) {
        vx_buf_puts(b, "(");
        for (int a = 0; a < rank; a++) {
            pk_int(b, k ? stride[a] : shape[a]);
        }
        vx_buf_puts(b, "t");
    }
    vx_buf_puts(b, "\x89NtR");
}

/* Opens {"network_weights": {, to be followed by keys and tensors and pth_close. */
static inline void pth_open(struct vx_buf *b) {
    vx_buf_add(b, "\x80\x02}(", 4);
    pk_str(b, "network_weights");
    vx_buf_puts(b, "}(");
}

static inline void pth_close(struct vx_buf *b) {
    vx_buf_puts(b, "uu.");
}

struct pth_storage {
    const char *key;
    const void *data;
    size_t size;
};

/* The archive of a pickle and its storages. */
static inline void pth_make(const char *path, const void *pickle, size_t len,
                            const struct pth_storage *storages, size_t n) {
    struct vx_err e = {0};
    vx_auto_zip_writer struct vx_zip_writer *w = NULL;
    expect_ok(vx_zip_create(path, &w, &e));
    expect_ok(vx_zip_add(w, "x/data.pkl", pickle, len, VX_ZIP_STORED, &e));
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "x/data/%s", storages[i].key);
        expect_ok(vx_zip_add(w, name, storages[i].data, storages[i].size, VX_ZIP_STORED, &e));
    }
    expect_ok(vx_zip_commit(w, &e));
}

#endif
