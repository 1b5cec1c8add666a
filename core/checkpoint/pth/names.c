#include "checkpoint/pth/names.h"

#include "base/err.h"
#include "checkpoint/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const wrappers[] = {"module.", "_orig_mod."};
static const struct {
    const char *alias, *unique;
} blocks[] = {
    {".all_modules.0.", ".conv."}, {".all_modules.1.", ".norm."}, {".all_modules.2.", ".norm."}};
enum { WRAPPERS = 2, BLOCKS = 3 };

static const char *skip(const char *name, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(name, prefix, len) == 0 ? name + len : name;
}

bool vx_pth_unique_name(const char *key, size_t len, char ret[VX_PTH_MAX_NAME + 1]) {
    if (len == 0 || len > VX_PTH_MAX_NAME || memchr(key, '\0', len)) {
        return false;
    }
    char name[VX_PTH_MAX_NAME + 1];
    memcpy(name, key, len);
    name[len] = '\0';
    const char *from = name, *before;
    do {
        before = from;
        for (int i = 0; i < WRAPPERS; i++) {
            from = skip(from, wrappers[i]);
        }
    } while (from != before);
    if (strncmp(from, "decoder.encoder.", 16) == 0) {
        from = skip(from, "decoder.");
    }
    for (int i = 0; i < BLOCKS; i++) {
        const char *at = strstr(from, blocks[i].alias);
        if (at) { /* the unique word is shorter */
            snprintf(ret, VX_PTH_MAX_NAME + 1, "%.*s%s%s", (int)(at - from), from, blocks[i].unique,
                     at + strlen(blocks[i].alias));
            return true;
        }
    }
    snprintf(ret, VX_PTH_MAX_NAME + 1, "%s", from);
    return from[0] != '\0';
}

/* Length of "P" in "P.conv.weight" and "P.norm.bias"; 0 for a name that is part of no block. */
static size_t block_of(const char *name) {
    const char *last = strrchr(name, '.');
    for (int i = 0; last && i < 2; i++) {
        size_t len = strlen(blocks[i].unique), head = (size_t)(last + 1 - name);
        if (head > len && strncmp(last + 1 - len, blocks[i].unique, len) == 0) {
            return head - len;
        }
    }
    return 0;
}

struct list {
    struct vx_pth_key *keys;
    size_t n;
    bool fits;
};

static void add(struct list *l, size_t tensor, const char *prefix, const char *name) {
    struct vx_pth_key *k = &l->keys[l->n++];
    k->tensor = tensor;
    int len = snprintf(k->name, sizeof k->name, "%s%s", prefix, name);
    l->fits &= len > 0 && len <= VX_PTH_MAX_NAME;
}

static void add_alias(struct list *l, size_t tensor, const char *prefix, const char *name,
                      size_t block) {
    struct vx_pth_key *k = &l->keys[l->n++];
    k->tensor = tensor;
    const char *rest = name + block; /* ".conv.weight" */
    int i = strncmp(rest, blocks[0].unique, strlen(blocks[0].unique)) == 0 ? 0 : 1;
    int len = snprintf(k->name, sizeof k->name, "%s%.*s%s%s", prefix, (int)block, name,
                       blocks[i].alias, rest + strlen(blocks[i].unique));
    l->fits &= len > 0 && len <= VX_PTH_MAX_NAME;
}

/* Tensors from..to, each block followed by its aliases. */
static void add_range(struct list *l, const struct vx_ckpt *c, size_t from, size_t to,
                      const char *prefix) {
    for (size_t i = from, end; i < to; i = end) {
        const char *name = c->tensors[i].name;
        size_t block = block_of(name);
        for (end = i + 1; block > 0 && end < to; end++) {
            const char *next = c->tensors[end].name;
            if (block_of(next) != block || strncmp(next, name, block) != 0) {
                break;
            }
        }
        for (size_t k = i; k < end; k++) {
            add(l, k, prefix, c->tensors[k].name);
        }
        for (size_t k = i; k < end && block > 0; k++) {
            add_alias(l, k, prefix, c->tensors[k].name, block);
        }
    }
}

int vx_pth_keys(const struct vx_ckpt *c, struct vx_pth_key **ret, size_t *ret_n,
                struct vx_err *err) {
    struct list l = {.keys = calloc(4 * c->n_tensors + 1, sizeof *l.keys), .fits = true};
    if (!l.keys) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the names of %zu tensors",
                       c->n_tensors);
    }
    size_t encoder = 0;
    while (encoder < c->n_tensors && strncmp(c->tensors[encoder].name, "encoder.", 8) == 0) {
        encoder++;
    }
    add_range(&l, c, 0, encoder, "");
    add_range(&l, c, 0, encoder, "decoder.");
    add_range(&l, c, encoder, c->n_tensors, "");
    if (!l.fits) {
        free(l.keys);
        return vx_fail(err, VX_E_INVALID, "bad_tensor_name", "a tensor's name is too long");
    }
    *ret = l.keys;
    *ret_n = l.n;
    return VX_OK;
}
