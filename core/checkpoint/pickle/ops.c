/* One function per opcode that a checkpoint needs. The table names all others as well, as
 * pickletools does, so that a refusal can say what it met. */
#include "checkpoint/pickle/machine.h"
#include "checkpoint/pickle/values.h"

#include "base/err.h"
#include "base/own.h"

#include <string.h>

enum { MAX_PROTOCOL = 5 };

static int op_proto(struct vx_pm *m) {
    uint64_t version;
    int rc = vx_pm_take_word(m, 1, &version);
    if (rc == VX_OK && (version < 2 || version > MAX_PROTOCOL)) {
        rc = vx_fail(m->err, VX_E_UNSUPPORTED, "foreign_opcode",
                     "the pickle has protocol %d; 2 to %d are read", (int)version, MAX_PROTOCOL);
    }
    return rc;
}

static int op_frame(struct vx_pm *m) {
    return vx_pm_take(m, 8) ? VX_OK : VX_E_CORRUPT;
}

static int op_mark(struct vx_pm *m) {
    if (m->n_marks == VX_PM_MAX_MARKS) {
        return vx_pm_limit(m, "nests too deep");
    }
    m->marks[m->n_marks++] = m->n_stack;
    return VX_OK;
}

static int op_none(struct vx_pm *m) {
    return vx_pm_push(m, vx_py_new(m->tree, VX_PY_NONE));
}

static int push_bool(struct vx_pm *m, bool x) {
    struct vx_py *v = vx_py_new(m->tree, VX_PY_TRUTH);
    if (v) {
        v->truth = x;
    }
    return vx_pm_push(m, v);
}

static int op_newtrue(struct vx_pm *m) {
    return push_bool(m, true);
}

static int op_newfalse(struct vx_pm *m) {
    return push_bool(m, false);
}

static int push_int(struct vx_pm *m, int64_t x) {
    struct vx_py *v = vx_py_new(m->tree, VX_PY_INT);
    if (v) {
        v->i = x;
    }
    return vx_pm_push(m, v);
}

static int op_binint(struct vx_pm *m) {
    uint64_t word;
    int rc = vx_pm_take_word(m, 4, &word);
    return rc == VX_OK ? push_int(m, (int32_t)word) : rc;
}

static int op_binint1(struct vx_pm *m) {
    uint64_t word;
    int rc = vx_pm_take_word(m, 1, &word);
    return rc == VX_OK ? push_int(m, (int64_t)word) : rc;
}

static int op_binint2(struct vx_pm *m) {
    uint64_t word;
    int rc = vx_pm_take_word(m, 2, &word);
    return rc == VX_OK ? push_int(m, (int64_t)word) : rc;
}

static int op_long1(struct vx_pm *m) {
    uint64_t n, word = 0;
    int rc = vx_pm_take_word(m, 1, &n);
    if (rc == VX_OK && n > sizeof word) {
        return vx_pm_limit(m, "holds an integer of more than 64 bits");
    }
    if (rc == VX_OK) {
        rc = vx_pm_take_word(m, n, &word);
    }
    if (rc != VX_OK) {
        return rc;
    }
    int unused = (int)(64 - 8 * n); /* two's complement: the sign to the top and back */
    return push_int(m, n == 0 ? 0 : (int64_t)(word << unused) >> unused);
}

static int op_binfloat(struct vx_pm *m) {
    uint64_t word;
    int rc = vx_pm_take_word(m, 8, &word);
    struct vx_py *v = rc == VX_OK ? vx_py_new(m->tree, VX_PY_REAL) : NULL;
    if (v) {
        word = __builtin_bswap64(word);
        memcpy(&v->real, &word, sizeof v->real);
    }
    return rc == VX_OK ? vx_pm_push(m, v) : rc;
}

