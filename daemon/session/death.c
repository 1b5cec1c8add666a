/* See death.h. */
#include "daemon/session/death.h"

#include "base/budget.h"
#include "base/err.h"

#include <signal.h>
#include <string.h>

#define ROLL_NS 2000000000ull

enum { KILLED, OOM_KILLED, BUS_ERROR, CRASHED, CORRUPT, FAILED, EXITED };

const char *const vx_death_reasons[VX_DEATH_REASONS] = {
    [KILLED] = "killed",   [OOM_KILLED] = "oom_killed", [BUS_ERROR] = "bus_error",
    [CRASHED] = "crashed", [CORRUPT] = "corrupt",       [FAILED] = "failed",
    [EXITED] = "exited",
};

static int signal_reason(int signal, bool oom) {
    switch (signal) {
    case SIGKILL:
        return oom ? OOM_KILLED : KILLED;
    case SIGBUS:
        return BUS_ERROR;
    case SIGSEGV:
    case SIGABRT:
    case SIGILL:
    case SIGFPE:
    case SIGSYS:
    case SIGTRAP:
        return CRASHED;
    default:
        return KILLED;
    }
}

const char *vx_death_reason(const struct vx_proc_end *end, const char *error, bool oom) {
    if (end->signal) {
        return vx_death_reasons[signal_reason(end->signal, oom)];
    }
    if (!error[0]) {
        return vx_death_reasons[EXITED];
    }
    bool corrupt = strcmp(error, vx_status_word(VX_E_CORRUPT)) == 0;
    return vx_death_reasons[corrupt ? CORRUPT : FAILED];
}

bool vx_death_by_work(const char *reason, const char *error) {
    return strcmp(reason, vx_death_reasons[KILLED]) != 0 &&
           strcmp(reason, vx_death_reasons[OOM_KILLED]) != 0 &&
           strcmp(error, vx_status_word(VX_E_NOMEM)) != 0;
}

bool vx_death_by_device(const struct vx_err *said) {
    static const int kernels[] = {
        700, /* illegal address */
        702, /* launch timeout */
        709, /* context destroyed */
        710, /* device-side assert */
        714, /* hardware stack error */
        715, /* illegal instruction */
        716, /* misaligned address */
        717, /* invalid address space */
        718, /* invalid program counter */
        719, /* launch failure */
    };
    bool own = false;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        own |= said->native == kernels[i];
    }
    return strcmp(said->reason, "no_gpu") == 0 ||
           (strcmp(said->reason, "device_lost") == 0 && !own);
}

void vx_oom_watch_start(struct vx_oom_watch *w, const char *root, uint64_t now_ns) {
    *w = (struct vx_oom_watch){.rolled_ns = now_ns};
    w->known = vx_budget_oom_kills(root, &w->explained);
    w->recent = w->explained;
}

void vx_oom_watch_roll(struct vx_oom_watch *w, const char *root, uint64_t now_ns) {
    if (!w->known || now_ns - w->rolled_ns < ROLL_NS) {
        return;
    }
    w->rolled_ns = now_ns;
    w->explained = w->recent > w->explained ? w->recent : w->explained;
    w->known = vx_budget_oom_kills(root, &w->recent);
}

bool vx_oom_killed(struct vx_oom_watch *w, const char *root) {
    uint64_t now = 0;
    if (!w->known || !vx_budget_oom_kills(root, &now) || now <= w->explained) {
        return false;
    }
    w->explained++;
    return true;
}
