/* Children of the loop thread through uv_spawn. One struct per child embeds its three handles; it
 * is freed when the last of them has closed, and `ended` comes when the process has exited and both
 * pipes have reached their end, so that no line is lost. */
#include "daemon/children.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/child_setup.h"

#include <uv.h>

#include <signal.h>
#include <string.h>

#define MAX_LINE      (64 << 20) /* the fingerprint of a large data set is one line */
#define EVIDENCE      2048       /* bytes of stderr kept */
#define KILL_AFTER_MS 10000

struct vx_child {
    struct vx_children *owner; /* borrowed, outlives every child */
    struct vx_child *next;
    uv_process_t process;
    uv_pipe_t out, errors;
    uv_timer_t killer;
    int open_handles; /* handles whose close callback has not come yet */
    int waiting;      /* of exit, end of out, end of errors */
    bool reported;
    struct vx_child_events events;
    char what[96];
    struct vx_buf line;
    char tail[EVIDENCE]; /* end of stderr */
    size_t tail_len;
    struct vx_err said; /* from {"error": {...}} on stdout */
    int64_t exit_status;
    int term_signal;
    char read_buf[16384];
};

struct vx_children {
    uv_loop_t *loop; /* borrowed */
    uint64_t memory_limit;
    struct vx_child *list;
};

struct vx_children *vx_children_create(uv_loop_t *loop, uint64_t memory_limit_bytes) {
    struct vx_children *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->loop = loop;
    c->memory_limit = memory_limit_bytes;
    return c;
}

static void unlink_child(struct vx_child *child) {
    struct vx_child **at = &child->owner->list;
    while (*at && *at != child) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = child->next;
    }
}

static void on_closed(uv_handle_t *handle) {
    struct vx_child *child = handle->data;
    if (--child->open_handles == 0) {
        unlink_child(child);
        vx_buf_release(&child->line);
        free(child);
    }
}

static void close_all(struct vx_child *child) {
    uv_handle_t *handles[] = {(uv_handle_t *)&child->process, (uv_handle_t *)&child->out,
                              (uv_handle_t *)&child->errors, (uv_handle_t *)&child->killer};
    for (size_t i = 0; i < VX_COUNTOF(handles); i++) {
        if (!uv_is_closing(handles[i])) {
            uv_close(handles[i], on_closed);
        }
    }
}

/* The last non-empty line of stderr, for the reason's text. */
static const char *last_line(struct vx_child *child) {
    while (child->tail_len > 0 &&
           (child->tail[child->tail_len - 1] == '\n' || child->tail[child->tail_len - 1] == ' ')) {
        child->tail_len--;
    }
    child->tail[child->tail_len] = '\0';
    const char *nl = strrchr(child->tail, '\n');
    return nl ? nl + 1 : child->tail;
}

static void report_end(struct vx_child *child) {
    struct vx_err err = {0};
    const struct vx_err *result = &err;
    if (child->term_signal) {
        vx_fail(&err, VX_E_INTERNAL, "child_killed",
                "%s was ended by signal %d (%s); last message: %s", child->what, child->term_signal,
                strsignal(child->term_signal), last_line(child));
    } else if (child->exit_status != 0 && child->said.code) {
        result = &child->said;
    } else if (child->exit_status != 0) {
        vx_fail(&err, VX_E_INTERNAL, "child_failed",
                "%s ended with exit status %d; last message: %s", child->what,
                (int)child->exit_status, last_line(child));
    } else {
        result = NULL;
    }
    child->reported = true;
    if (child->events.ended) {
        child->events.ended(child->events.ctx, result);
    }
    close_all(child);
}

static void one_done(struct vx_child *child) {
    if (--child->waiting == 0 && !child->reported) {
        report_end(child);
    }
}

static void copy_text(char *dst, size_t size, const json_t *value) {
    const char *text = json_string_value(value);
    snprintf(dst, size, "%s", text ? text : "");
}