static int push_text(struct vx_pm *m, enum vx_py_kind kind, size_t length_bytes) {
    uint64_t n;
    int rc = vx_pm_take_word(m, length_bytes, &n);
    const unsigned char *p = rc == VX_OK ? vx_pm_take(m, n) : NULL;
    if (!p) {
        return VX_E_CORRUPT;
    }
    if (kind == VX_PY_STR) { /* Jansson's check of UTF-8 is the one that counts later */
        vx_auto_json json_t *text = json_stringn((const char *)p, n);
        if (!text) {
            return vx_pm_bad(m, "a text is not UTF-8");
        }
    }
    return vx_pm_push(m, vx_py_text(m->tree, kind, (const char *)p, n));
}

static int op_binunicode(struct vx_pm *m) {
    return push_text(m, VX_PY_STR, 4);
}

static int op_short_binunicode(struct vx_pm *m) {
    return push_text(m, VX_PY_STR, 1);
}

static int op_binbytes(struct vx_pm *m) {
    return push_text(m, VX_PY_BYTES, 4);
}

static int op_short_binbytes(struct vx_pm *m) {
    return push_text(m, VX_PY_BYTES, 1);
}

static int op_empty_list(struct vx_pm *m) {
    return vx_pm_push(m, vx_py_new(m->tree, VX_PY_LIST));
}

static int op_empty_dict(struct vx_pm *m) {
    return vx_pm_push(m, vx_py_new(m->tree, VX_PY_DICT));
}

static int op_empty_tuple(struct vx_pm *m) {
    return vx_pm_push(m, vx_py_new(m->tree, VX_PY_TUPLE));
}

/* n items are added to the list or dict on top of the stack. */
static int extend(struct vx_pm *m, enum vx_py_kind kind, struct vx_py *const *items, size_t n) {
    struct vx_py *container = vx_pm_top(m);
    if (!container) {
        return VX_E_CORRUPT;
    }
    if (container->kind != kind || (kind == VX_PY_DICT && n % 2 != 0)) {
        return vx_pm_bad(m, kind == VX_PY_DICT ? "it sets keys of something that is no dict"
                                               : "it appends to something that is no list");
    }
    for (size_t i = 0; kind == VX_PY_DICT && i < n; i += 2) {
        if (items[i]->kind != VX_PY_STR && items[i]->kind != VX_PY_INT) {
            return vx_pm_bad(m, "a dict has a key that is neither text nor an integer");
        }
    }
    return vx_py_extend(m->tree, container, items, n, m->err);
}

static int op_append(struct vx_pm *m) {
    struct vx_py *item = vx_pm_pop(m);
    return item ? extend(m, VX_PY_LIST, &item, 1) : VX_E_CORRUPT;
}

static int op_setitem(struct vx_pm *m) {
    struct vx_py *value = vx_pm_pop(m), *key = value ? vx_pm_pop(m) : NULL;
    return key ? extend(m, VX_PY_DICT, (struct vx_py *[]){key, value}, 2) : VX_E_CORRUPT;
}

static int op_appends(struct vx_pm *m) {
    size_t n = 0;
    struct vx_py **items = vx_pm_pop_mark(m, &n);
    return items ? extend(m, VX_PY_LIST, items, n) : VX_E_CORRUPT;
}

static int op_setitems(struct vx_pm *m) {
    size_t n = 0;
    struct vx_py **items = vx_pm_pop_mark(m, &n);
    return items ? extend(m, VX_PY_DICT, items, n) : VX_E_CORRUPT;
}

static int push_tuple(struct vx_pm *m, struct vx_py *const *items, size_t n) {
    struct vx_py *v = vx_py_new(m->tree, VX_PY_TUPLE);
    int rc = v ? vx_py_extend(m->tree, v, items, n, m->err) : VX_OK;
    return rc == VX_OK ? vx_pm_push(m, v) : rc;
}

static int op_tuple(struct vx_pm *m) {
    size_t n = 0;
    struct vx_py **items = vx_pm_pop_mark(m, &n);
    return items ? push_tuple(m, items, n) : VX_E_CORRUPT;
}

static int short_tuple(struct vx_pm *m, size_t n) {
    if (vx_pm_above_mark(m) < n) {
        return vx_pm_bad(m, "it takes a value from an empty stack");
    }
    m->n_stack -= n;
    return push_tuple(m, m->stack + m->n_stack, n);
}

