/* Inside this room only: the sockets and the libmicrohttpd daemons on them. Loop thread. */
#ifndef VX_API_LISTEN_H
#define VX_API_LISTEN_H

struct vx_api;
struct vx_api_config;
struct vx_err;

/* Checks config and copies it with its strings into api. */
int vx_listen_copy_config(struct vx_api *api, const struct vx_api_config *config,
                          struct vx_err *err);
void vx_listen_release(struct vx_api *api); /* what copy_config made */
/* Binds and starts both daemons; on failure what was started stays in api for the caller to stop.
 */
int vx_listen_open(struct vx_api *api, struct vx_err *err);
/* No new connections; removes the Unix socket's file. */
void vx_listen_close(struct vx_api *api);

#endif
