/* Who may ask, and what is refused before a handler runs. */
#include "api/support.h"

#include "api/auth.h"
#include "api/router.h"
#include "base/clock.h"
#include "base/rng.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A request without the token and with the Host given; headers as in request(). */
static struct reply bare(const struct server *s, const char *path, const char *host,
                         const char *headers) {
    int fd = client_connect(s);
    vx_auto_free char *text =
        vx_strf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", path, host, headers);
    client_send(fd, text);
    return client_finish(fd);
}

static int status_of(struct reply r) {
    int status = r.status;
    reply_free(&r);
    return status;
}

Test(api_auth, only_livez_is_open) {
    struct server *s = server_start(NULL);
    struct reply r = bare(s, "/livez", "localhost", "");
    cr_assert_eq(r.status, 200);
    cr_assert_str_eq(r.body, "ok\n");
    reply_free(&r);
    for (size_t i = 0; i < vx_routes_count; i++) {
        if (strcmp(vx_routes[i].method, "GET") == 0 &&
            strcmp(vx_routes[i].pattern, "/livez") != 0) {
            cr_assert_eq(status_of(bare(s, vx_routes[i].pattern, "localhost", "")), 401, "%s",
                         vx_routes[i].pattern);
        }
    }
    EXPECT_PROBLEM(bare(s, "/no/such/path", "localhost", ""), 401, "unauthorized");
    r = bare(s, "/v1/jobs", "localhost", "");
    cr_assert_str_eq(reply_header(&r, "WWW-Authenticate"), "Bearer realm=\"voxeld\"");
    reply_free(&r);
    static const char *const wrong[] = {
        "Authorization: Bearer wrong\r\n",      "Authorization: Bearer\r\n",
        "Authorization: Bearer " TOKEN "x\r\n", "Authorization: Basic " TOKEN "\r\n",
        "Cookie: voxeld_1=" TOKEN "\r\n",
    };
    for (size_t i = 0; i < VX_COUNTOF(wrong); i++) {
        cr_assert_eq(status_of(bare(s, "/v1/jobs", "localhost", wrong[i])), 401, "%s", wrong[i]);
    }
    cr_assert_eq(status_of(bare(s, "/v1/jobs?token=" TOKEN, "localhost", "")), 401,
                 "the page alone logs in");
    server_free(s);
}

Test(api_auth, the_pages_token_becomes_a_cookie) {
    struct server *s = server_start(NULL);
    struct reply r = bare(s, "/?token=" TOKEN, "localhost", "");
    cr_assert_eq(r.status, 200);
    char cookie[256], want[256];
    snprintf(cookie, sizeof cookie, "%s", reply_header(&r, "Set-Cookie"));
    snprintf(want, sizeof want, "voxeld_%d=" TOKEN "; Path=/; HttpOnly; SameSite=Strict", s->port);
    cr_assert_str_eq(cookie, want);
    cr_assert(strstr(reply_header(&r, "Content-Security-Policy"), "default-src 'none'"));
    cr_assert(strstr(r.body, "<!doctype html>"));
    reply_free(&r);
    cr_assert_eq(status_of(bare(s, "/?token=wrong", "localhost", "")), 401);
    char header[400];
    snprintf(header, sizeof header, "Cookie: a=b; voxeld_%d=" TOKEN "\r\n", s->port);
    cr_assert_eq(status_of(bare(s, "/v1/jobs", "localhost", header)), 200);
    strcat(header, "Origin: http://evil.example\r\n");
    cr_assert_eq(status_of(bare(s, "/v1/jobs", "localhost", header)), 401, "from another site");
    snprintf(header, sizeof header, "Cookie: voxeld_%d=" TOKEN "\r\nOrigin: http://localhost\r\n",
             s->port);
    cr_assert_eq(status_of(bare(s, "/v1/jobs", "localhost", header)), 200);
    server_free(s);
}

Test(api_auth, host_header_against_rebinding) {
    struct server *s = server_start(NULL);
    EXPECT_PROBLEM(bare(s, "/livez", "evil.example", ""), 403, "host_not_allowed");
    EXPECT_PROBLEM(bare(s, "/livez", "localhost.evil.example:80", ""), 403, "host_not_allowed");
    cr_assert_eq(status_of(bare(s, "/livez", "lab.example:1234", "")), 200);
    cr_assert_eq(status_of(bare(s, "/livez", "[::1]:9", "")), 200);
    server_free(s);
}

