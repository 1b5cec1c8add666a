#include "checkpoint/pickle_write.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Opcodes, pickletools' names. */
enum {
    PROTO = 0x80,
    STOP = '.',
    MARK = '(',
    NONE = 'N',
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    BININT = 'J',
    BININT1 = 'K',
    BININT2 = 'M',
    LONG1 = 0x8a,
    BINFLOAT = 'G',
    BINUNICODE = 'X',
    EMPTY_LIST = ']',
    APPENDS = 'e',
    EMPTY_DICT = '}',
    SETITEMS = 'u',
    EMPTY_TUPLE = ')',
    TUPLE = 't',
    TUPLE1 = 0x85,
    GLOBAL = 'c',
    REDUCE = 'R',
    BINPERSID = 'Q',
    BINPUT = 'q',
    LONG_BINPUT = 'r',
    BINGET = 'h',
    LONG_BINGET = 'j',
};
enum { MAX_RANK = 8 };

static void op(struct vx_pickle *p, int code) {
    char c = (char)code;
    vx_buf_add(&p->out, &c, 1);
}

static void op_bytes(struct vx_pickle *p, int code, const void *data, size_t n) {
    op(p, code);
    vx_buf_add(&p->out, data, n);
}

static void wrong(struct vx_pickle *p, const char *what) {
    if (!p->wrong) {
        p->wrong = what;
    }
}

/* Every value comes through here: the protocol's header stands before the first. */
static void start(struct vx_pickle *p) {
    if (p->out.len == 0) {
        op(p, PROTO);
        op(p, 2);
    }
}

void vx_pickle_release(struct vx_pickle *p) {
    vx_buf_release(&p->out);
    *p = (struct vx_pickle)VX_PICKLE_INIT;
}

void vx_pickle_none(struct vx_pickle *p) {
    start(p);
    op(p, NONE);
}

void vx_pickle_bool(struct vx_pickle *p, bool x) {
    start(p);
    op(p, x ? NEWTRUE : NEWFALSE);
}

void vx_pickle_int(struct vx_pickle *p, int64_t x) {
    uint64_t word = (uint64_t)x;
    start(p);
    if (x >= 0 && x <= UINT8_MAX) {
        op_bytes(p, BININT1, &word, 1);
    } else if (x >= 0 && x <= UINT16_MAX) {
        op_bytes(p, BININT2, &word, 2);
    } else if (x >= INT32_MIN && x <= INT32_MAX) {
        op_bytes(p, BININT, &word, 4);
    } else { /* two's complement, as many bytes as the byte before says */
        op(p, LONG1);
        op_bytes(p, sizeof word, &word, sizeof word);
    }
}

void vx_pickle_real(struct vx_pickle *p, double x) {
    uint64_t word;
    memcpy(&word, &x, sizeof word);
    word = __builtin_bswap64(word); /* the one big-endian number of the format */
    start(p);
    op_bytes(p, BINFLOAT, &word, sizeof word);
}

static void text(struct vx_pickle *p, const char *utf8, size_t len) {
    uint32_t n = (uint32_t)len;
    if (len > UINT32_MAX) {
        wrong(p, "a text of 4 GiB");
        return;
    }
    start(p);
    op_bytes(p, BINUNICODE, &n, sizeof n);
    vx_buf_add(&p->out, utf8, len);
}

void vx_pickle_str(struct vx_pickle *p, const char *utf8) {
    text(p, utf8, strlen(utf8));
}

static void open_container(struct vx_pickle *p, char closes) {
    if (p->n_open == VX_PICKLE_MAX_OPEN) {
        wrong(p, "values nest too deep");
        return;
    }
    op(p, MARK);
    p->open[p->n_open++] = closes;
}

void vx_pickle_list(struct vx_pickle *p) {
    start(p);
    op(p, EMPTY_LIST);
    open_container(p, APPENDS);
}

void vx_pickle_tuple(struct vx_pickle *p) {
    start(p);
    open_container(p, TUPLE);
}

void vx_pickle_dict(struct vx_pickle *p) {
    start(p);
    op(p, EMPTY_DICT);
    open_container(p, SETITEMS);
}

void vx_pickle_end(struct vx_pickle *p) {
    if (p->n_open == 0) {
        wrong(p, "more ends than beginnings");
        return;
    }
    op(p, p->open[--p->n_open]);
}

