/* The routes. To add one: a line here, a handler under handlers/, its path in openapi.yaml (a test
 * compares). */
#include "api/router.h"
#include "api/handlers.h"

#include <stdio.h>
#include <string.h>

#define JSON "application/json"
#define TEXT "text/plain"

const struct vx_route vx_routes[] = {
    {"GET", "/", vx_h_page, NULL, "text/html", VX_ROUTE_LOGIN, {"token"}},
    {"GET", "/assets/{name}", vx_h_asset, NULL, NULL, 0, {NULL}},
    {"GET", "/livez", vx_h_livez, NULL, TEXT, VX_ROUTE_OPEN, {NULL}},
    {"GET", "/readyz", vx_h_readyz, NULL, TEXT, 0, {NULL}},
    {"GET", "/metrics", vx_h_metrics, NULL, NULL, 0, {NULL}},
    {"GET", "/openapi.yaml", vx_h_openapi, NULL, "application/yaml", 0, {NULL}},
    {"GET", "/v1/jobs", vx_h_jobs_list, NULL, JSON, 0, {"state", "dataset", "limit", "cursor"}},
    {"POST", "/v1/jobs", vx_h_job_submit, vx_h_job_submitted, JSON, VX_ROUTE_BODY, {"dry_run"}},
    {"GET", "/v1/jobs/{id}", vx_h_job_get, NULL, JSON, 0, {NULL}},
    {"POST",
     "/v1/jobs/{id}/cancel",
     vx_h_job_cancel,
     vx_h_job_cancelled,
     JSON,
     VX_ROUTE_NO_BODY,
     {NULL}},
    {"GET", "/v1/jobs/{id}/events", vx_h_job_events, NULL, NULL, 0, {"follow", "after", "limit"}},
    {"GET", "/v1/jobs/{id}/epochs", vx_h_job_epochs, NULL, JSON, 0, {"from", "limit"}},
    {"GET", "/v1/jobs/{id}/bottleneck", vx_h_job_bottleneck, NULL, JSON, 0, {NULL}},
    {"GET",
     "/v1/jobs/{id}/telemetry",
     vx_h_job_telemetry,
     NULL,
     JSON,
     0,
     {"since", "step", "limit"}},
    {"POST",
     "/v1/jobs/{id}/tuning/{name}/revert",
     vx_h_job_tuning_revert,
     NULL,
     JSON,
     VX_ROUTE_NO_BODY,
     {NULL}},
    {"GET", "/v1/jobs/{id}/tuning", vx_h_job_tuning, NULL, JSON, 0, {"after", "limit"}},
    {"GET", "/v1/jobs/{id}/loader", vx_h_job_loader, NULL, JSON, 0, {NULL}},
    {"PATCH", "/v1/jobs/{id}/loader", vx_h_job_loader_turn, NULL, JSON, VX_ROUTE_BODY, {NULL}},
    {"GET", "/v1/jobs/{id}/log", vx_h_job_log, NULL, TEXT, 0, {"tail"}},
    {"GET", "/v1/jobs/{id}/artifacts", vx_h_artifacts, NULL, JSON, 0, {NULL}},
    {"GET", "/v1/jobs/{id}/artifacts/{path}", vx_h_artifact, NULL, NULL, 0, {NULL}},
    {"GET", "/v1/datasets", vx_h_datasets_list, NULL, JSON, 0, {"limit", "cursor"}},
    {"POST",
     "/v1/datasets",
     vx_h_dataset_submit,
     vx_h_dataset_submitted,
     JSON,
     VX_ROUTE_BODY,
     {NULL}},
    {"GET", "/v1/datasets/{name}", vx_h_dataset_get, NULL, JSON, 0, {NULL}},
    {"GET", "/v1/datasets/{name}/plans", vx_h_dataset_plans, NULL, JSON, 0, {NULL}},
    {"GET", "/v1/devices", vx_h_devices, NULL, JSON, 0, {NULL}},
    {"GET", "/v1/system", vx_h_system, NULL, JSON, 0, {NULL}},
};
const size_t vx_routes_count = sizeof vx_routes / sizeof vx_routes[0];

/* One segment of a pattern against one of a path; captures. */
static bool segment_fits(const char *pat, size_t pat_len, const char *seg, size_t len, int64_t *id,
                         char *name, size_t name_size) {
    if (pat_len == 4 && memcmp(pat, "{id}", 4) == 0) {
        char digits[24];
        if (len == 0 || len >= sizeof digits) {
            return false;
        }
        memcpy(digits, seg, len);
        digits[len] = '\0';
        return vx_parse_int(digits, 1, INT64_MAX, id);
    }
    if (pat_len == 6 && (memcmp(pat, "{name}", 6) == 0 || memcmp(pat, "{path}", 6) == 0)) {
        if (len == 0 || len >= name_size) {
            return false;
        }
        memcpy(name, seg, len);
        name[len] = '\0';
        return true;
    }
    return pat_len == len && memcmp(pat, seg, len) == 0;
}

static bool pattern_fits(const char *pat, const char *path, int64_t *id, char *name,
                         size_t name_size) {
    while (*pat == '/' && *path == '/') {
        pat++;
        path++;
        size_t pat_len = strcspn(pat, "/"), len = strcspn(path, "/");
        if (strcmp(pat, "{path}") == 0) {
            len = strlen(path);
        }
        if (!segment_fits(pat, pat_len, path, len, id, name, name_size)) {
            return false;
        }
        pat += pat_len;
        path += len;
    }
    return *pat == '\0' && *path == '\0';
}

const struct vx_route *vx_router_find(const char *method, const char *path, int64_t *ret_id,
                                      char *ret_name, size_t name_size, char *ret_allow,
                                      size_t allow_size) {
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    ret_allow[0] = '\0';
    for (size_t i = 0; i < vx_routes_count; i++) {
        if (!pattern_fits(vx_routes[i].pattern, path, ret_id, ret_name, name_size)) {
            continue;
        }
        if (strcmp(vx_routes[i].method, wanted) == 0) {
            return &vx_routes[i];
        }
        size_t used = strlen(ret_allow);
        snprintf(ret_allow + used, allow_size - used, "%s%s", used ? ", " : "",
                 strcmp(vx_routes[i].method, "GET") == 0 ? "GET, HEAD" : vx_routes[i].method);
    }
    return NULL;
}
