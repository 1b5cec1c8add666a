/* See proc.h. */
#include "daemon/session/proc.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "daemon/child_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FIRST_FREE_FD (VX_FD_CONTROL + VX_FD_COUNT) /* behind the regions */
#define MAX_LINE      (1 << 20)

/* Descriptors moved out of the way of 0..6, so that the dup2 actions in the child cannot overwrite
 * one another. */
struct lifted {
    int fds[VX_FD_COUNT], out, err;
};

static void lifted_close(struct lifted *l) {
    int *all[] = {&l->fds[0], &l->fds[1], &l->fds[2], &l->fds[3], &l->out, &l->err};
    for (size_t i = 0; i < VX_COUNTOF(all); i++) {
        if (*all[i] >= 0) {
            close(*all[i]);
        }
        *all[i] = -1;
    }
}

static int lift(int fd) {
    return fcntl(fd, F_DUPFD_CLOEXEC, 32);
}

static int make_pipes(struct vx_proc *p, struct lifted *l) {
    int out[2], errors[2];
    if (pipe2(out, O_CLOEXEC) != 0) {
        return -1;
    }
    p->out_fd = out[0];
    l->out = lift(out[1]);
    close(out[1]);
    if (pipe2(errors, O_CLOEXEC) != 0) {
        return -1;
    }
    p->err_fd = errors[0];
    l->err = lift(errors[1]);
    close(errors[1]);
    fcntl(p->out_fd, F_SETFL, O_NONBLOCK);
    fcntl(p->err_fd, F_SETFL, O_NONBLOCK);
    return l->out >= 0 && l->err >= 0 ? 0 : -1;
}

/* extra first: getenv takes the first of equal names. */
static char **join_env(char *setup, const char *const *extra) {
    size_t n = 0, m = 0;
    while (environ[n]) {
        n++;
    }
    while (extra && extra[m]) {
        m++;
    }
    char **env = calloc(n + m + 2, sizeof *env);
    if (!env) {
        return NULL;
    }
    env[0] = setup;
    for (size_t i = 0; i < m; i++) {
        env[1 + i] = (char *)extra[i];
    }
    size_t at = 1 + m;
    for (size_t i = 0; i < n; i++) {
        bool replaced = false;
        for (size_t e = 0; e < m && !replaced; e++) {
            size_t len = strcspn(extra[e], "=") + 1;
            replaced = strncmp(environ[i], extra[e], len) == 0;
        }
        if (!replaced) {
            env[at++] = environ[i];
        }
    }
    return env;
}

