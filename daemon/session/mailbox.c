/* Requests to a session from other threads: flags and an eventfd that wakes its poll. */
#include "daemon/session/supervisor.h"

#include "base/err.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vx_session_mailbox_init(struct vx_session_mailbox *m, struct vx_err *err) {
    m->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&m->requests, 0);
    atomic_init(&m->workers_wanted, 0);
    return m->eventfd >= 0 ? VX_OK : vx_fail_errno(err, errno, NULL, "cannot make an eventfd");
}

void vx_session_mailbox_release(struct vx_session_mailbox *m) {
    if (m->eventfd >= 0) {
        close(m->eventfd);
    }
    m->eventfd = -1;
}

void vx_session_ask(struct vx_session_mailbox *m, enum vx_session_request request) {
    atomic_fetch_or(&m->requests, (unsigned)request);
    uint64_t one = 1;
    ssize_t n = write(m->eventfd, &one, sizeof one);
    (void)n; /* a full counter means that the reader will wake anyway */
}

void vx_session_resize(struct vx_session_mailbox *m, unsigned workers) {
    atomic_store(&m->workers_wanted, workers);
    vx_session_ask(m, VX_SESSION_RESIZE);
}
