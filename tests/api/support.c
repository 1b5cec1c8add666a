#include "api/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

struct loop_thread {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    sem_t started;
    struct server *server;
    struct vx_api_limits limits;
    struct vx_err err;
    bool running;
};

/* ---- hooks ---- */

static int on_job_check(void *arg, const struct vx_job_new *job, struct vx_err *err) {
    struct server *s = arg;
    if (strcmp(job->dataset, "Dataset004_Hippocampus") != 0) {
        vx_fail(err, VX_E_NOT_FOUND, "unknown_dataset", "no data set %s", job->dataset);
        return vx_err_at(err, "/dataset");
    }
    return s->result_exists ? vx_fail(err, VX_E_EXISTS, "result_exists", "a fold is there already")
                            : VX_OK;
}

static json_t *on_bottleneck(void *arg, int64_t id, const char *accept_language) {
    (void)arg;
    if (id != 1) {
        return NULL;
    }
    bool zh = accept_language && strcmp(accept_language, "zh") == 0;
    return json_pack("{s:b, s:[{s:s, s:s, s:f, s:s, s:s, s:f}], s:{s:i}, s:[s]}", "healthy", 0,
                     "verdicts", "code", "augment_bound", "severity", "severe", "cost", 0.4, "text",
                     zh ? "增强" : "augment", "advice", "more workers", "gain", 0.35, "window",
                     "steps", 12, "evidence", "psi");
}

static void on_submitted(void *arg, int64_t id) {
    (void)id;
    ((struct server *)arg)->submitted++;
}

static void on_cancel(void *arg, int64_t id) {
    (void)id;
    ((struct server *)arg)->cancelled++;
}

static int on_locate(void *arg, const char *name, const char *asked, char *out, size_t size,
                     struct vx_err *err) {
    (void)arg;
    if (strcmp(name, "Dataset999_Missing") == 0) {
        vx_fail(err, VX_E_NOT_FOUND, "dataset_folder_not_found", "no folder %s beneath the roots",
                name);
        return vx_err_at(err, "/name"), VX_E_NOT_FOUND;
    }
    snprintf(out, size, "%s/%s", asked ? asked : "/data", name);
    return VX_OK;
}

static void on_registered(void *arg, const char *name) {
    (void)name;
    ((struct server *)arg)->registered++;
}

static json_t *on_devices(void *arg) {
    (void)arg;
    return json_pack("[{s:s, s:f}]", "name", "cpu:0", "utilisation", 0.5);
}

static json_t *on_system(void *arg) {
    (void)arg;
    return json_pack("{s:i}", "cores", 2);
}

static json_t *on_progress(void *arg, int64_t id) {
    (void)arg;
    return id == 2 ? json_pack("{s:i}", "epoch", 7) : NULL;
}

/* Four workers at most; changes something where it asks for other than two. */
static int on_loader(void *arg, int64_t id, const json_t *wish, bool *ret_changed, json_t **ret,
                     struct vx_err *err) {
    (void)arg;
    json_int_t workers = json_integer_value(json_object_get(wish, "workers"));
    if (workers > 4) {
        vx_fail(err, VX_E_LIMIT, "beyond_budget", "workers can be at most 4 here");
        vx_err_at(err, "/workers");
        return VX_E_LIMIT;
    }
    *ret_changed = workers != 0 && workers != 2;
    *ret = json_pack("{s:I, s:I}", "workers", workers ? workers : (json_int_t)2, "job",
                     (json_int_t)id);
    return VX_OK;
}

static void on_metrics(void *arg, struct vx_buf *out) {
    (void)arg;
    vx_buf_puts(out, "voxeld_loader_stall_ratio 0.25\n");
}

static bool on_ready(void *arg, char *why, size_t size) {
    snprintf(why, size, "just a test");
    return !((struct server *)arg)->not_ready;
}

/* ---- server ---- */

