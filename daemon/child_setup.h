/* What a child process of voxeld does first: tie its life to its parent's and lower its weight
 * against the daemon. The parent describes it in the environment variable VOXELD_CHILD, because
 * uv_spawn and posix_spawn offer no room for code between fork and exec. Thread: main thread of the
 * child, before anything else. */
#ifndef VX_DAEMON_CHILD_SETUP_H
#define VX_DAEMON_CHILD_SETUP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vx_child_setup {
    pid_t parent;          /* expected getppid(); a child whose parent has gone ends at once */
    int death_signal;      /* PR_SET_PDEATHSIG: sent when the spawning thread dies */
    int nice;              /* absolute niceness */
    int oom_score_adj;     /* who goes first when memory runs out */
    uint64_t memory_bytes; /* RLIMIT_DATA; 0: unlimited */
};

#define VX_CHILD_SETUP_ENV       "VOXELD_CHILD"
#define VX_CHILD_SETUP_TEXT_SIZE 160

/* "VOXELD_CHILD=..." for the child's environment, into buf. */
void vx_child_setup_format(const struct vx_child_setup *s, char *buf, size_t size);
/* Applies and unsets VOXELD_CHILD; without the variable nothing happens (a person started the
 * verb). Ends the process where the parent has gone already or the text is malformed. */
void vx_child_setup_apply(void);

#endif
