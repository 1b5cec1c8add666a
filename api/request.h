/* Inside this room only: one request, from its first header to its last byte, and the ways to
 * answer it.
 *
 * A handler answers by exactly one vx_reply_* or vx_problem_* call and returns its result, or
 * queues a store operation with vx_req_submit and answers in its route's `finish`. */
#ifndef VX_API_REQUEST_H
#define VX_API_REQUEST_H

#include "api/server.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define VX_REQ_NAME    1024
#define VX_REQ_HEADERS 6

struct vx_req;

enum vx_route_flags {
    VX_ROUTE_OPEN = 1,    /* no token needed */
    VX_ROUTE_BODY = 2,    /* takes a JSON object */
    VX_ROUTE_NO_BODY = 4, /* a POST whose body may be empty or {} */
    VX_ROUTE_LOGIN = 8    /* ?token= sets the cookie */
};

struct vx_route {
    const char *method, *pattern; /* segments {id} (a number), {name}; {path} takes the rest */
    enum MHD_Result (*handle)(struct vx_req *r);
    enum MHD_Result (*finish)(struct vx_req *r); /* after a store operation; NULL: it has none */
    const char *produces;                        /* media type, for Accept */
    unsigned flags;
    const char *query[5]; /* known parameters */
};

struct vx_caller {
    bool trusted_peer; /* Unix socket, uid allowed */
    uid_t uid;
    char key[64]; /* who it is, for limits and idempotency: address or uid */
    bool by_cookie;
    bool set_cookie; /* came with a good ?token= */
};

enum vx_req_phase { VX_REQ_HEADERS_SEEN, VX_REQ_RUNNING, VX_REQ_FINISHING };

struct vx_req {
    struct vx_listener *listener;
    struct vx_api *api;
    struct MHD_Connection *conn;
    const struct vx_route *route; /* NULL: none fits */
    char method[16];
    char path[VX_REQ_NAME];
    int64_t id;             /* {id} */
    char name[VX_REQ_NAME]; /* {name} or {path} */
    struct vx_caller caller;
    enum vx_req_phase phase;
    uint64_t start_ns;
    int status; /* answered with; 0 before */
    bool is_stream;

    struct vx_buf body;
    size_t body_seen;
    json_t *json; /* the body of a VX_ROUTE_BODY route; owned */

    /* What the first look at the headers refused; answered when the body is over. */
    int refused;
    struct vx_err refusal;

    struct {
        char name[32], value[512];
    } headers[VX_REQ_HEADERS]; /* of the coming reply */
    size_t n_headers;

    /* The store operation. */
    void *task_arg; /* owned until task_free */
    void (*task_free)(void *arg);
    int (*task_op)(struct vx_db *db, void *arg, struct vx_err *err); /* db/store.h, vx_store_op */
    int task_rc;
    struct vx_err task_err;
    struct vx_req *next_finished;
};

/* request.c: libmicrohttpd's callbacks; cls is the struct vx_listener. */
enum MHD_Result vx_req_access(void *cls, struct MHD_Connection *conn, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state);
void vx_req_completed(void *cls, struct MHD_Connection *conn, void **state,
                      enum MHD_RequestTerminationCode why);

/* admit.c: everything that can be said from the headers: host, caller, route, query, Accept, body.
 * VX_OK, or the HTTP status to refuse with and err filled. */
int vx_admit(struct vx_req *r, struct vx_err *err);

/* task.c: op runs on the store thread with arg, the connection sleeps, route->finish runs
 * afterwards on the loop thread with r->task_rc and r->task_err set. arg is freed with free_arg
 * after that. */
enum MHD_Result vx_req_submit(struct vx_req *r,
                              int (*op)(struct vx_db *db, void *arg, struct vx_err *err), void *arg,
                              void (*free_arg)(void *));

/* reply.c */
void vx_req_header(struct vx_req *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
enum MHD_Result vx_reply(struct vx_req *r, int status, const char *type,
                         struct MHD_Response *response);
/* Takes text over, also on failure. */
enum MHD_Result vx_reply_buf(struct vx_req *r, int status, const char *type, struct vx_buf *text);
/* Takes the reference over. */
enum MHD_Result vx_reply_json(struct vx_req *r, int status, json_t *value);
/* The same with an ETag over the text; 304 where If-None-Match names it. */
enum MHD_Result vx_reply_tagged(struct vx_req *r, json_t *value);
/* A job's document: from the kept text where it is still true, otherwise make (a new reference, or
 * NULL after it has filled err) is asked for it. ETag and 304 as above. */
enum MHD_Result vx_reply_rendered(struct vx_req *r, int64_t id,
                                  json_t *(*make)(struct vx_req *r, int64_t id,
                                                  struct vx_err *err));
enum MHD_Result vx_reply_static(struct vx_req *r, int status, const char *type, const void *data,
                                size_t len);

/* problem.c: RFC 9457. */
enum MHD_Result vx_problem(struct vx_req *r, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Status by the kind of error: see api.h, job_check. */
enum MHD_Result vx_problem_err(struct vx_req *r, const struct vx_err *err);
enum MHD_Result vx_problem_status(struct vx_req *r, int status, const struct vx_err *err);
/* 422 invalid_request with one entry for each problem. */
enum MHD_Result vx_problem_list(struct vx_req *r, const struct vx_json_problems *problems);
const char *vx_http_phrase(int status);

/* query.c */
const char *vx_query(struct vx_req *r, const char *name); /* NULL when absent */
/* False: it was there and bad, err is filled (answer with 400). Absent leaves *out. */
bool vx_query_int(struct vx_req *r, const char *name, int64_t lo, int64_t hi, int64_t *out,
                  struct vx_err *err);
bool vx_query_bool(struct vx_req *r, const char *name, bool *out, struct vx_err *err);
bool vx_parse_int(const char *text, int64_t lo, int64_t hi, int64_t *out);
const char *vx_header(struct vx_req *r, const char *name);

#endif