/* A class or function: written once, then taken from the memo. name is "module\nname\n". */
static void global(struct vx_pickle *p, const char *name, uint32_t *memo) {
    start(p);
    if (*memo > 0) {
        uint32_t at = *memo - 1;
        op_bytes(p, at <= UINT8_MAX ? BINGET : LONG_BINGET, &at, at <= UINT8_MAX ? 1 : sizeof at);
        return;
    }
    uint32_t at = p->n_memo++;
    op_bytes(p, GLOBAL, name, strlen(name));
    op_bytes(p, at <= UINT8_MAX ? BINPUT : LONG_BINPUT, &at, at <= UINT8_MAX ? 1 : sizeof at);
    *memo = at + 1;
}

void vx_pickle_ordered_dict(struct vx_pickle *p) {
    global(p, "collections\nOrderedDict\n", &p->memo_ordered_dict);
    op(p, EMPTY_TUPLE);
    op(p, REDUCE);
    open_container(p, SETITEMS);
}

void vx_pickle_device(struct vx_pickle *p, const char *name) {
    start(p);
    const char *cls = "torch\ndevice\n";
    op_bytes(p, GLOBAL, cls, strlen(cls));
    vx_pickle_str(p, name);
    op(p, TUPLE1);
    op(p, REDUCE);
}

void vx_pickle_ints(struct vx_pickle *p, const int64_t *x, size_t n) {
    vx_pickle_tuple(p);
    for (size_t i = 0; i < n; i++) {
        vx_pickle_int(p, x[i]);
    }
    vx_pickle_end(p);
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks); the storage is
 * the persistent id ("storage", class, key, location, elements). */
void vx_pickle_tensor(struct vx_pickle *p, uint64_t key, int rank, const int64_t *shape) {
    char name[24];
    int64_t stride[MAX_RANK], n = 1;
    if (rank < 0 || rank > MAX_RANK) {
        wrong(p, "a tensor's rank");
        return;
    }
    for (int a = rank - 1; a >= 0; a--) {
        stride[a] = n;
        n *= shape[a];
    }
    snprintf(name, sizeof name, "%" PRIu64, key);
    global(p, "torch._utils\n_rebuild_tensor_v2\n", &p->memo_rebuild);
    vx_pickle_tuple(p);
    vx_pickle_tuple(p);
    vx_pickle_str(p, "storage");
    global(p, "torch\nFloatStorage\n", &p->memo_float_storage);
    vx_pickle_str(p, name);
    vx_pickle_str(p, "cpu");
    vx_pickle_int(p, n);
    vx_pickle_end(p);
    op(p, BINPERSID);
    vx_pickle_int(p, 0);
    vx_pickle_ints(p, shape, (size_t)rank);
    vx_pickle_ints(p, stride, (size_t)rank);
    vx_pickle_bool(p, false);
    vx_pickle_ordered_dict(p);
    vx_pickle_end(p);
    vx_pickle_end(p);
    op(p, REDUCE);
}

void vx_pickle_json(struct vx_pickle *p, const json_t *value) {
    const char *key;
    json_t *item;
    size_t i, len;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        vx_pickle_dict(p);
        json_object_keylen_foreach((json_t *)value, key, len, item) {
            text(p, key, len);
            vx_pickle_json(p, item);
        }
        vx_pickle_end(p);
        break;
    case JSON_ARRAY:
        vx_pickle_list(p);
        json_array_foreach(value, i, item) {
            vx_pickle_json(p, item);
        }
        vx_pickle_end(p);
        break;
    case JSON_STRING:
        text(p, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        vx_pickle_int(p, json_integer_value(value));
        break;
    case JSON_REAL:
        vx_pickle_real(p, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        vx_pickle_bool(p, json_is_true(value));
        break;
    default:
        vx_pickle_none(p);
    }
}

int vx_pickle_finish(struct vx_pickle *p, char **ret_data, size_t *ret_len, struct vx_err *err) {
    const char *what = p->n_open > 0 ? "a container was left open" : p->wrong;
    if (p->out.len == 0) {
        what = "it holds no value";
    }
    op(p, STOP);
    bool memory = p->out.failed;
    char *data = what || memory ? NULL : vx_buf_take(&p->out, ret_len);
    vx_pickle_release(p);
    if (data) {
        *ret_data = data;
        return VX_OK;
    }
    return what && !memory
               ? vx_fail(err, VX_E_INVALID, "bad_pickle", "the pickle cannot be written: %s", what)
               : vx_fail(err, VX_E_NOMEM, NULL, "no memory for the pickle");
}