static void on_stopped(void *arg) {
    struct loop_thread *t = arg;
    uv_close((uv_handle_t *)&t->stop, NULL);
}

static void on_stop(uv_async_t *async) {
    struct loop_thread *t = async->data;
    vx_store_on_commit(t->server->store, NULL, NULL);
    vx_api_stop(t->server->api, on_stopped, t);
}

static void on_commit(int64_t last, void *arg) {
    (void)last;
    vx_api_notify_events(arg);
}

static void *loop_main(void *arg) {
    struct loop_thread *t = arg;
    struct server *s = t->server;
    static const char *const hosts[] = {"lab.example", NULL};
    vx_auto_free char *jobs = vx_strf("%s/jobs", s->dir);
    struct vx_api_config config = {
        .store = s->store,
        .db_path = s->db_path,
        .jobs_dir = jobs,
        .host = "127.0.0.1",
        .unix_path = s->unix_path,
        .token = TOKEN,
        .allowed_hosts = hosts,
        .version = "1.2.3",
        .commit = "abc",
        .limits = t->limits,
        .hooks = {.arg = s,
                  .job_check = on_job_check,
                  .job_submitted = on_submitted,
                  .cancel_requested = on_cancel,
                  .dataset_locate = on_locate,
                  .dataset_submitted = on_registered,
                  .devices = on_devices,
                  .system = on_system,
                  .progress = on_progress,
                  .loader = on_loader,
                  .bottleneck = on_bottleneck,
                  .metrics = on_metrics,
                  .ready = on_ready},
    };
    uv_loop_init(&t->loop);
    uv_async_init(&t->loop, &t->stop, on_stop);
    t->stop.data = t;
    int rc = vx_api_start(&t->loop, &config, &s->api, &t->err);
    if (rc == VX_OK) {
        s->port = vx_api_port(s->api);
        vx_store_on_commit(s->store, on_commit, s->api);
    }
    t->running = rc == VX_OK;
    sem_post(&t->started);
    if (rc == VX_OK) {
        uv_run(&t->loop, UV_RUN_DEFAULT);
        uv_loop_close(&t->loop);
    }
    return NULL;
}

static int dataset_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)arg;
    struct vx_dataset_change ready = {.state = VX_DATASET_READY, .report = "{\"cases\":200}"};
    int rc = vx_db_dataset_register(db, "Dataset004_Hippocampus", "/data/a", err);
    return rc == VX_OK ? vx_db_dataset_update(db, "Dataset004_Hippocampus", &ready, err) : rc;
}

struct server *server_start(const struct vx_api_limits *limits) {
    struct server *s = calloc(1, sizeof *s);
    struct loop_thread *t = calloc(1, sizeof *t);
    const char *tmp = getenv("TMPDIR");
    s->dir = vx_strf("%s/vxapi-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(s->dir));
    s->db_path = vx_strf("%s/voxeld.db", s->dir);
    s->unix_path = vx_strf("%s/voxeld.sock", s->dir);
    s->loop = t;
    t->server = s;
    if (limits) {
        t->limits = *limits;
    }
    struct vx_err err = {0};
    cr_assert_eq(vx_store_open(s->db_path, &s->store, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_store_call(s->store, dataset_op, NULL, &err), VX_OK, "%s", err.text);
    sem_init(&t->started, 0, 0);
    pthread_create(&t->thread, NULL, loop_main, t);
    sem_wait(&t->started);
    cr_assert(t->running, "%s", t->err.text);
    return s;
}

void server_stop(struct server *s) {
    struct loop_thread *t = s->loop;
    if (t->running) {
        uv_async_send(&t->stop);
        pthread_join(t->thread, NULL);
        t->running = false;
    }
}

void server_free(struct server *s) {
    server_stop(s);
    vx_store_close(s->store);
    vx_remove_tree(s->dir, NULL);
    free(s->dir), free(s->db_path), free(s->unix_path), free(s->loop), free(s);
}

/* ---- client ---- */

static void set_timeout(int fd) {
    struct timeval t = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

int client_connect(const struct server *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    set_timeout(fd);
    return fd;
}

int client_connect_unix(const struct server *s) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", s->unix_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    set_timeout(fd);
    return fd;
}

void client_send(int fd, const char *text) {
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* refused early: what was said is to be read */
        }
        text += n;
        len -= (size_t)n;
    }
}

