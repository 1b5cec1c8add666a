/* One process of a session (step or an augment worker): spawned with the three regions of shared
 * memory at fixed descriptors, watched through a pidfd, its stdout split into lines, the end of its
 * stderr kept as evidence. Everything is non-blocking and driven by the supervisor's poll. Thread:
 * the supervisor's. */
#ifndef VX_DAEMON_SESSION_PROC_H
#define VX_DAEMON_SESSION_PROC_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vx_err;

/* Where a child of a session finds its memory. */
enum { VX_FD_CONTROL = 3, VX_FD_TIMELINE = 4, VX_FD_RING = 5, VX_FD_HELD = 6, VX_FD_COUNT = 4 };

#define VX_PROC_TAIL 4096

struct vx_proc {
    pid_t pid;  /* 0: none */
    int pidfd;  /* -1: none */
    int out_fd; /* read end of stdout; -1: end seen */
    int err_fd; /* read end of stderr; -1: end seen */
    struct vx_buf line;
    char tail[VX_PROC_TAIL]; /* end of stderr, NUL-terminated */
    size_t tail_len;
    uint64_t started_ns;
};

struct vx_proc_options {
    char *const *args;      /* NULL-terminated; args[0] = verb */
    const char *const *env; /* NULL-terminated "NAME=value", in front of the inherited ones */
    int fds[VX_FD_COUNT];   /* control, timeline, ring, held in this process; 0 or less: none */
    int death_signal, nice, oom_score_adj;
    uint64_t memory_bytes; /* 0: no limit */
};

struct vx_proc_end {
    int exit_status; /* -1 where ended by a signal */
    int signal;      /* 0 where it exited */
    uint64_t max_rss_bytes;
};

/* *p must be all zero or ended. Its process group is its own, so that a Ctrl-C reaches the
 * supervisor only. */
int vx_proc_spawn(struct vx_proc *p, const struct vx_proc_options *options, struct vx_err *err);
bool vx_proc_running(const struct vx_proc *p);
void vx_proc_signal(const struct vx_proc *p, int signal);
/* Reads what is there; calls line for each full line of stdout (NUL-terminated, without newline).
 */
void vx_proc_read(struct vx_proc *p, void (*line)(void *ctx, const char *text, size_t len),
                  void *ctx);
/* Reaps when it has ended: true with *ret filled; the rest of its output was read before. Never
 * blocks. */
bool vx_proc_reap(struct vx_proc *p, void (*line)(void *ctx, const char *text, size_t len),
                  void *ctx, struct vx_proc_end *ret);
/* SIGKILL and reap where running; closes everything. */
void vx_proc_release(struct vx_proc *p);
/* Last non-empty line of stderr; never NULL. */
const char *vx_proc_last_words(struct vx_proc *p);

#endif
