/* The loader of a running job as the HTTP interface shows and turns it: {"workers", "prefetch",
 * "keep_files_open", "cache", "cache_now" (what came of it), "planned": {the same keys}, "limits":
 * {"workers", "prefetch"}}.
 * Thread: loop thread. */
#ifndef VX_DAEMON_SESSION_LIVE_LOADER_H
#define VX_DAEMON_SESSION_LIVE_LOADER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_worker_thread;

/* wish: NULL, or an object of keys to turn, of the right types ("auto": as planned). *ret is the
 * loader as it will be within a second; *ret_changed: the wish changes something. VX_E_STATE where
 * no session runs, VX_E_LIMIT beyond the budget (err->where: the key's pointer); then nothing is
 * turned. w may be NULL. */
int vx_live_loader(struct vx_worker_thread *w, const json_t *wish, bool *ret_changed, json_t **ret,
                   struct vx_err *err);

#endif
