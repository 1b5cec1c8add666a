/* voxelctl's connection: HTTP through libcurl, over the Unix socket of a state folder or TCP with a
 * token. */
#ifndef VX_CTL_CLIENT_H
#define VX_CTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct vx_ctl_client;

/* url (http://HOST:PORT or unix:PATH), token and state may be NULL, then $VOXELD_URL, $VOXELD_TOKEN
 * and $VOXELD_STATE. Without a url: the socket voxeld.sock of the state folder, or where it has
 * none the usual port. The token of a TCP address is the given one, or the file token of the state
 * folder. NULL after an explanation on stderr. */
struct vx_ctl_client *vx_ctl_open(const char *url, const char *token, const char *state);
void vx_ctl_close(struct vx_ctl_client *c);

/* One request. method NULL: a GET without a body, a POST with one ("": empty). *ret is the reply's
 * JSON (new reference; NULL if it is none). The HTTP status, or -1 after an explanation on stderr.
 */
int vx_ctl_request(struct vx_ctl_client *c, const char *method, const char *path, const char *body,
                   json_t **ret);
/* The text of a file, "-" for stdin. NULL after an explanation. Caller frees. */
char *vx_ctl_read(const char *path);
/* Prints a problem document on stderr. */
void vx_ctl_complain(int status, const json_t *problem);

#endif
