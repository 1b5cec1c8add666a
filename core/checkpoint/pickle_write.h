/* A writer of Python pickles, protocol 2: what torch.load and pickle.load read everywhere.
 *
 *   struct vx_pickle p = VX_PICKLE_INIT;
 *   vx_pickle_dict(&p);
 *   vx_pickle_str(&p, "spacing");
 *   vx_pickle_list(&p);
 *   vx_pickle_real(&p, 1.5);
 *   vx_pickle_end(&p);
 *   vx_pickle_end(&p);
 *   rc = vx_pickle_finish(&p, &bytes, &len, err);
 *
 * Values follow each other as they nest: after vx_pickle_dict key, value, key, value; vx_pickle_end
 * closes what was opened last. As with struct vx_buf, the first failure is kept and every later
 * call ignored: one check at the end, in vx_pickle_finish. Opcodes: Python's Lib/pickletools.py.
 * Thread: one at a time. */
#ifndef VX_CHECKPOINT_PICKLE_WRITE_H
#define VX_CHECKPOINT_PICKLE_WRITE_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

#define VX_PICKLE_MAX_OPEN 64

struct vx_pickle {
    struct vx_buf out;
    char open[VX_PICKLE_MAX_OPEN]; /* the opcode that closes each open container */
    int n_open;
    const char *wrong; /* what the caller or the memory did wrong; NULL: nothing */
    uint32_t n_memo;
    uint32_t memo_ordered_dict, memo_rebuild, memo_float_storage; /* index + 1 once written */
};

#define VX_PICKLE_INIT                                                                             \
    { VX_BUF_INIT, {0}, 0, NULL, 0, 0, 0, 0 }

void vx_pickle_release(struct vx_pickle *p);

void vx_pickle_none(struct vx_pickle *p);
void vx_pickle_bool(struct vx_pickle *p, bool x);
void vx_pickle_int(struct vx_pickle *p, int64_t x);
void vx_pickle_real(struct vx_pickle *p, double x); /* NaN and infinities are fine */
void vx_pickle_str(struct vx_pickle *p, const char *utf8);
/* The same value as in JSON: null is None, objects are dicts in their key order, arrays lists. */
void vx_pickle_json(struct vx_pickle *p, const json_t *value);
/* Whole tuples of int. */
void vx_pickle_ints(struct vx_pickle *p, const int64_t *x, size_t n);

void vx_pickle_list(struct vx_pickle *p);
void vx_pickle_tuple(struct vx_pickle *p);
void vx_pickle_dict(struct vx_pickle *p);
void vx_pickle_ordered_dict(struct vx_pickle *p); /* collections.OrderedDict */
void vx_pickle_end(struct vx_pickle *p);

/* torch.device(name), e.g. "cpu". */
void vx_pickle_device(struct vx_pickle *p, const char *name);
/* A dense float32 CPU tensor, C order, that is all of storage `key` of the archive (member
 * TOP/data/KEY). Tensors with the same key share their memory after loading. rank <= 8. */
void vx_pickle_tensor(struct vx_pickle *p, uint64_t key, int rank, const int64_t *shape);
/* The bytes; caller frees *ret_data, p is empty afterwards, also after a failure: VX_E_NOMEM, or
 * VX_E_INVALID for containers that were not closed or were closed too often. */
int vx_pickle_finish(struct vx_pickle *p, char **ret_data, size_t *ret_len, struct vx_err *err);

static inline void vx_own_pickle(struct vx_pickle *p) {
    vx_pickle_release(p);
}
#define vx_auto_pickle __attribute__((cleanup(vx_own_pickle)))

#endif
