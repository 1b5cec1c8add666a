/* Inside this room only: who may ask. TCP: the Host header (against DNS rebinding) and the token;
 * Unix socket: the peer's uid and groups as the kernel tells them. */
#ifndef VX_API_AUTH_H
#define VX_API_AUTH_H

#include "api/request.h"

/* Fills r->caller's key (and for a Unix peer the rest). VX_OK, or the status to refuse with. Every
 * request. */
int vx_auth_caller(struct vx_req *r, struct vx_err *err);
/* The token, from Authorization, the cookie, or ?token= where the route allows it. */
int vx_auth_token(struct vx_req *r, struct vx_err *err);
/* Equal, in a time that does not depend on where they differ. */
bool vx_auth_same(const char *given, const char *token);
/* Whether a Host header may be answered: a numeric address, localhost, the listening host, a name
 * in names. */
bool vx_auth_host_allowed(const char *header, const char *own, char *const *names);

#endif