Test(api_auth, host_forms) {
    char *names[] = {"Lab.Example", NULL};
    static const char *const good[] = {"localhost", "LOCALHOST:80", "127.0.0.1",   "10.1.2.3:8790",
                                       "[::1]",     "[fe80::1]:9",  "lab.example", "own"};
    static const char *const bad[] = {
        "",       ":80",  "127.0.0.1.evil.example", "localhost:80x", "[::1",
        "[::1]x", "evil", "127.0.0.1@evil.example", "localhost/"};
    for (size_t i = 0; i < VX_COUNTOF(good); i++) {
        cr_assert(vx_auth_host_allowed(good[i], "own", names), "%s", good[i]);
    }
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        cr_assert_not(vx_auth_host_allowed(bad[i], "own", names), "%s", bad[i]);
    }
    cr_assert_not(vx_auth_host_allowed(NULL, "own", names));
    cr_assert(vx_auth_same("abc", "abc"));
    cr_assert_not(vx_auth_same("", "abc"));
    cr_assert_not(vx_auth_same("abcabc", "abc"));
    cr_assert_not(vx_auth_same("ab", "abc"));
}

Test(api_auth, unix_socket_needs_no_token) {
    struct server *s = server_start(NULL);
    int fd = client_connect_unix(s);
    client_send(fd, "POST /v1/jobs HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n"
                    "Content-Type: application/json\r\nContent-Length: 51\r\n\r\n" SPEC);
    struct reply r = client_finish(fd);
    cr_assert_eq(strlen(SPEC), 51);
    cr_assert_eq(r.status, 201, "%s", r.body);
    reply_free(&r);
    struct stat st;
    cr_assert_eq(stat(s->unix_path, &st), 0);
    cr_assert_eq(st.st_mode & 0007, 0, "nothing for others");
    server_stop(s);
    cr_assert_not(vx_path_exists(s->unix_path), "removed at the end");
    server_free(s);
}

/* As another user, through a socket whose file would let everybody in: the peer's uid decides. */
static int status_as_nobody(const struct server *s) {
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int status = -1;
        if (setgid(65534) == 0 && setuid(65534) == 0) {
            int fd = client_connect_unix(s);
            client_send(fd, "GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            status = status_of(client_finish(fd));
        }
        _exit(write(fds[1], &status, sizeof status) == sizeof status ? 0 : 1);
    }
    close(fds[1]);
    int status = 0;
    cr_assert_eq(read(fds[0], &status, sizeof status), (ssize_t)sizeof status);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return status;
}

Test(api_auth, unix_socket_refuses_strangers) {
    if (geteuid() != 0) {
        cr_skip_test("needs root to become somebody else");
    }
    struct server *s = server_start(NULL);
    chmod(s->dir, 0755);
    chmod(s->unix_path, 0666);
    cr_assert_eq(status_as_nobody(s), 403);
    server_free(s);
}

Test(api_http, unknown_paths_and_methods) {
    struct server *s = server_start(NULL);
    static const char *const nowhere[] = {"/v1",
                                          "/v1/jobs/",
                                          "/v1/jobs/0",
                                          "/v1/jobs/x",
                                          "/v1/jobs/1/",
                                          "/v2/jobs",
                                          "/v1/jobs/99999999999999999999",
                                          "/v1/jobs/-1",
                                          "//v1/jobs",
                                          "/index.html",
                                          "/assets/",
                                          "/assets/../index.html",
                                          "/v1/jobs/1/nothing"};
    for (size_t i = 0; i < VX_COUNTOF(nowhere); i++) {
        cr_assert_eq(status_of(GET(s, nowhere[i])), 404, "%s", nowhere[i]);
    }
    struct reply r = request(s, "DELETE", "/v1/jobs", "", NULL);
    cr_assert_eq(r.status, 405);
    cr_assert_str_eq(reply_header(&r, "Allow"), "GET, HEAD, POST");
    reply_free(&r);
    EXPECT_PROBLEM(POST(s, "/v1/system", "{}"), 405, "method_not_allowed");
    EXPECT_PROBLEM(GET(s, "/v1/jobs/1/cancel"), 405, "method_not_allowed");
    EXPECT_PROBLEM(request(s, "BREW", "/livez", "", NULL), 405, "method_not_allowed");
    EXPECT_PROBLEM(GET(s, "/v1/jobs?%FF%FE=1"), 400, "unknown_parameter"); /* not UTF-8 */
    r = request(s, "HEAD", "/v1/jobs", "", NULL);
    cr_assert_eq(r.status, 200);
    cr_assert_eq(r.body_len, 0);
    reply_free(&r);
    server_free(s);
}

