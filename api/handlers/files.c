/* A job's log and artifacts. Paths resolve beneath the job's folder by openat2: no "..", no link,
 * no way out. */
#include "api/handlers.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/own.h"
#include "db/job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LIST_DEPTH  5
#define LIST_MAX    2000
#define TAIL_MAX    10000
#define TAIL_WINDOW (1 << 20) /* bytes of the log's end that ?tail= looks at */

static int open_beneath(int dir, const char *path, int flags) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK),
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* The job must exist; its folder may not yet. */
static int job_folder(struct vx_req *r, char *ret, size_t size, struct vx_err *err) {
    struct vx_job job;
    int rc = vx_db_job_get(r->api->reader, r->id, &job, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_job_release(&job);
    const struct vx_api_hooks *h = &r->api->config.hooks;
    if (h->job_dir) {
        rc = h->job_dir(h->arg, r->id, ret, size);
    } else {
        const char *jobs = r->api->config.jobs_dir;
        rc = jobs && (size_t)snprintf(ret, size, "%s/%lld", jobs, (long long)r->id) < size
                 ? VX_OK
                 : VX_E_NOT_FOUND;
    }
    return rc == VX_OK
               ? rc
               : vx_fail(err, VX_E_NOT_FOUND, "artifact_not_found", "the job has no folder yet");
}

/* Sends an open regular file; takes fd over. */
static enum MHD_Result send_file(struct vx_req *r, const char *type, int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return vx_problem(r, 404, "artifact_not_found", "this is not a file");
    }
    return vx_reply(r, 200, type, MHD_create_response_from_fd64((uint64_t)st.st_size, fd));
}

/* ---- log ---- */

/* The last n lines of what is in text. */
static const char *last_lines(const char *text, size_t len, int64_t n) {
    size_t at = len;
    if (at > 0 && text[at - 1] == '\n') {
        at--;
    }
    while (at > 0) {
        if (text[at - 1] == '\n' && --n == 0) {
            break;
        }
        at--;
    }
    return text + at;
}

static enum MHD_Result send_tail(struct vx_req *r, int fd, int64_t lines) {
    struct stat st;
    struct vx_err err = {0};
    if (fstat(fd, &st) != 0) {
        return vx_problem(r, 500, "io_error", "cannot read the log");
    }
    size_t len = st.st_size > TAIL_WINDOW ? TAIL_WINDOW : (size_t)st.st_size;
    vx_auto_free char *text = malloc(len + 1);
    if (!text || vx_pread_all(fd, text, len, st.st_size - (off_t)len, &err) != VX_OK) {
        return vx_problem(r, 500, "io_error", "cannot read the log");
    }
    const char *from = last_lines(text, len, lines);
    struct vx_buf out = VX_BUF_INIT;
    vx_buf_add(&out, from, (size_t)(text + len - from));
    return vx_reply_buf(r, 200, "text/plain; charset=utf-8", &out);
}

enum MHD_Result vx_h_job_log(struct vx_req *r) {
    struct vx_err err = {0};
    int64_t tail = 0;
    char dir[PATH_MAX], path[PATH_MAX + 16];
    if (!vx_query_int(r, "tail", 1, TAIL_MAX, &tail, &err)) {
        return vx_problem_status(r, 400, &err);
    }
    int rc = job_folder(r, dir, sizeof dir, &err);
    if (rc != VX_OK && strcmp(err.reason, "job_not_found") == 0) {
        return vx_problem_err(r, &err);
    }
    const struct vx_api_hooks *h = &r->api->config.hooks;
    snprintf(path, sizeof path, "%s/log.txt", dir);
    if (h->job_log) {
        rc = h->job_log(h->arg, r->id, path, sizeof path);
    }
    vx_auto_close int fd =
        rc == VX_OK ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd < 0) {
        return vx_reply_static(r, 200, "text/plain; charset=utf-8", "",
                               0); /* nothing was written yet */
    }
    return tail ? send_tail(r, fd, tail)
                : send_file(r, "text/plain; charset=utf-8", vx_steal_fd(&fd));
}