static int op_tuple1(struct vx_pm *m) {
    return short_tuple(m, 1);
}

static int op_tuple2(struct vx_pm *m) {
    return short_tuple(m, 2);
}

static int op_tuple3(struct vx_pm *m) {
    return short_tuple(m, 3);
}

/* A name for the error text: printable, cut. */
static void printable(const char *s, size_t n, char *out, size_t size) {
    size_t i = 0;
    for (; i < n && i + 1 < size; i++) {
        out[i] = s[i] > ' ' && s[i] < 0x7f ? s[i] : '?';
    }
    out[i] = '\0';
}

static int push_class(struct vx_pm *m, const char *module, size_t n_module, const char *name,
                      size_t n_name) {
    char a[80], b[80];
    printable(module, n_module, a, sizeof a);
    printable(name, n_name, b, sizeof b);
    const struct vx_py_class *cls =
        n_module < sizeof a && n_name < sizeof b ? vx_py_class_find(a, b) : NULL;
    if (!cls) {
        return vx_fail(m->err, VX_E_UNSUPPORTED, "foreign_class",
                       "the class %s.%s is not one a checkpoint needs", a, b);
    }
    struct vx_py *v = vx_py_new(m->tree, VX_PY_CLASS);
    if (v) {
        v->cls = cls;
    }
    return vx_pm_push(m, v);
}

static int op_global(struct vx_pm *m) {
    const char *line[2];
    size_t len[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *eol = memchr(m->p, '\n', (size_t)(m->end - m->p));
        if (!eol) {
            return vx_pm_bad(m, "it ends within a value");
        }
        line[i] = (const char *)m->p;
        len[i] = (size_t)(eol - m->p);
        m->p = eol + 1;
    }
    return push_class(m, line[0], len[0], line[1], len[1]);
}

static int op_stack_global(struct vx_pm *m) {
    const struct vx_py *name = vx_pm_pop(m), *module = name ? vx_pm_pop(m) : NULL;
    if (!module) {
        return VX_E_CORRUPT;
    }
    if (name->kind != VX_PY_STR || module->kind != VX_PY_STR) {
        return vx_pm_bad(m, "a class's name is no text");
    }
    return push_class(m, module->text.s, module->text.len, name->text.s, name->text.len);
}

static int op_reduce(struct vx_pm *m) {
    const struct vx_py *args = vx_pm_pop(m), *cls = args ? vx_pm_pop(m) : NULL;
    struct vx_py *result = NULL;
    if (!cls) {
        return VX_E_CORRUPT;
    }
    if (args->kind != VX_PY_TUPLE) {
        return vx_pm_bad(m, "a function is called with something that is no tuple");
    }
    int rc = vx_py_call(m->tree, cls, args, &result, m->err);
    return rc == VX_OK ? vx_pm_push(m, result) : rc;
}

static int op_build(struct vx_pm *m) {
    const struct vx_py *state = vx_pm_pop(m);
    struct vx_py *object = state ? vx_pm_top(m) : NULL;
    return object ? vx_py_set_state(object, state, m->err) : VX_E_CORRUPT;
}

static int op_binpersid(struct vx_pm *m) {
    const struct vx_py *id = vx_pm_pop(m);
    struct vx_py *storage = NULL;
    int rc = id ? vx_py_persistent(m->tree, id, &storage, m->err) : VX_E_CORRUPT;
    return rc == VX_OK ? vx_pm_push(m, storage) : rc;
}

static int op_binput(struct vx_pm *m) {
    uint64_t i;
    int rc = vx_pm_take_word(m, 1, &i);
    return rc == VX_OK ? vx_pm_put(m, i) : rc;
}

static int op_long_binput(struct vx_pm *m) {
    uint64_t i;
    int rc = vx_pm_take_word(m, 4, &i);
    return rc == VX_OK ? vx_pm_put(m, i) : rc;
}

static int op_memoize(struct vx_pm *m) {
    return vx_pm_put(m, m->n_memo);
}

