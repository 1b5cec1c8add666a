#include "api/listen.h"
#include "api/request.h"
#include "base/log.h"
#include "base/own.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG   128
#define MIN_TOKEN 16

static int dup_into(const char **to, const char *from, struct vx_err *err) {
    *to = from ? strdup(from) : NULL;
    return from && !*to ? vx_fail(err, VX_E_NOMEM, NULL, "out of memory") : VX_OK;
}

static int copy_hosts(struct vx_api *api, const char *const *names, struct vx_err *err) {
    size_t n = 0;
    while (names && names[n]) {
        n++;
    }
    api->hosts = calloc(n + 1, sizeof *api->hosts);
    if (!api->hosts) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        api->hosts[i] = strdup(names[i]);
        if (!api->hosts[i]) {
            return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        }
    }
    return VX_OK;
}

/* What may stand in a cookie and a header as it is. */
static bool token_is_plain(const char *token) {
    return strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~") ==
           strlen(token);
}

int vx_listen_copy_config(struct vx_api *api, const struct vx_api_config *config,
                          struct vx_err *err) {
    struct vx_api_config *c = &api->config;
    c->store = config->store;
    c->port = config->port;
    c->limits = config->limits;
    c->hooks = config->hooks;
    if (config->host && (!config->token || strlen(config->token) < MIN_TOKEN ||
                         strlen(config->token) > 128 || !token_is_plain(config->token))) {
        return vx_fail(err, VX_E_INVALID, "bad_token",
                       "the token must have %d to 128 characters of A-Z a-z 0-9 - _ . ~; remove "
                       "the file token in the "
                       "state folder to have a new one made",
                       MIN_TOKEN);
    }
    struct {
        const char **to, *from;
    } strings[] = {
        {&c->db_path, config->db_path}, {&c->jobs_dir, config->jobs_dir},
        {&c->host, config->host},       {&c->unix_path, config->unix_path},
        {&c->token, config->token},     {&c->unix_group, config->unix_group},
        {&c->version, config->version}, {&c->commit, config->commit},
    };
    for (size_t i = 0; i < VX_COUNTOF(strings); i++) {
        int rc = dup_into(strings[i].to, strings[i].from, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return copy_hosts(api, config->allowed_hosts, err);
}

static void free_const(const char *text) {
    free((void *)(uintptr_t)text);
}

void vx_listen_release(struct vx_api *api) {
    struct vx_api_config *c = &api->config;
    free_const(c->db_path);
    free_const(c->jobs_dir);
    free_const(c->host);
    free_const(c->unix_path);
    free_const(c->token);
    free_const(c->unix_group);
    free_const(c->version);
    free_const(c->commit);
    for (char **h = api->hosts; h && *h; h++) {
        free(*h);
    }
    free(api->hosts);
}

/* A socket bound to host and port; its real port into *ret_port. */
static int tcp_socket(const char *host, int port, int *ret_fd, int *ret_port, struct vx_err *err) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t len = sizeof a.v4;
    if (inet_pton(AF_INET, host, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
    } else if (inet_pton(AF_INET6, host, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
        len = sizeof a.v6;
    } else {
        return vx_fail(err, VX_E_INVALID, "bad_address", "%s is no numeric address to listen on",
                       host);
    }
    vx_auto_close int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, &a.any, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &a.any, &len) != 0) {
        return vx_fail_errno(err, errno, NULL, "cannot listen on %s port %d", host, port);
    }
    *ret_port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

/* The group's id, and the file made its, so that the members can connect at all; without it the
 * file is the user's alone. Who connects is checked again for each connection. */
static void share_with_group(struct vx_api *api) {
    const char *name = api->config.unix_group ? api->config.unix_group : "voxeld";
    struct group *g = getgrnam(name);
    api->group = g ? g->gr_gid : (gid_t)-1;
    if (g && chown(api->config.unix_path, (uid_t)-1, g->gr_gid) == 0) {
        if (chmod(api->config.unix_path, 0660) != 0) {
            vx_log_warn("api", "socket_mode path=\"%s\" continuing=owner_only",
                        api->config.unix_path);
        }
    }
}

/* Removes the socket of a daemon that has ended. One that still answers is of another daemon, with
 * a state folder of its own: taking its place would cut it off without a word. */
static int clear_place(const char *path, const struct sockaddr_un *a, struct vx_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return VX_OK;
    }
    vx_auto_close int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* EAGAIN: it listens, and its queue is full */
    if (probe >= 0 &&
        (connect(probe, (const struct sockaddr *)a, sizeof *a) == 0 || errno == EAGAIN)) {
        vx_fail(err, VX_E_BUSY, "socket_in_use",
                "another server listens on the socket %s; stop it or give another --unix", path);
        return vx_err_at(err, "%s", path), VX_E_BUSY;
    }
    unlink(path);
    return VX_OK;
}

static int unix_socket(struct vx_api *api, int *ret_fd, struct vx_err *err) {
    const char *path = api->config.unix_path;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) {
        return vx_fail(err, VX_E_INVALID, "path_too_long",
                       "%s is too long for a Unix socket (%zu bytes at most)", path,
                       sizeof a.sun_path - 1);
    }
    memcpy(a.sun_path, path, strlen(path));
    int rc = clear_place(path, &a, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int bound = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof a);
    int saved = errno;
    umask(old);
    if (bound != 0) {
        return vx_fail_errno(err, saved, path, "cannot make the socket %s", path);
    }
    share_with_group(api);
    if (listen(fd, BACKLOG) != 0) {
        return vx_fail_errno(err, errno, path, "cannot listen on %s", path);
    }
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

static void log_line(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* libmicrohttpd prints a line for every client that goes away: of interest to nobody by default. */
static void log_line(void *cls, const char *fmt, va_list ap) {
    (void)cls;
    char text[256];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    vx_log_debug("http", "library text=\"%s\"", text);
}

/* Takes fd over. */
static int start(struct vx_api *api, enum vx_listener_kind kind, int fd, struct vx_err *err) {
    struct vx_listener *l = &api->listeners[kind];
    const struct vx_api_limits *limits = &api->config.limits;
    unsigned per_ip = kind == VX_LISTENER_TCP ? limits->connections_per_ip : 0;
    l->api = api;
    l->kind = kind;
    l->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, vx_req_access,
        l, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->header_bytes, MHD_OPTION_CONNECTION_LIMIT,
        limits->connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_ip,
        MHD_OPTION_CONNECTION_TIMEOUT, limits->idle_seconds, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_COMPLETED, vx_req_completed, l, MHD_OPTION_END);
    if (!l->mhd) {
        close(fd);
        return vx_fail(err, VX_E_IO, NULL, "cannot start the HTTP server");
    }
    return VX_OK;
}

int vx_listen_open(struct vx_api *api, struct vx_err *err) {
    int fd = -1, rc = VX_OK;
    if (api->config.host) {
        rc = tcp_socket(api->config.host, api->config.port, &fd, &api->port, err);
        rc = rc == VX_OK ? start(api, VX_LISTENER_TCP, fd, err) : rc;
    }
    if (rc == VX_OK && api->config.unix_path) {
        rc = unix_socket(api, &fd, err);
        rc = rc == VX_OK ? start(api, VX_LISTENER_UNIX, fd, err) : rc;
    }
    return rc;
}

void vx_listen_close(struct vx_api *api) {
    for (int i = 0; i < 2; i++) {
        MHD_socket fd =
            api->listeners[i].mhd ? MHD_quiesce_daemon(api->listeners[i].mhd) : MHD_INVALID_SOCKET;
        if (fd != MHD_INVALID_SOCKET) {
            close(fd);
        }
    }
    if (api->listeners[VX_LISTENER_UNIX].mhd) {
        unlink(api->config.unix_path);
    }
}
