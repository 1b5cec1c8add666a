/* Health, metrics, devices, the host. */
#include "api/handlers.h"
#include "api/openmetrics.h"
#include "db/event.h"
#include "db/job.h"

#include <string.h>

enum MHD_Result vx_h_livez(struct vx_req *r) {
    return vx_reply_static(r, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

enum MHD_Result vx_h_readyz(struct vx_req *r) {
    const struct vx_api_hooks *h = &r->api->config.hooks;
    char why[256] = "the daemon is ending";
    int64_t last = 0;
    struct vx_err err = {0};
    bool ready = !r->api->draining && (!h->ready || h->ready(h->arg, why, sizeof why));
    if (ready && vx_db_event_last(r->api->reader, &last, &err) != VX_OK) {
        ready = false;
        snprintf(why, sizeof why, "the database cannot be read: %.200s", err.text);
    }
    if (!ready) {
        vx_fail(&err, VX_E_STATE, "not_ready", "%s", why);
        return vx_problem_status(r, 503, &err);
    }
    return vx_reply_static(r, 200, "text/plain; charset=utf-8", "ready\n", 6);
}

static void write_jobs(struct vx_api *api, struct vx_buf *out) {
    int64_t counts[VX_JOB_STATES];
    if (vx_db_job_counts(api->reader, counts, NULL) != VX_OK) {
        return;
    }
    vx_buf_puts(out, "# HELP voxeld_jobs Jobs by state.\n# TYPE voxeld_jobs gauge\n");
    for (int i = 0; i < VX_JOB_STATES; i++) {
        vx_buf_printf(out, "voxeld_jobs{state=\"%s\"} %lld\n",
                      vx_job_state_word((enum vx_job_state)i), (long long)counts[i]);
    }
}

enum MHD_Result vx_h_metrics(struct vx_req *r) {
    const struct vx_api_config *c = &r->api->config;
    struct vx_buf out = VX_BUF_INIT;
    vx_buf_printf(&out,
                  "# HELP voxeld_build_info What is running; the value is always 1.\n"
                  "# TYPE voxeld_build_info gauge\n"
                  "voxeld_build_info{version=\"%s\",commit=\"%s\"} 1\n",
                  c->version ? c->version : "", c->commit ? c->commit : "");
    vx_buf_printf(&out,
                  "# HELP voxeld_http_streams Event streams that are open.\n"
                  "# TYPE voxeld_http_streams gauge\n"
                  "voxeld_http_streams %u\n",
                  r->api->n_streams);
    vx_meter_write(r->api->meter, &out);
    write_jobs(r->api, &out);
    if (c->hooks.metrics) {
        c->hooks.metrics(c->hooks.arg, &out);
    }
    vx_req_header(r, MHD_HTTP_HEADER_VARY, "Accept");
    if (!vx_openmetrics_wanted(vx_header(r, MHD_HTTP_HEADER_ACCEPT))) {
        return vx_reply_buf(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
    }
    struct vx_buf open = VX_BUF_INIT;
    vx_openmetrics(out.data ? out.data : "", &open);
    vx_buf_release(&out);
    return vx_reply_buf(r, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        &open);
}

enum MHD_Result vx_h_devices(struct vx_req *r) {
    const struct vx_api_hooks *h = &r->api->config.hooks;
    json_t *devices = h->devices ? h->devices(h->arg) : NULL;
    return vx_reply_json(r, 200, json_pack("{s:o}", "devices", devices ? devices : json_array()));
}

enum MHD_Result vx_h_system(struct vx_req *r) {
    const struct vx_api_config *c = &r->api->config;
    const struct vx_api_limits *l = &c->limits;
    json_t *o = c->hooks.system ? c->hooks.system(c->hooks.arg) : NULL;
    o = o ? o : json_object();
    json_object_set_new(o, "version", json_string(c->version ? c->version : ""));
    json_object_set_new(o, "commit", json_string(c->commit ? c->commit : ""));
    json_object_set_new(
        o, "http_limits",
        json_pack("{s:I, s:I, s:i, s:i, s:i, s:i, s:I, s:i}", "body_bytes",
                  (json_int_t)l->body_bytes, "header_bytes", (json_int_t)l->header_bytes,
                  "connections", (int)l->connections, "idle_seconds", (int)l->idle_seconds,
                  "streams", (int)l->streams, "streams_per_client", (int)l->streams_per_client,
                  "unfinished_jobs", (json_int_t)l->unfinished_jobs, "json_depth", l->json_depth));
    return vx_reply_json(r, 200, o);
}
