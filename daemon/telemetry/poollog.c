#include "daemon/telemetry/poollog.h"

#include "daemon/evidence/process.h"

#include <string.h>

#define LEAST_BYTES_PER_HOUR 10e6

static bool alive(const struct vx_worker_record *r) {
    return r->pid > 0 && r->state != VX_WORKER_NONE && r->state != VX_WORKER_LEFT &&
           r->state != VX_WORKER_FAILED;
}

/* What grew since the last look; counters of a record that went back are of another life. */
static uint64_t grown(uint64_t now, uint64_t before) {
    return now > before ? now - before : 0;
}

static void add_work(struct vx_pool_sums *sum, const struct vx_worker_record *now,
                     const struct vx_worker_record *old) {
    sum->samples += grown(now->samples, old->samples);
    sum->opens += grown(now->opens, old->opens);
    sum->bytes_read += grown(now->bytes_read, old->bytes_read);
    sum->major_faults += grown(now->major_faults, old->major_faults);
    uint64_t opening = grown(now->open_ns, old->open_ns);
    sum->open_ns += opening;
    sum->read_ns += grown(grown(now->read_ns, old->read_ns), opening);
    sum->decompress_ns += grown(now->decompress_ns, old->decompress_ns);
    for (int t = 0; t < VX_TIMELINE_TRANSFORMS; t++) {
        uint64_t ns = grown(now->augment_ns[t], old->augment_ns[t]);
        sum->transform_ns[t] += ns;
        sum->augment_ns += ns;
    }
    sum->wait_ns += grown(now->wait_ns, old->wait_ns);
    sum->cpu_ns += grown(now->cpu_ns, old->cpu_ns);
}

static void look_at(struct vx_poollog *log, uint32_t w, const struct vx_timeline *timeline,
                    const char *root) {
    struct vx_worker_record now;
    if (!vx_timeline_worker(timeline, w, &now) || now.state == VX_WORKER_NONE) {
        return;
    }
    if (now.pid != log->seen[w].pid) {
        memset(&log->seen[w], 0, sizeof log->seen[w]);
        log->seen[w].pid = now.pid;
    }
    add_work(&log->now, &now, &log->seen[w].record);
    log->seen[w].record = now;
    if (!alive(&now)) {
        return;
    }
    struct vx_process_waits waits;
    vx_process_waits(root, now.pid, &waits);
    log->now.runqueue_ns += grown(waits.runqueue_ns, log->seen[w].runqueue_ns);
    log->now.bytes_device += grown(waits.device_bytes, log->seen[w].device_bytes);
    log->seen[w].runqueue_ns = waits.runqueue_ns;
    log->seen[w].device_bytes = waits.device_bytes;
    log->now.has_runqueue = log->now.has_runqueue && waits.has_runqueue;
    log->now.has_device = log->now.has_device && waits.has_device;
    log->now.rss_anon += now.rss_anon;
    log->now.workers++;
}

static void follow_memory(struct vx_poollog *log) {
    if (log->same.workers != log->now.workers || log->same.trainer != log->trainer) {
        log->memory = (struct vx_trend){0};
        log->same.workers = log->now.workers;
        log->same.trainer = log->trainer;
    }
    vx_trend_add(&log->memory, log->now.ns, (double)(log->now.rss_anon + log->now.trainer_anon));
}

void vx_poollog_look(struct vx_poollog *log, const struct vx_timeline *timeline, const char *root,
                     uint64_t now_ns) {
    log->now.ns = now_ns;
    log->now.rss_anon = log->now.workers = 0;
    log->now.trainer_anon = vx_process_memory(root, log->trainer);
    log->now.has_runqueue = log->now.has_device = true;
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        look_at(log, w, timeline, root);
    }
    log->now.has_runqueue = log->now.has_runqueue && log->now.workers > 0;
    log->now.has_device = log->now.has_device && log->now.workers > 0;
    log->v[log->n++ % VX_POOLLOG_LOOKS] = log->now;
    follow_memory(log);
}

/* The last look at or before ns, else the oldest there is; NULL in an empty log. */
static const struct vx_pool_sums *look_before(const struct vx_poollog *log, uint64_t ns) {
    uint64_t oldest = log->n > VX_POOLLOG_LOOKS ? log->n - VX_POOLLOG_LOOKS : 0;
    for (uint64_t i = log->n; i > oldest; i--) {
        const struct vx_pool_sums *s = &log->v[(i - 1) % VX_POOLLOG_LOOKS];
        if (s->ns <= ns) {
            return s;
        }
    }
    return log->n ? &log->v[oldest % VX_POOLLOG_LOOKS] : NULL;
}

bool vx_poollog_window(const struct vx_poollog *log, uint64_t from_ns, uint64_t to_ns,
                       struct vx_tune_loader *ret, double *ret_seconds, uint32_t *ret_have) {
    const struct vx_pool_sums *a = look_before(log, from_ns), *b = look_before(log, to_ns);
    if (!a || !b || a == b) {
        return false;
    }
    *ret_seconds = (double)(b->ns - a->ns) * 1e-9;
    *ret_have = (a->has_runqueue && b->has_runqueue ? VX_TUNE_HAVE_SCHEDSTAT : 0u) |
                (a->has_device && b->has_device ? VX_TUNE_HAVE_IO : 0u);
    ret->workers = b->workers;
    ret->samples = b->samples - a->samples;
    ret->open = (double)(b->open_ns - a->open_ns) * 1e-9;
    ret->read = (double)(b->read_ns - a->read_ns) * 1e-9;
    ret->decompress = (double)(b->decompress_ns - a->decompress_ns) * 1e-9;
    ret->augment = (double)(b->augment_ns - a->augment_ns) * 1e-9;
    ret->wait_slot = (double)(b->wait_ns - a->wait_ns) * 1e-9;
    ret->cpu = (double)(b->cpu_ns - a->cpu_ns) * 1e-9;
    ret->runqueue = (double)(b->runqueue_ns - a->runqueue_ns) * 1e-9;
    ret->opens = b->opens - a->opens;
    ret->bytes_read = b->bytes_read - a->bytes_read;
    ret->bytes_device = b->bytes_device - a->bytes_device;
    ret->major_faults = b->major_faults - a->major_faults;
    return true;
}

void vx_poollog_transforms(const struct vx_poollog *log, uint64_t from_ns, uint64_t to_ns,
                           double ret[VX_TIMELINE_TRANSFORMS]) {
    const struct vx_pool_sums *a = look_before(log, from_ns), *b = look_before(log, to_ns);
    uint64_t samples = a && b ? b->samples - a->samples : 0;
    for (int t = 0; t < VX_TIMELINE_TRANSFORMS; t++) {
        ret[t] = samples
                     ? (double)(b->transform_ns[t] - a->transform_ns[t]) * 1e-9 / (double)samples
                     : 0;
    }
}

double vx_poollog_slope(const struct vx_poollog *log) {
    double growth = vx_trend_growth(&log->memory, NULL);
    return growth >= LEAST_BYTES_PER_HOUR ? growth : 0;
}
