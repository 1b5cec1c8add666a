/* A window as text and back: one JSON object, keys as the fields of tune/window.h, so that what a
 * real run measured can be kept and judged again. Figures survive the way there and back exactly.
 * Thread: any. */
#ifndef VX_TUNE_RECORD_H
#define VX_TUNE_RECORD_H

#include <jansson.h>

struct vx_err;
struct vx_tune_window;

/* New reference; NULL when out of memory. */
json_t *vx_tune_record(const struct vx_tune_window *w);
/* Every field must be there with its type; VX_E_CORRUPT names the one that is not. Keys that are
 * no field are left alone. */
int vx_tune_replay(const json_t *record, struct vx_tune_window *ret, struct vx_err *err);

#endif