Test(api_http, accept_is_obeyed) {
    struct server *s = server_start(NULL);
    static const char *const good[] = {"*/*", "application/json", "text/html, application/*;q=0.5",
                                       "text/plain;q=0, application/json;q=0.1", ""};
    static const char *const bad[] = {"text/html", "application/xml", "application/json;q=0",
                                      "image/*"};
    for (size_t i = 0; i < VX_COUNTOF(good) + VX_COUNTOF(bad); i++) {
        bool fine = i < VX_COUNTOF(good);
        vx_auto_free char *header =
            vx_strf("Accept: %s\r\n", fine ? good[i] : bad[i - VX_COUNTOF(good)]);
        cr_assert_eq(status_of(request(s, "GET", "/v1/jobs", header, NULL)), fine ? 200 : 406, "%s",
                     header);
    }
    server_free(s);
}

Test(api_http, large_bodies_and_headers_are_refused) {
    struct server *s = server_start(&(struct vx_api_limits){.body_bytes = 1000});
    vx_auto_free char *big = malloc(40001);
    memset(big, ' ', 40000);
    big[40000] = '\0';
    EXPECT_PROBLEM(POST(s, "/v1/jobs", big), 413, "body_too_large");
    int fd = client_connect(s);
    client_send(fd, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN
                    "\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n"
                    "9c40\r\n");
    client_send(fd, big);
    client_send(fd, "\r\n0\r\n\r\n");
    EXPECT_PROBLEM(client_finish(fd), 413, "body_too_large");
    vx_auto_free char *header = vx_strf("X-Long: %s\r\n", big);
    memset(header + 8, 'a', 40000);
    int status = status_of(request(s, "GET", "/v1/jobs", header, NULL));
    cr_assert(status == 431 || status == 413 || status == 400 || status == 0, "%d", status);
    cr_assert_eq(status_of(GET(s, "/livez")), 200);
    server_free(s);
}

Test(api_http, a_chunked_body_is_read) {
    struct server *s = server_start(NULL);
    int fd = client_connect(s);
    vx_auto_free char *text =
        vx_strf("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN
                "\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
                "Transfer-Encoding: chunked\r\n\r\n10\r\n%.16s\r\n%x\r\n%s\r\n0\r\n\r\n",
                SPEC, (unsigned)strlen(SPEC) - 16, SPEC + 16);
    client_send(fd, text);
    struct reply r = client_finish(fd);
    cr_assert_eq(r.status, 201, "%s", r.body);
    reply_free(&r);
    server_free(s);
}

Test(api_http, curls_default_content_type_is_taken_for_json) {
    struct server *s = server_start(NULL);
    struct reply r =
        request(s, "POST", "/v1/jobs", "Content-Type: application/x-www-form-urlencoded\r\n", SPEC);
    cr_assert_eq(r.status, 201, "%s", r.body);
    reply_free(&r);
    char header[256];
    snprintf(
        header, sizeof header,
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: voxeld_%d=" TOKEN
        "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 51\r\n\r\n",
        s->port);
    int fd = client_connect(s);
    client_send(fd, header);
    client_send(fd, SPEC);
    EXPECT_PROBLEM(client_finish(fd), 415,
                   "unsupported_media_type"); /* a browser's form, across sites */
    server_free(s);
}

Test(api_http, slow_clients_hold_nobody_up_and_are_dropped) {
    struct server *s = server_start(&(struct vx_api_limits){.idle_seconds = 1, .connections = 8});
    int slow[4];
    for (int i = 0; i < 4; i++) {
        slow[i] = client_connect(s);
        client_send(slow[i], i % 2 ? "GET /v1/jo"
                                   : "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
                                     "Bearer " TOKEN "\r\nContent-Type: application/json\r\n"
                                     "Content-Length: 100\r\n\r\n{");
    }
    uint64_t start = vx_now_ns();
    cr_assert_eq(status_of(GET(s, "/v1/jobs")), 200);
    cr_assert_lt((double)(vx_now_ns() - start) * 1e-9, 0.5);
    for (int i = 0; i < 4; i++) {
        char rest[512];
        ssize_t n;
        while ((n = recv(slow[i], rest, sizeof rest, 0)) > 0) {
        }
        cr_assert_eq(n, 0, "closed by the server, not by the time limit here");
        close(slow[i]);
    }
    cr_assert_lt((double)(vx_now_ns() - start) * 1e-9, 5.0);
    server_free(s);
}

