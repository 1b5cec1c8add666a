#include "api/meter.h"
#include "api/request.h"
#include "api/router.h"

#include <stdlib.h>

/* A p99 of 10 ms is the target, so the resolution is finest around it. */
static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5};
#define BOUNDS   (sizeof bounds / sizeof bounds[0])
#define STATUSES 24

struct line {
    struct {
        int status;
        uint64_t n;
    } codes[STATUSES];
    uint64_t buckets[BOUNDS + 1];
    uint64_t n;
    double sum;
};

struct vx_meter {
    struct line *lines; /* one per route, then one for "no route" */
};

struct vx_meter *vx_meter_create(void) {
    struct vx_meter *m = calloc(1, sizeof *m);
    if (m) {
        m->lines = calloc(vx_routes_count + 1, sizeof *m->lines);
    }
    if (m && !m->lines) {
        free(m);
        m = NULL;
    }
    return m;
}

void vx_meter_free(struct vx_meter *m) {
    if (m) {
        free(m->lines);
        free(m);
    }
}

void vx_meter_add(struct vx_meter *m, const struct vx_route *route, int status, double seconds) {
    struct line *line = &m->lines[route ? (size_t)(route - vx_routes) : vx_routes_count];
    for (size_t i = 0; i < STATUSES; i++) {
        if (line->codes[i].status == status || line->codes[i].n == 0) {
            line->codes[i].status = status;
            line->codes[i].n++;
            break;
        }
    }
    if (seconds < 0) {
        return;
    }
    size_t b = 0;
    while (b < BOUNDS && seconds > bounds[b]) {
        b++;
    }
    line->buckets[b]++;
    line->n++;
    line->sum += seconds;
}

static void labels(const struct vx_meter *m, const struct line *line, char *out, size_t size) {
    size_t at = (size_t)(line - m->lines);
    if (at == vx_routes_count) {
        snprintf(out, size, "method=\"\",route=\"\"");
    } else {
        snprintf(out, size, "method=\"%s\",route=\"%s\"", vx_routes[at].method,
                 vx_routes[at].pattern);
    }
}

void vx_meter_write(const struct vx_meter *m, struct vx_buf *out) {
    char who[128];
    vx_buf_puts(out, "# HELP voxeld_http_requests_total Requests answered.\n"
                     "# TYPE voxeld_http_requests_total counter\n");
    for (size_t i = 0; i <= vx_routes_count; i++) {
        const struct line *line = &m->lines[i];
        labels(m, line, who, sizeof who);
        for (size_t c = 0; c < STATUSES && line->codes[c].n; c++) {
            vx_buf_printf(out, "voxeld_http_requests_total{%s,code=\"%d\"} %llu\n", who,
                          line->codes[c].status, (unsigned long long)line->codes[c].n);
        }
    }
    vx_buf_puts(out,
                "# HELP voxeld_http_request_duration_seconds From the headers to the last byte.\n"
                "# TYPE voxeld_http_request_duration_seconds histogram\n");
    for (size_t i = 0; i <= vx_routes_count; i++) {
        const struct line *line = &m->lines[i];
        if (line->n == 0) {
            continue;
        }
        labels(m, line, who, sizeof who);
        uint64_t sum = 0;
        for (size_t b = 0; b < BOUNDS; b++) {
            sum += line->buckets[b];
            vx_buf_printf(out, "voxeld_http_request_duration_seconds_bucket{%s,le=\"%g\"} %llu\n",
                          who, bounds[b], (unsigned long long)sum);
        }
        vx_buf_printf(out, "voxeld_http_request_duration_seconds_bucket{%s,le=\"+Inf\"} %llu\n",
                      who, (unsigned long long)line->n);
        vx_buf_printf(out, "voxeld_http_request_duration_seconds_sum{%s} %.9g\n", who, line->sum);
        vx_buf_printf(out, "voxeld_http_request_duration_seconds_count{%s} %llu\n", who,
                      (unsigned long long)line->n);
    }
}
