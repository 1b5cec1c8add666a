/* An api on a loop thread of its own against a fresh store, with hooks that record, and a plain
 * HTTP client. */
#ifndef VX_TESTS_API_SUPPORT_H
#define VX_TESTS_API_SUPPORT_H

#include "api/api.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "db/dataset.h"
#include "db/epoch.h"
#include "db/event.h"
#include "db/job.h"
#include "db/store.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>

/* All tests of the project are linked into one program as well: their shared functions need names
 * of their own. */
#define server_start        vx_apitest_server_start
#define server_stop         vx_apitest_server_stop
#define server_free         vx_apitest_server_free
#define reply_free          vx_apitest_reply_free
#define reply_header        vx_apitest_reply_header
#define client_connect      vx_apitest_client_connect
#define client_connect_unix vx_apitest_client_connect_unix
#define client_send         vx_apitest_client_send
#define client_finish       vx_apitest_client_finish
#define request             vx_apitest_request
#define submit              vx_apitest_submit
#define move_job            vx_apitest_move_job

#define TOKEN "test-token-0123456789"
#define SPEC  "{\"type\":\"train\",\"dataset\":\"Dataset004_Hippocampus\"}"

struct server {
    char *dir, *db_path, *unix_path;
    struct vx_store *store;
    struct vx_api *api; /* of the loop thread */
    int port;
    void *loop; /* struct loop_thread */
    atomic_int submitted, cancelled, registered;
    atomic_int result_exists, not_ready;
};

/* limits may be NULL. The data set of SPEC is registered and ready, unless no_dataset. */
struct server *server_start(const struct vx_api_limits *limits);
void server_stop(struct server *s); /* the api alone */
void server_free(struct server *s); /* stops what still runs */

struct reply {
    int status;
    char *head; /* status line and headers; owned */
    char *body; /* decoded; owned, NUL-terminated */
    size_t body_len;
    json_t *json; /* of the body; NULL if it is none; owned */
};
void reply_free(struct reply *r);
/* The value of a header, in a static buffer; NULL where it is absent. */
const char *reply_header(const struct reply *r, const char *name);

int client_connect(const struct server *s);
int client_connect_unix(const struct server *s);
void client_send(int fd, const char *text);
/* Reads to the end of the connection and takes it apart. */
struct reply client_finish(int fd);

/* One request with the token on a connection of its own. headers: further lines, each ending in
 * \r\n; may be "". body: NULL for none. */
struct reply request(const struct server *s, const char *method, const char *path,
                     const char *headers, const char *body);
#define GET(s, path)        request(s, "GET", path, "", NULL)
#define POST(s, path, body) request(s, "POST", path, "Content-Type: application/json\r\n", body)

/* Status and problem code of a request, asserted. */
#define EXPECT_PROBLEM(call, want_status, want_code)                                               \
    do {                                                                                           \
        struct reply rep_ = (call);                                                                \
        cr_assert_eq(rep_.status, want_status, "%d instead of %d: %s", rep_.status, want_status,   \
                     rep_.body);                                                                   \
        cr_assert_str_eq(json_string_value(json_object_get(rep_.json, "code")), want_code);        \
        cr_assert_eq(json_integer_value(json_object_get(rep_.json, "status")), want_status);       \
        cr_assert_str_eq(reply_header(&rep_, "Content-Type"), "application/problem+json");         \
        reply_free(&rep_);                                                                         \
    } while (0)

int64_t submit(const struct server *s); /* SPEC; its id */
/* Moves a job along: NULL-terminated words of states. */
void move_job(const struct server *s, int64_t id, const char *const *states);

#endif