/* In place. */
static size_t dechunk(char *body, size_t len) {
    size_t from = 0, to = 0;
    while (from < len) {
        char *end = NULL;
        size_t n = strtoul(body + from, &end, 16);
        size_t start = (size_t)(end - body) + 2;
        if (n == 0 || start + n > len) {
            break;
        }
        memmove(body + to, body + start, n);
        to += n;
        from = start + n + 2;
    }
    body[to] = '\0';
    return to;
}

struct reply client_finish(int fd) {
    struct vx_buf in = VX_BUF_INIT;
    char block[8192];
    for (ssize_t n; (n = recv(fd, block, sizeof block, 0)) > 0;) {
        vx_buf_add(&in, block, (size_t)n);
    }
    close(fd);
    struct reply r = {0};
    char *gap = in.data ? strstr(in.data, "\r\n\r\n") : NULL;
    if (!gap) {
        vx_buf_release(&in);
        return r;
    }
    r.head = strndup(in.data, (size_t)(gap + 2 - in.data));
    r.body_len = in.len - (size_t)(gap + 4 - in.data);
    r.body = malloc(r.body_len + 1);
    memcpy(r.body, gap + 4, r.body_len);
    r.body[r.body_len] = '\0';
    vx_buf_release(&in);
    sscanf(r.head, "HTTP/1.1 %d", &r.status);
    const char *coding = reply_header(&r, "Transfer-Encoding");
    if (coding && strcasecmp(coding, "chunked") == 0) {
        r.body_len = dechunk(r.body, r.body_len);
    }
    r.json = json_loadb(r.body, r.body_len, 0, NULL);
    return r;
}

void reply_free(struct reply *r) {
    free(r->head);
    free(r->body);
    json_decref(r->json);
}

const char *reply_header(const struct reply *r, const char *name) {
    static char value[1024];
    size_t len = strlen(name);
    for (const char *p = r->head; p && *p; p = strchr(p, '\n') + 1) {
        if (strncasecmp(p, name, len) == 0 && p[len] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(p + len + 2, "\r\n"), p + len + 2);
            return value;
        }
    }
    return NULL;
}

struct reply request(const struct server *s, const char *method, const char *path,
                     const char *headers, const char *body) {
    int fd = client_connect(s);
    char length[64] = "";
    if (body) {
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    }
    vx_auto_free char *text =
        vx_strf("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer " TOKEN
                "\r\nConnection: close\r\n%s%s\r\n%s",
                method, path, s->port, headers, length, body ? body : "");
    client_send(fd, text);
    return client_finish(fd);
}

int64_t submit(const struct server *s) {
    struct reply r = POST(s, "/v1/jobs", SPEC);
    cr_assert_eq(r.status, 201, "%s", r.body);
    int64_t id = json_integer_value(json_object_get(r.json, "id"));
    reply_free(&r);
    return id;
}

struct move {
    int64_t id;
    enum vx_job_state to;
};

static int move_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct move *m = arg;
    struct vx_job_change change = {.to = m->to};
    return vx_db_job_transition(db, m->id, &change, err);
}

void move_job(const struct server *s, int64_t id, const char *const *states) {
    for (; *states; states++) {
        struct move m = {id, (enum vx_job_state)vx_job_state_parse(*states)};
        struct vx_err err = {0};
        cr_assert_eq(vx_store_call(s->store, move_op, &m, &err), VX_OK, "%s", err.text);
    }
}
