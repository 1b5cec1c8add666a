/* How a verb talks to whoever started it: one JSON object per line on stdout, flushed at once;
 * problems as
 * {"error": {"code", "message", "where", "status", "retry", "native"}}: code is the reason's word,
 * status the kind of error (vx_status_word), retry: another process may do better, native: the
 * number of the library that failed, 0 where there is none. Thread: main thread of a role. */
#ifndef VX_DAEMON_ROLES_SAY_H
#define VX_DAEMON_ROLES_SAY_H

#include <jansson.h>

struct vx_err;

/* Steals the reference; NULL (out of memory while building it) prints nothing. */
void vx_say(json_t *line);
/* The error as a JSON line on stdout and as text on stderr; returns 1, the exit status. */
int vx_say_error(const char *verb, const struct vx_err *err);
/* A real, or null where it is not finite. New reference. */
json_t *vx_say_real(double value);

#endif
