/* The state folder of a daemon: made at first start, locked while a daemon owns it, and home of the
 * access token. Thread: main thread at start and end. */
#ifndef VX_DAEMON_HOME_H
#define VX_DAEMON_HOME_H

struct vx_err;

#define VX_TOKEN_SIZE 65 /* 64 hex digits and the NUL */

struct vx_home {
    int lock_fd; /* holds the flock; -1 while not open */
    char token[VX_TOKEN_SIZE];
};

/* Makes DIR (0700) with its jobs folder, takes the lock, and reads or makes DIR/token (0600). A
 * second daemon gets VX_E_BUSY with reason "state_locked" and the owner's pid in the text. */
int vx_home_open(const char *dir, struct vx_home *ret, struct vx_err *err);
void vx_home_close(struct vx_home *s);

#endif
