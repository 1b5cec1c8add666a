#include "api/auth.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

bool vx_auth_same(const char *given, const char *token) {
    size_t n = strlen(token), m = strlen(given);
    volatile unsigned char different = n != m;
    for (size_t i = 0; i < n; i++) {
        different |= (unsigned char)(token[i] ^ given[m ? i % m : 0]);
    }
    return different == 0;
}

/* The name or address of a Host header without its port. False where it has not that form. */
static bool host_part(const char *header, char *out, size_t size) {
    size_t len;
    const char *rest;
    if (header[0] == '[') {
        const char *end = strchr(header, ']');
        if (!end) {
            return false;
        }
        header++;
        len = (size_t)(end - header);
        rest = end + 1;
    } else {
        len = strcspn(header, ":");
        rest = header + len;
    }
    if (len == 0 || len >= size) {
        return false;
    }
    memcpy(out, header, len);
    out[len] = '\0';
    return *rest == '\0' || (*rest == ':' && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

bool vx_auth_host_allowed(const char *header, const char *own, char *const *names) {
    char host[256];
    struct in6_addr numeric;
    if (!header || !host_part(header, host, sizeof host)) {
        return false;
    }
    /* A rebinding attack needs a name that it can point elsewhere: addresses are safe. */
    if (inet_pton(AF_INET, host, &numeric) == 1 || inet_pton(AF_INET6, host, &numeric) == 1) {
        return true;
    }
    if (strcasecmp(host, "localhost") == 0 || (own && strcasecmp(host, own) == 0)) {
        return true;
    }
    for (char *const *n = names; n && *n; n++) {
        if (strcasecmp(host, *n) == 0) {
            return true;
        }
    }
    return false;
}

/* Own uid, root, or a member of the group. The kernel's list of groups: a look-up by name could
 * block the loop. */
static bool peer_allowed(int fd, gid_t group, uid_t *ret_uid) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        return false;
    }
    *ret_uid = peer.uid;
    if (peer.uid == 0 || peer.uid == geteuid()) {
        return true;
    }
    if (group == (gid_t)-1) {
        return false;
    }
    gid_t groups[256];
    len = sizeof groups;
    if (peer.gid == group) {
        return true;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0) {
        return false;
    }
    for (size_t i = 0; i < len / sizeof groups[0]; i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return false;
}

static int unix_caller(struct vx_req *r, struct vx_err *err) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info || !peer_allowed(info->connect_fd, r->api->group, &r->caller.uid)) {
        vx_fail(err, VX_E_PERM, "peer_not_allowed",
                "this socket serves the daemon's own user, root and the members of its group only");
        return 403;
    }
    r->caller.trusted_peer = true;
    snprintf(r->caller.key, sizeof r->caller.key, "uid:%ld", (long)r->caller.uid);
    return VX_OK;
}

int vx_auth_caller(struct vx_req *r, struct vx_err *err) {
    if (r->listener->kind == VX_LISTENER_UNIX) {
        return unix_caller(r, err);
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    snprintf(r->caller.key, sizeof r->caller.key, "tcp");
    if (a && a->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, r->caller.key,
                  sizeof r->caller.key);
    } else if (a && a->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  r->caller.key, sizeof r->caller.key);
    }
    if (!vx_auth_host_allowed(vx_header(r, MHD_HTTP_HEADER_HOST), r->api->config.host,
                              r->api->hosts)) {
        vx_fail(err, VX_E_PERM, "host_not_allowed",
                "the Host header names neither an address, nor localhost, nor a name that this "
                "server is configured "
                "for");
        return 403;
    }
    return VX_OK;
}

/* A request that a browser sends along with the cookie must come from our own page. SameSite=Strict
 * says the same; this holds where a browser does not know it. */
static bool own_origin(struct vx_req *r) {
    const char *origin = vx_header(r, MHD_HTTP_HEADER_ORIGIN),
               *host = vx_header(r, MHD_HTTP_HEADER_HOST);
    if (!origin) {
        return true;
    }
    const char *rest = strstr(origin, "://");
    return rest && host && strcasecmp(rest + 3, host) == 0;
}

int vx_auth_token(struct vx_req *r, struct vx_err *err) {
    if (r->caller.trusted_peer) {
        return VX_OK;
    }
    const char *token = r->api->config.token;
    const char *header = vx_header(r, MHD_HTTP_HEADER_AUTHORIZATION);
    if (header) {
        if (strncasecmp(header, "Bearer ", 7) == 0 &&
            vx_auth_same(header + 7 + strspn(header + 7, " "), token)) {
            return VX_OK;
        }
    } else {
        char name[32];
        snprintf(name, sizeof name, "voxeld_%d", r->api->port);
        const char *cookie = MHD_lookup_connection_value(r->conn, MHD_COOKIE_KIND, name);
        const char *query =
            r->route && r->route->flags & VX_ROUTE_LOGIN ? vx_query(r, "token") : NULL;
        if (query && vx_auth_same(query, token)) {
            r->caller.set_cookie = true;
            return VX_OK;
        }
        if (!query && cookie && vx_auth_same(cookie, token) && own_origin(r)) {
            r->caller.by_cookie = true;
            return VX_OK;
        }
    }
    vx_req_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"voxeld\"");
    vx_fail(err, VX_E_PERM, "unauthorized",
            "send Authorization: Bearer with the content of the file token in the state folder, or "
            "open the address "
            "with ?token= that the daemon printed at its start");
    return 401;
}
