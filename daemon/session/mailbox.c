/* Requests to a session from other threads: flags and an eventfd that wakes its poll. */
#include "daemon/session/supervisor.h"

#include "base/err.h"
#include "base/own.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vx_session_mailbox_init(struct vx_session_mailbox *m, struct vx_err *err) {
    m->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&m->requests, 0);
    for (size_t i = 0; i < VX_COUNTOF(m->wishes); i++) {
        atomic_init(&m->wishes[i], -1);
    }
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

void vx_session_turn(struct vx_session_mailbox *m, const struct vx_session_knobs *wish) {
    const int values[] = {wish->workers, wish->window, wish->keep_files_open, wish->cache_mode};
    _Static_assert(VX_COUNTOF(values) == VX_COUNTOF(m->wishes), "one wish per knob");
    for (size_t i = 0; i < VX_COUNTOF(values); i++) {
        if (values[i] >= 0) {
            atomic_store(&m->wishes[i], values[i]);
        }
    }
    vx_session_ask(m, VX_SESSION_TURN);
}

void vx_session_wishes(struct vx_session_mailbox *m, struct vx_session_knobs *ret) {
    int *const values[] = {&ret->workers, &ret->window, &ret->keep_files_open, &ret->cache_mode};
    for (size_t i = 0; i < VX_COUNTOF(values); i++) {
        *values[i] = atomic_exchange(&m->wishes[i], -1);
    }
}
