/* Work handed to the loop thread by other threads, and store operations whose outcome comes back to
 * the loop thread. The loop thread itself never waits for the store: it submits and goes on in
 * `then`. */
#ifndef VX_DAEMON_POST_H
#define VX_DAEMON_POST_H

struct uv_loop_s;
struct vx_db;
struct vx_err;
struct vx_post;
struct vx_store;

struct vx_post *vx_post_create(struct uv_loop_s *loop, struct vx_err *err);
/* Runs fn(arg) on the loop thread, in the order of the calls. Any thread. Aborts when out of memory
 * for a few bytes. */
void vx_post(struct vx_post *p, void (*fn)(void *arg), void *arg);
/* Runs what is waiting, then closes the handles; the loop must run until they are closed. No post
 * may follow. */
void vx_post_close(struct vx_post *p);
/* After the handles have closed. */
void vx_post_free(struct vx_post *p);

typedef int (*vx_post_op)(struct vx_db *db, void *arg, struct vx_err *err);
/* rc and err: the durable outcome of the operation; err is NULL for VX_OK. */
typedef void (*vx_post_then)(void *arg, int rc, const struct vx_err *err);
/* Submits op to the store; then (NULL: nobody listens) runs on the loop thread. arg must live until
 * then. Where the store takes nothing (queue full, closing), then runs with that error. Any thread.
 */
void vx_post_store(struct vx_post *p, struct vx_store *store, vx_post_op op, void *arg,
                   vx_post_then then);
/* The same for an outcome that nothing else would bring about: while the store refuses op for a
 * reason that may pass (vx_store_passing: a full disk), it is tried again every second, until
 * vx_post_give_up. op must bear being run again. Loop thread. */
void vx_post_store_firmly(struct vx_post *p, struct vx_store *store, vx_post_op op, void *arg,
                          vx_post_then then);
/* A stop: refused calls end with their error, now and from now on; the next start sets right what
 * they would have done. Loop thread. */
void vx_post_give_up(struct vx_post *p);

#endif
