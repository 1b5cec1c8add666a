/* What a running session changed of its brief: knobs that people turned, and cases that are out.
 * JOB_DIR/session_live.json, written durably before a change takes effect, so that a resumed job
 * goes on with the same samples and the same knobs. Thread: the supervisor's. */
#ifndef VX_DAEMON_SESSION_LIVE_H
#define VX_DAEMON_SESSION_LIVE_H

#include "session/control.h"

#include <jansson.h>

struct vx_err;
struct vx_recipe_view;

#define VX_LIVE_FORMAT 1

struct vx_live {
    json_t *knobs;       /* owned object: the names of vx_live_knobs that were turned */
    json_t *quarantines; /* owned array of rows */
};

/* Empty where nothing was changed yet. A file that cannot be understood is VX_E_CORRUPT, and *ret
 * empty. */
int vx_live_read(const char *dir, struct vx_live *ret, struct vx_err *err);
int vx_live_write(const char *dir, const struct vx_live *live, struct vx_err *err);
void vx_live_release(struct vx_live *live);

/* "workers", "window", "keep_files_open", "cache_mode"; NULL-terminated. */
extern const char *const vx_live_knobs[];
/* The member of k by that name; NULL for others. */
uint32_t *vx_live_knob(struct vx_knobs *k, const char *name);

/* A row says {"case", "from_k", "from_j", "val_from_k", "val_from_j"} and, as far as known, why
 * ("reason", "message", "file", "deaths", "at"). It means an exclusion of the recipe's case of that
 * name; false where there is none, or the row is not understood. */
bool vx_live_exclusion(const json_t *row, const struct vx_recipe_view *recipe,
                       struct vx_exclusion *ret);
/* The row of an exclusion, without the why. New reference. */
json_t *vx_live_row(const struct vx_exclusion *x, const struct vx_recipe_view *recipe);
/* Adds the rows of more (an array or NULL) whose case has none in rows yet. */
void vx_live_merge(json_t *rows, const json_t *more);
/* Rows to exclusions; rows without meaning and those beyond VX_EXCLUSIONS_MAX are left out. */
void vx_live_exclusions(const json_t *rows, const struct vx_recipe_view *recipe,
                        struct vx_exclusions *ret);

#endif