Test(api_http, keep_alive_and_pipelining) {
    struct server *s = server_start(NULL);
    submit(s);
    int fd = client_connect(s);
    vx_auto_free char *one = vx_strf(
        "GET /v1/jobs/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN "\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        client_send(fd, one);
    }
    vx_auto_free char *last =
        vx_strf("GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                "Authorization: Bearer " TOKEN "\r\n\r\n");
    client_send(fd, last);
    struct reply all = client_finish(fd);
    size_t n = 0;
    for (const char *p = all.body; p && (p = strstr(p, "HTTP/1.1 200")); p++) {
        n++;
    }
    cr_assert_eq(n, 19); /* the first one's status line is in the head */
    cr_assert(strstr(all.body, "HTTP/1.1 404"));
    reply_free(&all);
    server_free(s);
}

Test(api_http, garbage_is_survived) {
    struct server *s = server_start(&(struct vx_api_limits){.idle_seconds = 1});
    static const char good[] =
        "POST /v1/jobs?dry_run=false HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
        "Bearer " TOKEN "\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: 51\r\n\r\n" SPEC;
    struct vx_rng rng = vx_rng_at(3, 0, 0, 0, 0);
    for (int i = 0; i < 400; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        size_t len = i % 4 == 0 ? vx_rng_below(&rng, sizeof good) : sizeof good - 1;
        for (uint32_t n = vx_rng_below(&rng, 6); n > 0; n--) {
            text[vx_rng_below(&rng, sizeof good - 1)] = (char)vx_rng_below(&rng, 256);
        }
        int fd = client_connect(s);
        struct timeval patience = {.tv_usec = 30000}; /* what is cut short gets no answer */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        send(fd, text, len, MSG_NOSIGNAL);
        struct reply r = client_finish(fd);
        reply_free(&r);
    }
    cr_assert_eq(status_of(GET(s, "/livez")), 200);
    cr_assert_eq(status_of(GET(s, "/v1/jobs")), 200);
    server_free(s);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

Test(api_http, reads_are_fast) {
    struct server *s = server_start(NULL);
    submit(s);
    int fd = client_connect(s);
    vx_auto_free char *one = vx_strf(
        "GET /v1/jobs/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN "\r\n\r\n");
    enum { N = 3000 };
    static double ms[N];
    for (int i = 0; i < N; i++) {
        uint64_t start = vx_now_ns();
        char reply[8192];
        client_send(fd, one);
        cr_assert_gt(recv(fd, reply, sizeof reply, 0), 0);
        ms[i] = (double)(vx_now_ns() - start) * 1e-6;
    }
    close(fd);
    qsort(ms, N, sizeof ms[0], by_value);
    cr_log_info("GET /v1/jobs/1, one connection: p50 %.3f ms, p99 %.3f ms", ms[N / 2],
                ms[N * 99 / 100]);
    cr_assert_lt(ms[N / 2], 10.0);
    server_free(s);
}

/* ---- the contract ---- */

/* "GET /path" for every operation of openapi.yaml: keys at two and four blanks beneath "paths:". */
static size_t read_contract(char list[][160], size_t max) {
    vx_auto_free char *text = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_read_file("openapi.yaml", 1 << 20, &text, NULL, &err), VX_OK, "%s", err.text);
    char path[128] = "";
    size_t n = 0;
    bool inside = false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (line[0] != ' ') {
            inside = strcmp(line, "paths:") == 0;
        } else if (inside && strncmp(line, "  /", 3) == 0) {
            snprintf(path, sizeof path, "%.*s", (int)strlen(line) - 3, line + 2);
        } else if (inside && n < max && strcmp(line, "    get:") == 0) {
            snprintf(list[n++], 160, "GET %s", path);
        } else if (inside && n < max && strcmp(line, "    post:") == 0) {
            snprintf(list[n++], 160, "POST %s", path);
        } else if (inside && n < max && strcmp(line, "    patch:") == 0) {
            snprintf(list[n++], 160, "PATCH %s", path);
        } else if (inside && strspn(line, " ") == 4 && line[strlen(line) - 1] == ':') {
            cr_assert_str_eq(line, "    parameters:", "another method: teach this test");
        }
    }
    return n;
}

Test(api_contract, openapi_and_router_name_the_same_operations) {
    static char list[64][160];
    size_t n = read_contract(list, 64);
    cr_assert_eq(n, vx_routes_count);
    for (size_t r = 0; r < vx_routes_count; r++) {
        char want[160];
        bool found = false;
        snprintf(want, sizeof want, "%s %s", vx_routes[r].method, vx_routes[r].pattern);
        for (size_t i = 0; i < n; i++) {
            found |= strcmp(want, list[i]) == 0;
        }
        cr_assert(found, "openapi.yaml lacks %s", want);
    }
}