static int spawn(struct vx_proc *p, const struct lifted *l, char **argv, char **env) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc) {
        return rc;
    }
    rc = posix_spawnattr_init(&attr);
    if (rc) {
        posix_spawn_file_actions_destroy(&actions);
        return rc;
    }
    rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, l->out, 1);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, l->err, 2);
    for (int i = 0; !rc && i < VX_FD_COUNT; i++) {
        rc = l->fds[i] < 0
                 ? 0
                 : posix_spawn_file_actions_adddup2(&actions, l->fds[i], VX_FD_CONTROL + i);
    }
    rc = rc ? rc : posix_spawn_file_actions_addclosefrom_np(&actions, FIRST_FREE_FD);
    rc = rc ? rc
            : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  POSIX_SPAWN_SETPGROUP);
    rc = rc ? rc : posix_spawnattr_setsigmask(&attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(&attr, &all);
    rc = rc ? rc : posix_spawnattr_setpgroup(&attr, 0);
    rc = rc ? rc : posix_spawn(&p->pid, "/proc/self/exe", &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int vx_proc_spawn(struct vx_proc *p, const struct vx_proc_options *options, struct vx_err *err) {
    struct lifted l = {{-1, -1, -1, -1}, -1, -1};
    vx_buf_release(&p->line);
    *p = (struct vx_proc){.pidfd = -1, .out_fd = -1, .err_fd = -1, .line = VX_BUF_INIT};
    char setup[VX_CHILD_SETUP_TEXT_SIZE];
    vx_child_setup_format(&(struct vx_child_setup){getpid(), options->death_signal, options->nice,
                                                   options->oom_score_adj, options->memory_bytes},
                          setup, sizeof setup);
    size_t n = 0;
    while (options->args[n]) {
        n++;
    }
    static char name[] = "voxeld";
    vx_auto_free char **argv = calloc(n + 2, sizeof *argv);
    vx_auto_free char **env = join_env(setup, options->env);
    if (!argv || !env) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting voxeld %s", options->args[0]);
    }
    argv[0] = name;
    memcpy(argv + 1, options->args, n * sizeof *argv);
    int rc = make_pipes(p, &l) == 0 ? 0 : errno;
    for (int i = 0; rc == 0 && i < VX_FD_COUNT; i++) {
        l.fds[i] = options->fds[i] <= 0 ? -1 : lift(options->fds[i]);
        rc = l.fds[i] >= 0 || options->fds[i] <= 0 ? 0 : errno;
    }
    rc = rc ? rc : spawn(p, &l, argv, env);
    lifted_close(&l);
    if (rc == 0) {
        p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
        rc = p->pidfd >= 0 ? 0 : errno;
    } else {
        p->pid = 0;
    }
    if (rc) {
        vx_proc_release(p);
        return vx_fail_errno(err, rc, NULL, "cannot start voxeld %s", options->args[0]);
    }
    p->started_ns = vx_now_ns();
    return VX_OK;
}

bool vx_proc_running(const struct vx_proc *p) {
    return p->pid > 0;
}

void vx_proc_signal(const struct vx_proc *p, int signal) {
    if (p->pid > 0) {
        kill(p->pid, signal); /* not reaped yet, so the number is still this process's */
    }
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void read_out(struct vx_proc *p, void (*line)(void *, const char *, size_t), void *ctx) {
    char buf[16384];
    for (;;) {
        ssize_t n = read(p->out_fd, buf, sizeof buf);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                close_fd(&p->out_fd);
            }
            return;
        }
        for (const char *at = buf, *end = buf + n; at < end;) {
            const char *nl = memchr(at, '\n', (size_t)(end - at));
            vx_buf_add(&p->line, at, (size_t)((nl ? nl : end) - at));
            if (!nl) {
                break;
            }
            if (!p->line.failed && p->line.len > 0) {
                line(ctx, p->line.data, p->line.len);
            }
            vx_buf_clear(&p->line);
            at = nl + 1;
        }
        if (p->line.len > MAX_LINE) {
            vx_buf_clear(&p->line);
        }
    }
}

static void read_err(struct vx_proc *p) {
    char buf[4096];
    for (;;) {
        ssize_t n = read(p->err_fd, buf, sizeof buf);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                close_fd(&p->err_fd);
            }
            return;
        }
        if (write(STDERR_FILENO, buf, (size_t)n) < 0) {
            /* the daemon's own log is gone; the evidence below is still kept */
            errno = 0;
        }
        size_t keep = VX_PROC_TAIL - 1, add = (size_t)n < keep ? (size_t)n : keep;
        size_t old = p->tail_len + add > keep ? keep - add : p->tail_len;
        memmove(p->tail, p->tail + (p->tail_len - old), old);
        memcpy(p->tail + old, buf + ((size_t)n - add), add);
        p->tail_len = old + add;
        p->tail[p->tail_len] = '\0';
    }
}

void vx_proc_read(struct vx_proc *p, void (*line)(void *, const char *, size_t), void *ctx) {
    if (p->out_fd >= 0) {
        read_out(p, line, ctx);
    }
    if (p->err_fd >= 0) {
        read_err(p);
    }
}

bool vx_proc_reap(struct vx_proc *p, void (*line)(void *, const char *, size_t), void *ctx,
                  struct vx_proc_end *ret) {
    if (p->pid <= 0) {
        return false;
    }
    int status = 0;
    struct rusage usage;
    pid_t got = wait4(p->pid, &status, WNOHANG, &usage);
    if (got != p->pid) {
        return false;
    }
    vx_proc_read(p, line, ctx); /* all it wrote is in the pipes by now */
    p->pid = 0;
    close_fd(&p->pidfd);
    close_fd(&p->out_fd);
    close_fd(&p->err_fd);
    *ret = (struct vx_proc_end){WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                                WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                                (uint64_t)usage.ru_maxrss * 1024};
    return true;
}

void vx_proc_release(struct vx_proc *p) {
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        p->pid = 0;
    }
    close_fd(&p->pidfd);
    close_fd(&p->out_fd);
    close_fd(&p->err_fd);
    vx_buf_release(&p->line);
}

const char *vx_proc_last_words(struct vx_proc *p) {
    while (p->tail_len > 0 && strchr("\n\r ", p->tail[p->tail_len - 1])) {
        p->tail[--p->tail_len] = '\0';
    }
    const char *nl = strrchr(p->tail, '\n');
    return nl ? nl + 1 : p->tail;
}
