#include "checkpoint/pickle/machine.h"
#include "checkpoint/pickle/values.h"
#include "checkpoint/pickle_read.h"

#include "base/err.h"
#include "base/own.h"

#include <string.h>

enum { MAX_STACK = 1 << 20, MAX_MEMO = 4 << 20, FIRST_SLOTS = 256 };

int vx_pm_bad(struct vx_pm *m, const char *what) {
    return vx_fail(m->err, VX_E_CORRUPT, "bad_pickle", "%s", what);
}

int vx_pm_limit(struct vx_pm *m, const char *what) {
    return vx_fail(m->err, VX_E_LIMIT, "pickle_too_large", "the pickle %s", what);
}

const unsigned char *vx_pm_take(struct vx_pm *m, uint64_t n) {
    if (n > (uint64_t)(m->end - m->p)) {
        vx_pm_bad(m, "it ends within a value");
        return NULL;
    }
    m->p += n;
    return m->p - n;
}

int vx_pm_take_word(struct vx_pm *m, size_t n, uint64_t *ret) {
    const unsigned char *p = vx_pm_take(m, n);
    *ret = 0;
    if (!p) {
        return VX_E_CORRUPT;
    }
    memcpy(ret, p, n);
    return VX_OK;
}

/* Room for index i in a growing array of pointers. */
static bool reserve(struct vx_py ***list, size_t *cap, size_t i) {
    if (i < *cap) {
        return true;
    }
    size_t grown = *cap ? *cap : FIRST_SLOTS;
    while (grown <= i) {
        grown *= 2;
    }
    struct vx_py **more = realloc(*list, grown * sizeof *more);
    if (!more) {
        return false;
    }
    memset(more + *cap, 0, (grown - *cap) * sizeof *more);
    *list = more;
    *cap = grown;
    return true;
}

int vx_pm_push(struct vx_pm *m, struct vx_py *v) {
    if (!v || m->n_stack == MAX_STACK || !reserve(&m->stack, &m->cap_stack, m->n_stack)) {
        return vx_pm_limit(m, "needs too much memory");
    }
    m->stack[m->n_stack++] = v;
    return VX_OK;
}

size_t vx_pm_above_mark(const struct vx_pm *m) {
    return m->n_stack - (m->n_marks > 0 ? m->marks[m->n_marks - 1] : 0);
}

struct vx_py *vx_pm_pop(struct vx_pm *m) {
    if (vx_pm_above_mark(m) == 0) {
        vx_pm_bad(m, "it takes a value from an empty stack");
        return NULL;
    }
    return m->stack[--m->n_stack];
}

struct vx_py *vx_pm_top(struct vx_pm *m) {
    if (vx_pm_above_mark(m) == 0) {
        vx_pm_bad(m, "it takes a value from an empty stack");
        return NULL;
    }
    return m->stack[m->n_stack - 1];
}

struct vx_py **vx_pm_pop_mark(struct vx_pm *m, size_t *ret_n) {
    if (m->n_marks == 0) {
        vx_pm_bad(m, "it ends a container that was not begun");
        return NULL;
    }
    *ret_n = vx_pm_above_mark(m);
    m->n_stack = m->marks[--m->n_marks];
    return m->stack + m->n_stack;
}

int vx_pm_put(struct vx_pm *m, uint64_t i) {
    struct vx_py *v = vx_pm_top(m);
    if (!v) {
        return VX_E_CORRUPT;
    }
    if (i >= MAX_MEMO || !reserve(&m->memo, &m->cap_memo, i)) {
        return vx_pm_limit(m, "remembers too many values");
    }
    m->n_memo += m->memo[i] == NULL;
    m->memo[i] = v;
    return VX_OK;
}

int vx_pm_get(struct vx_pm *m, uint64_t i) {
    if (i >= m->cap_memo || !m->memo[i]) {
        return vx_pm_bad(m, "it asks for a value that it did not remember");
    }
    return vx_pm_push(m, m->memo[i]);
}

static int run_one(struct vx_pm *m, unsigned char code) {
    const struct vx_pm_op *op = &vx_pm_ops[code];
    if (!op->name) {
        return vx_fail(m->err, VX_E_CORRUPT, "bad_pickle", "0x%02x is no opcode", code);
    }
    if (!op->run) {
        return vx_fail(m->err, VX_E_UNSUPPORTED, "foreign_opcode",
                       "the opcode %s is not one a checkpoint needs", op->name);
    }
    return op->run(m);
}

static int run(struct vx_pm *m, const unsigned char *data) {
    while (m->p < m->end) {
        size_t at = (size_t)(m->p - data);
        unsigned char code = *m->p++;
        if (code == VX_PM_STOP) {
            if (m->n_stack != 1 || m->n_marks != 0) {
                return vx_pm_bad(m, "it stops with other than one value");
            }
            vx_py_set_root(m->tree, m->stack[0]);
            return VX_OK;
        }
        int rc = run_one(m, code);
        if (rc != VX_OK) {
            vx_err_prefix(m->err, "pickle, byte %zu", at);
            return rc;
        }
    }
    return vx_pm_bad(m, "it ends without STOP");
}

int vx_pickle_read(const void *data, size_t len, struct vx_py_tree **ret, struct vx_err *err) {
    if (len > VX_PY_MAX_BYTES) {
        return vx_fail(err, VX_E_LIMIT, "pickle_too_large",
                       "the pickle has %zu bytes; at most %zu are read", len, VX_PY_MAX_BYTES);
    }
    struct vx_err mine = {0};
    vx_auto_free struct vx_pm *m = calloc(1, sizeof *m);
    vx_auto_py struct vx_py_tree *tree = vx_py_create();
    if (!m || !tree) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    m->tree = tree;
    m->p = data;
    m->end = m->p + len;
    m->err = err ? err : &mine;
    int rc = reserve(&m->stack, &m->cap_stack, 0) ? run(m, data)
                                                  : vx_pm_limit(m, "needs too much memory");
    free(m->stack);
    free(m->memo);
    if (rc == VX_OK) {
        *ret = vx_steal(tree);
    }
    return rc;
}
