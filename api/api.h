/* The HTTP interface: libmicrohttpd on the loop thread, on TCP with a bearer token and on a Unix
 * socket that trusts the peer's uid.
 *
 * Reads are answered from a read-only connection on the loop thread. A POST is answered when what
 * it wrote is durable: its connection sleeps until the store's commit and is woken on the loop
 * thread. The rest of the daemon is reached through the hooks below; this room knows no other.
 * Everything here is called on the loop thread, except where it says otherwise. */
#ifndef VX_API_API_H
#define VX_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uv_loop_s;
struct vx_api;
struct vx_buf;
struct vx_err;
struct vx_job_new; /* db/job.h */
struct vx_store;   /* db/store.h */

/* Called on the loop thread; must not block. Every one may be NULL. */
struct vx_api_hooks {
    void *arg; /* first argument of each */

    /* Before a job is stored: what the spec alone cannot tell (data set, device, results). Negative
     * refuses it and err becomes the reply: VX_E_EXISTS "result_exists", VX_E_STATE, VX_E_BUSY 409;
     * VX_E_NOT_FOUND, VX_E_INVALID 422; VX_E_LIMIT 429; VX_E_FULL 507; anything else 500. An
     * err->where that starts with "/" is taken for a JSON pointer into the request. */
    int (*job_check)(void *arg, const struct vx_job_new *job, struct vx_err *err);
    /* After the commit. */
    void (*job_submitted)(void *arg, int64_t id);
    /* The job is in state cancelling or cancelled now. */
    void (*cancel_requested)(void *arg, int64_t id);

    /* Finds the folder of a data set beneath the configured roots. asked: the "path" of the
     * request, or NULL for the usual place. Failures as for job_check; VX_E_NOT_FOUND -> 422. */
    int (*dataset_locate)(void *arg, const char *name, const char *asked, char *ret_path,
                          size_t size, struct vx_err *err);
    /* After the commit; the data set is in state registering. */
    void (*dataset_submitted)(void *arg, const char *name);

    /* New references. devices: an array of objects; the page shows name, utilisation, memory_bytes,
     * memory_available_bytes, state, job. progress: what is newer than the stored progress, or
     * NULL; the page and voxelctl show epoch, epochs, done, total, train_loss, ema_dice,
     * seconds_per_step, loader_wait_ratio, accelerator_utilisation, eta_seconds, workers,
     * queue_depth. */
    json_t *(*devices)(void *arg);
    json_t *(*system)(void *arg);
    json_t *(*progress)(void *arg, int64_t id);
    /* What a running job waits for: {healthy, verdicts, window, evidence}, in the language of an
     * Accept-Language header (NULL: none). New reference; NULL where nothing is measured. */
    json_t *(*bottleneck)(void *arg, int64_t id, const char *accept_language);
    /* The loader of a running job. wish: NULL, or an object of keys to turn, of the right types.
     * *ret: new reference, as it is or will be within a second; *ret_changed: the wish changes it.
     * VX_E_STATE (409): no loader runs; VX_E_LIMIT (422): beyond the budget, err->where the key's
     * pointer. */
    int (*loader)(void *arg, int64_t id, const json_t *wish, bool *ret_changed, json_t **ret,
                  struct vx_err *err);
    /* Prometheus text, appended. The api itself writes voxeld_build_info, voxeld_http_* and
     * voxeld_jobs{state}; voxeld_store_* is the daemon's like the rest. */
    void (*metrics)(void *arg, struct vx_buf *out);

    /* The folder whose files, also in folders within, are the job's artifacts. Default:
     * config.jobs_dir/ID. Negative: no folder. */
    int (*job_dir)(void *arg, int64_t id, char *ret_path, size_t size);
    /* The job's text log. Default: "log.txt" in its folder. */
    int (*job_log)(void *arg, int64_t id, char *ret_path, size_t size);
    /* False with a reason while the daemon starts, drains or has lost its store: /readyz and every
     * POST answer 503 then. */
    bool (*ready)(void *arg, char *ret_why, size_t size);
};

struct vx_api_limits {           /* 0: the default in brackets */
    size_t body_bytes;           /* [1 MiB] */
    size_t header_bytes;         /* per connection, request line and headers [16 KiB] */
    unsigned connections;        /* per listener [256] */
    unsigned connections_per_ip; /* TCP only [128] */
    unsigned idle_seconds;       /* of a silent connection [30] */
    unsigned streams;            /* event streams at a time [64] */
    unsigned streams_per_client; /* by address, or uid on the Unix socket [8] */
    int64_t unfinished_jobs;     /* jobs not ended [1000]; beyond it 429 queue_full */
    int json_depth;              /* [16] */
    unsigned heartbeat_ms;       /* between comments on a silent event stream [15000] */
};

struct vx_api_config {
    struct vx_store *store; /* borrowed, outlives the api */
    const char *db_path;    /* of the store's file, for the api's own reader */
    const char *jobs_dir;   /* STATE/jobs; used where hooks.job_dir is NULL */
    const char *host;       /* numeric address to listen on; NULL: no TCP listener */
    int port;               /* 0: any free one, see vx_api_port */
    const char *unix_path;  /* NULL: no Unix socket; a stale one is replaced */
    const char *unix_group; /* members may connect; NULL: "voxeld"; a group that does not exist adds
                               nobody */
    const char *token;      /* of the TCP listener; required with host; at least 16 characters */
    const char *const *allowed_hosts; /* further names accepted in Host (without port),
                                         NULL-terminated; NULL: none */
    const char *version, *commit;     /* of the build */
    struct vx_api_limits limits;
    struct vx_api_hooks hooks;
};

/* Starts to listen; *ret belongs to the caller until vx_api_stop's callback. Copies what it needs
 * of config. */
int vx_api_start(struct uv_loop_s *loop, const struct vx_api_config *config, struct vx_api **ret,
                 struct vx_err *err);
/* The TCP port in use; 0 without a TCP listener. */
int vx_api_port(const struct vx_api *api);

/* Wakes the event streams: new events were committed. Any thread, cheap, may be called from
 * vx_store_on_commit. */
void vx_api_notify_events(struct vx_api *api);

/* Stops listening, ends event streams, lets requests under way finish (at most five seconds), then
 * frees api and calls done on the loop thread. The loop must keep running meanwhile. Remove the
 * commit hook before. */
void vx_api_stop(struct vx_api *api, void (*done)(void *arg), void *arg);

#endif
