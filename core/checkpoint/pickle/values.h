/* Making the values of a tree, and the classes a pickle may name. Private to this room: shared by
 * read.c, values.c and classes.c. */
#ifndef VX_CHECKPOINT_PICKLE_VALUES_H
#define VX_CHECKPOINT_PICKLE_VALUES_H

#include "checkpoint/pickle_read.h"

/* Zeroed memory of the tree; NULL when out of memory or over VX_PY_MAX_MEMORY. */
void *vx_py_alloc(struct vx_py_tree *t, size_t n, size_t size);
struct vx_py_tree *vx_py_create(void);
void vx_py_set_root(struct vx_py_tree *t, const struct vx_py *root);

/* New values; NULL as vx_py_alloc. text: copied, a NUL added. */
struct vx_py *vx_py_new(struct vx_py_tree *t, enum vx_py_kind kind);
struct vx_py *vx_py_text(struct vx_py_tree *t, enum vx_py_kind kind, const char *s, size_t len);
/* Makes items part of a LIST, TUPLE or DICT: VX_E_CORRUPT where the container is already part of
 * another value or one of the items, VX_E_LIMIT for depth, weight or memory. */
int vx_py_extend(struct vx_py_tree *t, struct vx_py *container, struct vx_py *const *items,
                 size_t n, struct vx_err *err);

/* NULL where MODULE.NAME is not in the list. */
const struct vx_py_class *vx_py_class_find(const char *module, const char *name);
/* cls(*args), args a TUPLE. VX_E_CORRUPT where a class is no function or the arguments are not what
 * torch and numpy write. */
int vx_py_call(struct vx_py_tree *t, const struct vx_py *cls, const struct vx_py *args,
               struct vx_py **ret, struct vx_err *err);
/* object.__setstate__(state). */
int vx_py_set_state(struct vx_py *object, const struct vx_py *state, struct vx_err *err);
/* The storage that a persistent id ("storage", class, key, location, elements) names. */
int vx_py_persistent(struct vx_py_tree *t, const struct vx_py *id, struct vx_py **ret,
                     struct vx_err *err);

#endif
