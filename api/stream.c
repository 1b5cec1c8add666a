/* Server-Sent Events: the events of one job, from the table onwards. The table is the queue: a
 * stream holds only the id that it has sent last, so a slow client costs one buffer and delays
 * nobody. With nothing to send the connection sleeps; new events and the heartbeat wake it. The
 * heartbeat is also how a dead client is found out: a sleeping connection is not watched. */
#include "api/handlers.h"
#include "base/clock.h"
#include "base/own.h"
#include "db/event.h"
#include "db/job.h"

#include <stdlib.h>
#include <string.h>

#define BATCH 64

struct vx_stream {
    struct vx_stream *prev, *next;
    struct vx_api *api;          /* borrowed, outlives this */
    struct MHD_Connection *conn; /* borrowed, alive while the response is */
    char caller[64];
    int64_t job_id, last_id;
    struct vx_buf out;
    size_t sent; /* of out */
    uint64_t last_ns;
    bool asleep;
};

static void append_event(struct vx_buf *out, const struct vx_event *e) {
    char at[32];
    vx_buf_printf(out,
                  "id: %lld\nevent: %s\ndata: "
                  "{\"id\":%lld,\"job\":%lld,\"at\":\"%s\",\"type\":\"%s\",\"data\":",
                  (long long)e->id, e->type, (long long)e->id, (long long)e->job_id,
                  vx_iso8601(e->ts_ms, at, sizeof at), e->type);
    /* A line break ends the field; in JSON text it is white space. */
    for (char *p = e->data; *p; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
    }
    vx_buf_puts(out, e->data);
    vx_buf_puts(out, "}\n\n");
}

/* Fills out with what is new. False at the end of the stream. */
static bool refill(struct vx_stream *s) {
    struct vx_job job;
    struct vx_event_list list;
    vx_buf_clear(&s->out);
    s->sent = 0;
    /* The state first: if it is final, all of the job's events are there to be read after it. */
    if (vx_db_job_get(s->api->reader, s->job_id, &job, NULL) != VX_OK) {
        return false;
    }
    bool ended = vx_job_state_final(job.state);
    vx_job_release(&job);
    if (vx_db_events_since(s->api->reader, s->job_id, s->last_id, BATCH, &list, NULL) != VX_OK) {
        return false;
    }
    for (size_t i = 0; i < list.n; i++) {
        append_event(&s->out, &list.v[i]);
        s->last_id = list.v[i].id;
    }
    bool more = list.n > 0;
    vx_event_list_release(&list);
    if (!more && !ended &&
        vx_now_ns() - s->last_ns >= (uint64_t)s->api->config.limits.heartbeat_ms * 1000000) {
        vx_buf_puts(&s->out, ": alive\n\n");
    }
    return (more || !ended) && !s->out.failed;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max) {
    (void)pos;
    struct vx_stream *s = cls;
    if (s->sent == s->out.len) {
        if (s->api->draining || !refill(s)) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (s->out.len == 0) {
            s->asleep = true;
            MHD_suspend_connection(s->conn);
            return 0;
        }
    }
    size_t n = s->out.len - s->sent;
    n = n < max ? n : max;
    memcpy(buf, s->out.data + s->sent, n);
    s->sent += n;
    s->last_ns = vx_now_ns();
    return (ssize_t)n;
}

static void free_stream(void *cls) {
    struct vx_stream *s = cls;
    if (s->prev) {
        s->prev->next = s->next;
    } else {
        s->api->streams = s->next;
    }
    if (s->next) {
        s->next->prev = s->prev;
    }
    s->api->n_streams--;
    vx_buf_release(&s->out);
    free(s);
}

void vx_streams_wake(struct vx_api *api, bool everyone) {
    int64_t newest = api->newest_event;
    if (!everyone &&
        (vx_db_event_last(api->reader, &newest, NULL) != VX_OK || newest == api->newest_event)) {
        return;
    }
    api->newest_event = newest;
    for (struct vx_stream *s = api->streams; s; s = s->next) {
        if (s->asleep) {
            s->asleep = false;
            MHD_resume_connection(s->conn);
        }
    }
}

static bool room_for(struct vx_req *r) {
    unsigned mine = 0;
    for (struct vx_stream *s = r->api->streams; s; s = s->next) {
        mine += strcmp(s->caller, r->caller.key) == 0;
    }
    return r->api->n_streams < r->api->config.limits.streams &&
           mine < r->api->config.limits.streams_per_client;
}

enum MHD_Result vx_stream_start(struct vx_req *r, int64_t job_id, int64_t after) {
    if (!room_for(r)) {
        struct vx_err err = {0};
        vx_fail(&err, VX_E_LIMIT, "too_many_streams",
                "too many event streams are open; close some or ask with ?follow=false");
        return vx_problem_err(r, &err);
    }
    struct vx_stream *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_problem(r, 500, "out_of_memory", "out of memory");
    }
    s->api = r->api;
    s->conn = r->conn;
    s->job_id = job_id;
    s->last_id = after;
    s->last_ns = vx_now_ns();
    memcpy(s->caller, r->caller.key, sizeof s->caller);
    vx_buf_puts(&s->out, "retry: 2000\n\n"); /* sends the headers at once */
    s->next = r->api->streams;
    if (s->next) {
        s->next->prev = s;
    }
    r->api->streams = s;
    r->api->n_streams++;
    r->is_stream = true;
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, s, free_stream);
    if (!response) {
        free_stream(s);
        return MHD_NO;
    }
    vx_req_header(r, "X-Accel-Buffering", "no");
    return vx_reply(r, 200, "text/event-stream", response);
}