static void take_line(struct vx_child *child, const char *text, size_t len) {
    vx_auto_json json_t *line = NULL;
    struct vx_err err = {0};
    if (vx_json_parse(text, len, MAX_LINE, 32, &line, &err) != VX_OK || !json_is_object(line)) {
        vx_log_warn("children", "line_ignored child=\"%s\" text=\"%.*s\"", child->what,
                    (int)(len < 200 ? len : 200), text);
        return;
    }
    const json_t *error = json_object_get(line, "error");
    if (json_is_object(error)) {
        child->said.code = VX_E_INVALID;
        copy_text(child->said.reason, sizeof child->said.reason, json_object_get(error, "code"));
        copy_text(child->said.text, sizeof child->said.text, json_object_get(error, "message"));
        copy_text(child->said.where, sizeof child->said.where, json_object_get(error, "where"));
    }
    if (child->events.line) {
        child->events.line(child->events.ctx, line);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    struct vx_child *child = handle->data;
    *buf = uv_buf_init(child->read_buf, sizeof child->read_buf);
}

static void on_out(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct vx_child *child = stream->data;
    if (n < 0) {
        uv_read_stop(stream);
        one_done(child);
        return;
    }
    for (const char *p = buf->base, *end = p + n; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        vx_buf_add(&child->line, p, (size_t)((nl ? nl : end) - p));
        if (!nl) {
            break;
        }
        if (child->line.len > 0 && !child->line.failed) {
            take_line(child, child->line.data, child->line.len);
        }
        vx_buf_clear(&child->line);
        p = nl + 1;
    }
    if (child->line.len > MAX_LINE) {
        vx_buf_clear(&child->line);
    }
}

static void on_errors(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct vx_child *child = stream->data;
    if (n < 0) {
        uv_read_stop(stream);
        one_done(child);
        return;
    }
    fwrite(buf->base, 1, (size_t)n, stderr);
    size_t keep = EVIDENCE - 1, add = (size_t)n < keep ? (size_t)n : keep;
    size_t old = child->tail_len + add > keep ? keep - add : child->tail_len;
    memmove(child->tail, child->tail + (child->tail_len - old), old);
    memcpy(child->tail + old, buf->base + ((size_t)n - add), add);
    child->tail_len = old + add;
}

static void on_exit_process(uv_process_t *process, int64_t exit_status, int term_signal) {
    struct vx_child *child = process->data;
    child->exit_status = exit_status;
    child->term_signal = term_signal;
    uv_timer_stop(&child->killer);
    one_done(child);
}

static char **child_env(char setup[VX_CHILD_SETUP_TEXT_SIZE]) {
    size_t n = 0;
    while (environ[n]) {
        n++;
    }
    char **env = calloc(n + 3, sizeof *env);
    if (env) {
        static char passive[] = "OMP_WAIT_POLICY=passive";
        memcpy(env, environ, n * sizeof *env);
        env[n] = setup;
        env[n + 1] = passive;
    }
    return env;
}

static struct vx_child *child_create(struct vx_children *c, const char *what,
                                     const struct vx_child_events *events) {
    struct vx_child *child = calloc(1, sizeof *child);
    if (!child) {
        return NULL;
    }
    child->owner = c;
    child->events = *events;
    snprintf(child->what, sizeof child->what, "%s", what);
    uv_pipe_init(c->loop, &child->out, 0);
    uv_pipe_init(c->loop, &child->errors, 0);
    uv_timer_init(c->loop, &child->killer);
    child->process.data = child->out.data = child->errors.data = child->killer.data = child;
    child->open_handles = 4; /* uv_spawn initialises the process handle also where it fails */
    child->waiting = 3;
    child->next = c->list;
    c->list = child;
    return child;
}

int vx_children_spawn(struct vx_children *c, const char *what, char *const args[],
                      const struct vx_child_events *events, struct vx_child **ret,
                      struct vx_err *err) {
    char setup[VX_CHILD_SETUP_TEXT_SIZE];
    vx_child_setup_format(&(struct vx_child_setup){getpid(), SIGKILL, 10, 300, c->memory_limit},
                          setup, sizeof setup);
    vx_auto_free char **env = child_env(setup);
    size_t n = 0;
    while (args[n]) {
        n++;
    }
    vx_auto_free char **argv = calloc(n + 2, sizeof *argv);
    struct vx_child *child = env && argv ? child_create(c, what, events) : NULL;
    if (!child) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting %s", what);
    }
    static char name[] = "voxeld";
    argv[0] = name;
    memcpy(argv + 1, args, n * sizeof *argv);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->errors},
    };
    /* Of the running binary, also where a newer one has taken its place on the disk; in a session
     * of its own, so that a Ctrl-C reaches the daemon only and is not taken for a crash. */
    uv_process_options_t options = {.file = "/proc/self/exe",
                                    .args = argv,
                                    .env = env,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_exit_process,
                                    .stdio = stdio,
                                    .stdio_count = 3};
    int rc = uv_spawn(c->loop, &child->process, &options);
    if (rc != 0) {
        child->reported = true;
        close_all(child);
        return vx_fail(err, VX_E_IO, "child_not_started", "%s could not be started: %s", what,
                       uv_strerror(rc));
    }
    uv_read_start((uv_stream_t *)&child->out, on_alloc, on_out);
    uv_read_start((uv_stream_t *)&child->errors, on_alloc, on_errors);
    *ret = child;
    return VX_OK;
}

static void on_kill_time(uv_timer_t *timer) {
    struct vx_child *child = timer->data;
    uv_process_kill(&child->process, SIGKILL);
}

void vx_child_stop(struct vx_child *child) {
    if (!child->reported) {
        uv_process_kill(&child->process, SIGTERM);
        uv_timer_start(&child->killer, on_kill_time, KILL_AFTER_MS, 0);
    }
}

void vx_children_stop(struct vx_children *c) {
    for (struct vx_child *child = c->list; child; child = child->next) {
        if (!child->reported) {
            child->reported = true;
            child->events.ended = NULL;
            uv_process_kill(&child->process, SIGKILL);
        }
        close_all(child);
    }
}

void vx_children_free(struct vx_children *c) {
    free(c);
}
