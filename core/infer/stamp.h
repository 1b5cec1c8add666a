/* A folder of predictions remembers what made them: FOLDER/.stamp holds one line that names the
 * weights and everything else that decides over their voxels. A run that goes on where another
 * stopped keeps files only under the same stamp. FOLDER/.lock is held by the process that writes
 * there. Thread: any. */
#ifndef VX_INFER_STAMP_H
#define VX_INFER_STAMP_H

#include <stdbool.h>

struct vx_err;

/* Takes the folder for this process: *ret_fd is to be kept open as long. VX_E_BUSY
 * "output_in_use" where another process has it. */
int vx_stamp_hold(const char *dir, int *ret_fd, struct vx_err *err);
/* True where dir bears any stamp: predictions of voxeld lie there. */
bool vx_stamp_any(const char *dir);
/* True where dir bears this stamp. */
bool vx_stamp_is(const char *dir, const char *stamp);
/* Atomic. Before it, remove from dir what another stamp's run left there. */
int vx_stamp_write(const char *dir, const char *stamp, struct vx_err *err);

#endif
