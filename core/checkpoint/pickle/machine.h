/* The stack machine behind vx_pickle_read: what its opcodes work on. Private to this room: shared
 * by read.c and ops.c. */
#ifndef VX_CHECKPOINT_PICKLE_MACHINE_H
#define VX_CHECKPOINT_PICKLE_MACHINE_H

#include "checkpoint/pickle_read.h"

#define VX_PM_MAX_MARKS 1024

struct vx_pm {
    struct vx_py_tree *tree;      /* borrowed */
    const unsigned char *p, *end; /* what is left of the pickle; borrowed */
    struct vx_py **stack;         /* owned */
    size_t n_stack, cap_stack;
    size_t marks[VX_PM_MAX_MARKS]; /* heights of the stack */
    size_t n_marks;
    struct vx_py **memo; /* owned; NULL where nothing was put */
    size_t n_memo, cap_memo;
    struct vx_err *err; /* may be NULL */
};

/* "bad_pickle", and "pickle_too_large". */
int vx_pm_bad(struct vx_pm *m, const char *what);
int vx_pm_limit(struct vx_pm *m, const char *what);
/* n bytes of the pickle, or NULL. */
const unsigned char *vx_pm_take(struct vx_pm *m, uint64_t n);
/* A little-endian number of n <= 8 bytes. */
int vx_pm_take_word(struct vx_pm *m, size_t n, uint64_t *ret);
/* v may be NULL: the memory that vx_py_new did not get. */
int vx_pm_push(struct vx_pm *m, struct vx_py *v);
/* The topmost value above the last mark, or NULL where there is none. */
struct vx_py *vx_pm_pop(struct vx_pm *m);
struct vx_py *vx_pm_top(struct vx_pm *m);
size_t vx_pm_above_mark(const struct vx_pm *m);
/* Drops the last mark; *ret_n values above it stay at the returned place until the next push. NULL
 * where there is no mark. */
struct vx_py **vx_pm_pop_mark(struct vx_pm *m, size_t *ret_n);
int vx_pm_put(struct vx_pm *m, uint64_t i);
int vx_pm_get(struct vx_pm *m, uint64_t i);

typedef int vx_pm_fn(struct vx_pm *m);
struct vx_pm_op {
    const char *name; /* pickletools' name; NULL where a byte is no opcode */
    vx_pm_fn *run;    /* NULL where a checkpoint needs no such opcode; STOP has none either */
};
extern const struct vx_pm_op vx_pm_ops[256];
#define VX_PM_STOP '.'

#endif