/* ---- artifacts ---- */

struct listing {
    json_t *files;
    size_t n;
};

static void add_file(struct listing *l, const char *name, const struct stat *st) {
    char at[32];
    int64_t ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    json_t *o = json_pack("{s:s, s:I, s:s}", "name", name, "bytes", (json_int_t)st->st_size,
                          "modified_at", vx_iso8601(ms, at, sizeof at));
    if (o) { /* a name that is not UTF-8 cannot be listed */
        json_array_append_new(l->files, o);
        l->n++;
    }
}

/* Takes fd over. */
static void list_folder(struct listing *l, int fd, const char *prefix, int depth) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *e; l->n < LIST_MAX && (e = readdir(dir));) {
        char name[VX_REQ_NAME];
        struct stat st;
        bool fits =
            (size_t)snprintf(name, sizeof name, "%s%s", prefix, e->d_name) < sizeof name - 1;
        if (e->d_name[0] == '.' || !fits ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        if (S_ISREG(st.st_mode)) {
            add_file(l, name, &st);
        } else if (S_ISDIR(st.st_mode) && depth > 1) {
            int sub = open_beneath(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY);
            strcat(name, "/");
            if (sub >= 0) {
                list_folder(l, sub, name, depth - 1);
            }
        }
    }
    closedir(dir);
}

static int by_name(const void *a, const void *b) {
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    return strcmp(json_string_value(json_object_get(x, "name")),
                  json_string_value(json_object_get(y, "name")));
}

/* A new array in order of name; drops the reference to files. */
static json_t *sorted(json_t *files) {
    size_t n = json_array_size(files);
    json_t **v = calloc(n + 1, sizeof *v);
    json_t *out = json_array();
    for (size_t i = 0; v && i < n; i++) {
        v[i] = json_array_get(files, i);
    }
    if (v) {
        qsort(v, n, sizeof *v, by_name);
    }
    for (size_t i = 0; v && i < n; i++) {
        json_array_append(out, v[i]);
    }
    free(v);
    json_decref(files);
    return out;
}

enum MHD_Result vx_h_artifacts(struct vx_req *r) {
    struct vx_err err = {0};
    char dir[PATH_MAX];
    int rc = job_folder(r, dir, sizeof dir, &err);
    if (rc != VX_OK && strcmp(err.reason, "job_not_found") == 0) {
        return vx_problem_err(r, &err);
    }
    struct listing l = {json_array(), 0};
    int fd = rc == VX_OK ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        list_folder(&l, fd, "", LIST_DEPTH);
    }
    bool cut = l.n >= LIST_MAX;
    return vx_reply_json(
        r, 200, json_pack("{s:o, s:b}", "artifacts", sorted(l.files), "truncated", (int)cut));
}

static const char *type_of(const char *name) {
    static const struct {
        const char *end, *type;
    } types[] = {
        {".json", "application/json"},         {".txt", "text/plain; charset=utf-8"},
        {".log", "text/plain; charset=utf-8"}, {".png", "image/png"},
        {".gz", "application/gzip"},
    };
    size_t len = strlen(name);
    for (size_t i = 0; i < VX_COUNTOF(types); i++) {
        size_t end = strlen(types[i].end);
        if (len > end && strcmp(name + len - end, types[i].end) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

enum MHD_Result vx_h_artifact(struct vx_req *r) {
    struct vx_err err = {0};
    char dir[PATH_MAX];
    if (job_folder(r, dir, sizeof dir, &err) != VX_OK) {
        return vx_problem_err(r, &err);
    }
    vx_auto_close int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool hidden = r->name[0] == '.' || strstr(r->name, "/.");
    int fd = folder < 0 || hidden ? -1 : open_beneath(folder, r->name, O_RDONLY);
    if (fd < 0) {
        return vx_problem(r, 404, "artifact_not_found",
                          "the job has no such file; /v1/jobs/%lld/artifacts lists them",
                          (long long)r->id);
    }
    vx_req_header(r, "Content-Security-Policy", "default-src 'none'; sandbox");
    return send_file(r, type_of(r->name), fd);
}