static int op_binget(struct vx_pm *m) {
    uint64_t i;
    int rc = vx_pm_take_word(m, 1, &i);
    return rc == VX_OK ? vx_pm_get(m, i) : rc;
}

static int op_long_binget(struct vx_pm *m) {
    uint64_t i;
    int rc = vx_pm_take_word(m, 4, &i);
    return rc == VX_OK ? vx_pm_get(m, i) : rc;
}

#define NAME(code, name)   [(unsigned char)(code)] = {name, NULL}
#define OP(code, name, fn) [(unsigned char)(code)] = {name, fn}

const struct vx_pm_op vx_pm_ops[256] = {
    NAME('I', "INT"),
    OP('J', "BININT", op_binint),
    OP('K', "BININT1", op_binint1),
    OP('M', "BININT2", op_binint2),
    NAME('L', "LONG"),
    OP(0x8a, "LONG1", op_long1),
    NAME(0x8b, "LONG4"),
    NAME('S', "STRING"),
    NAME('T', "BINSTRING"),
    NAME('U', "SHORT_BINSTRING"),
    OP('B', "BINBYTES", op_binbytes),
    OP('C', "SHORT_BINBYTES", op_short_binbytes),
    NAME(0x8e, "BINBYTES8"),
    NAME(0x96, "BYTEARRAY8"),
    NAME(0x97, "NEXT_BUFFER"),
    NAME(0x98, "READONLY_BUFFER"),
    OP('N', "NONE", op_none),
    OP(0x88, "NEWTRUE", op_newtrue),
    OP(0x89, "NEWFALSE", op_newfalse),
    NAME('V', "UNICODE"),
    OP(0x8c, "SHORT_BINUNICODE", op_short_binunicode),
    OP('X', "BINUNICODE", op_binunicode),
    NAME(0x8d, "BINUNICODE8"),
    NAME('F', "FLOAT"),
    OP('G', "BINFLOAT", op_binfloat),
    OP(']', "EMPTY_LIST", op_empty_list),
    OP('a', "APPEND", op_append),
    OP('e', "APPENDS", op_appends),
    NAME('l', "LIST"),
    OP(')', "EMPTY_TUPLE", op_empty_tuple),
    OP('t', "TUPLE", op_tuple),
    OP(0x85, "TUPLE1", op_tuple1),
    OP(0x86, "TUPLE2", op_tuple2),
    OP(0x87, "TUPLE3", op_tuple3),
    OP('}', "EMPTY_DICT", op_empty_dict),
    NAME('d', "DICT"),
    OP('s', "SETITEM", op_setitem),
    OP('u', "SETITEMS", op_setitems),
    NAME(0x8f, "EMPTY_SET"),
    NAME(0x90, "ADDITEMS"),
    NAME(0x91, "FROZENSET"),
    NAME('0', "POP"),
    NAME('2', "DUP"),
    OP('(', "MARK", op_mark),
    NAME('1', "POP_MARK"),
    NAME('g', "GET"),
    OP('h', "BINGET", op_binget),
    OP('j', "LONG_BINGET", op_long_binget),
    NAME('p', "PUT"),
    OP('q', "BINPUT", op_binput),
    OP('r', "LONG_BINPUT", op_long_binput),
    OP(0x94, "MEMOIZE", op_memoize),
    NAME(0x82, "EXT1"),
    NAME(0x83, "EXT2"),
    NAME(0x84, "EXT4"),
    OP('c', "GLOBAL", op_global),
    OP(0x93, "STACK_GLOBAL", op_stack_global),
    OP('R', "REDUCE", op_reduce),
    OP('b', "BUILD", op_build),
    NAME('i', "INST"),
    NAME('o', "OBJ"),
    NAME(0x81, "NEWOBJ"),
    NAME(0x92, "NEWOBJ_EX"),
    OP(0x80, "PROTO", op_proto),
    NAME('.', "STOP"),
    OP(0x95, "FRAME", op_frame),
    NAME('P', "PERSID"),
    OP('Q', "BINPERSID", op_binpersid),
};
