/* Child processes of the loop thread (verify, prepare): spawned under nice and a memory limit, JSON
 * lines from their stdout, the end of their stderr kept as evidence, and one callback when they
 * have ended. A child dies with the daemon (child_setup.h). Thread: loop thread. */
#ifndef VX_DAEMON_CHILDREN_H
#define VX_DAEMON_CHILDREN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct uv_loop_s;
struct vx_children;
struct vx_child;
struct vx_err;

struct vx_child_events {
    /* One JSON object per line of stdout; borrowed for the call. Lines that are not JSON are logged
     * and dropped. */
    void (*line)(void *ctx, const json_t *line);
    /* The child has ended and both pipes are drained. err: NULL for exit 0, otherwise reason
     * "child_failed", "child_killed" or what the child said in its last {"error": ...} line. The
     * child is freed after the call. */
    void (*ended)(void *ctx, const struct vx_err *err);
    void *ctx;
};

struct vx_children *vx_children_create(struct uv_loop_s *loop, uint64_t memory_limit_bytes);
/* Kills what is left (SIGKILL) and closes the handles; the loop must run until they are closed. */
void vx_children_stop(struct vx_children *c);
/* After the loop has closed the handles. */
void vx_children_free(struct vx_children *c);

/* Runs this binary with the NULL-terminated args (args[0] = verb). what: for messages, e.g.
 * "prepare Dataset004". */
int vx_children_spawn(struct vx_children *c, const char *what, char *const args[],
                      const struct vx_child_events *events, struct vx_child **ret,
                      struct vx_err *err);
/* Asks the child to end (SIGTERM, then SIGKILL after 10 s); `ended` still comes. */
void vx_child_stop(struct vx_child *child);

#endif
