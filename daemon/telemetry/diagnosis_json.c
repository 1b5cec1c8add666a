/* Windows and verdicts as the API shows them. */
#include "daemon/telemetry/diagnosis.h"

#include "augment/policy.h"
#include "session/timeline.h"
#include "tune/record.h"

#include <math.h>
#include <string.h>

static void set_real(json_t *obj, const char *key, double value) {
    if (isfinite(value)) {
        json_object_set_new(obj, key, json_real(value));
    }
}

static void set_int(json_t *obj, const char *key, uint64_t value) {
    json_object_set_new(obj, key, json_integer((json_int_t)value));
}

static double share(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static void add_steps(json_t *o, const struct vx_tune_window *w) {
    const struct vx_tune_steps *s = &w->step;
    set_int(o, "steps", s->n);
    if (!s->n) {
        return;
    }
    set_real(o, "step_seconds", s->wall / s->n);
    set_real(o, "step_seconds_p50", s->p50);
    set_real(o, "step_seconds_p95", s->p95);
    set_real(o, "step_seconds_p99", s->p99);
    set_real(o, "loader_wait_ratio", share(s->phase[VX_TUNE_WAIT_LOADER], s->wall));
    set_real(o, "accelerator_utilisation", share(s->phase[VX_TUNE_COMPUTE], s->wall));
    set_real(o, "queue_depth", s->depth);
    json_t *phases = json_object();
    for (uint32_t p = 0; phases && p < VX_TUNE_PHASES; p++) {
        set_real(phases, vx_phase_name(p), s->phase[p]);
    }
    json_object_set_new(o, "phase_seconds", phases);
    /* what the parts of the steps leave of the window: between epochs, and our own error */
    set_real(o, "residual_seconds", w->seconds - s->wall);
}

static void add_loader(json_t *o, const struct vx_tune_window *w) {
    const struct vx_tune_loader *l = &w->loader;
    double n = (double)l->samples, work = l->open + l->read + l->decompress + l->augment;
    set_int(o, "workers", l->workers);
    set_int(o, "samples", l->samples);
    set_real(o, "samples_per_second", share(n, w->seconds));
    set_real(o, "workers_busy_ratio", share(work, work + l->wait_slot));
    if (l->samples) {
        set_real(o, "sample_seconds", work / n);
        set_real(o, "sample_open_seconds", l->open / n);
        set_real(o, "sample_read_seconds", l->read / n);
        set_real(o, "sample_decompress_seconds", l->decompress / n);
        set_real(o, "sample_augment_seconds", l->augment / n);
        set_real(o, "sample_cpu_seconds", l->cpu / n);
        set_real(o, "bytes_per_sample", (double)l->bytes_read / n);
        set_real(o, "opens_per_sample", (double)l->opens / n);
    }
    if (w->have & VX_TUNE_HAVE_SCHEDSTAT) {
        set_real(o, "runqueue_ratio", share(fmin(l->runqueue, fmax(work - l->cpu, 0)), work));
    }
    if (w->have & VX_TUNE_HAVE_IO) {
        set_real(o, "device_bytes_per_second", share((double)l->bytes_device, w->seconds));
    }
}

static void add_host(json_t *o, const struct vx_tune_window *w) {
    const struct vx_tune_host *h = &w->host;
    set_real(o, "cores", h->cores);
    if (w->have & VX_TUNE_HAVE_FOREIGN) {
        set_real(o, "own_cores", h->own_cores);
        set_real(o, "foreign_cores", h->foreign_cores);
    }
    if (w->have & VX_TUNE_HAVE_PSI) {
        set_real(o, "psi_cpu", h->psi_cpu);
        set_real(o, "psi_io", h->psi_io);
        set_real(o, "psi_memory", h->psi_memory);
    }
    if (w->have & VX_TUNE_HAVE_CGROUP) {
        set_real(o, "throttled_ratio", h->throttled);
    }
    if (w->have & VX_TUNE_HAVE_MEMORY) {
        set_int(o, "memory_available_bytes", h->memory_available);
        set_int(o, "memory_limit_bytes", h->memory_limit);
    }
}

json_t *vx_window_json(const struct vx_tune_window *w) {
    json_t *o = json_object();
    if (o) {
        set_real(o, "seconds", w->seconds);
        add_steps(o, w);
        add_loader(o, w);
        add_host(o, w);
    }
    return o;
}

/* --- verdicts --- */

static json_t *evidence_names(uint32_t bits) {
    static const char *const names[] = {"schedstat", "psi",     "io",  "cgroup", "foreign",
                                        "memory",    "storage", "gpu", "gpm"};
    json_t *list = json_array();
    for (size_t i = 0; list && i < sizeof names / sizeof *names; i++) {
        if (bits >> i & 1u) {
            json_array_append_new(list, json_string(names[i]));
        }
    }
    return list;
}

static json_t *action_json(const struct vx_verdict *v) {
    json_t *o = json_pack("{s:s}", "code", vx_action_word(v->action));
    switch (v->action) {
    case VX_ACTION_WORKERS:
    case VX_ACTION_PREFETCH:
    case VX_ACTION_KEEP_OPEN:
    case VX_ACTION_TIER:
        set_real(o, "from", v->from);
        set_real(o, "to", v->to);
        break;
    case VX_ACTION_WAIT:
        set_real(o, "eta_seconds", v->to);
        break;
    default:
        break;
    }
    return o;
}

static json_t *verdict_json(const struct vx_verdict *v, const struct vx_tune_window *w,
                            enum vx_language language) {
    char text[640], advice[320];
    vx_verdict_say(v, w, language, text, sizeof text);
    vx_verdict_advise(v, w, language, advice, sizeof advice);
    json_t *evidence = json_object();
    for (int i = 0; evidence && i < v->n_figures; i++) {
        set_real(evidence, v->figure[i].name, v->figure[i].value);
    }
    return json_pack("{s:s, s:s, s:f, s:s, s:o, s:s, s:f, s:o, s:o}", "code",
                     vx_verdict_word(v->code), "severity", vx_severity_word(v->severity), "cost",
                     v->cost, "text", text, "action", action_json(v), "advice", advice, "gain",
                     v->gain, "evidence", evidence, "lacking", evidence_names(v->lacking));
}

static json_t *transforms_json(const struct vx_diagnosis *d) {
    json_t *o = json_object();
    for (uint32_t t = 0; o && t < VX_T_COUNT; t++) {
        set_real(o, vx_transform_name(t), d->transform_seconds[t]);
    }
    return o;
}

/* What the job may use; limits that do not exist or are not known are left out. */
static json_t *limits_json(const struct vx_diagnosis *d) {
    static const char *const storage[] = {[VX_TUNE_SOLID] = "solid",
                                          [VX_TUNE_ROTATIONAL] = "rotational",
                                          [VX_TUNE_NETWORK] = "network",
                                          [VX_TUNE_MEMORY] = "memory"};
    const struct vx_tune_host *h = &d->window.host;
    json_t *o = json_object();
    if (h->cores > 0) {
        set_real(o, "cores", h->cores);
    }
    if (d->window.have & VX_TUNE_HAVE_MEMORY) {
        set_int(o, "memory_bytes", h->memory_limit);
    }
    if (d->facts.read_limit) {
        set_int(o, "store_read_bytes_per_second", d->facts.read_limit);
    }
    if (d->facts.storage_known) {
        json_object_set_new(o, "store_storage", json_string(storage[d->facts.storage]));
    }
    return o;
}

json_t *vx_diagnosis_json(const struct vx_diagnosis *d, enum vx_language language) {
    json_t *list = json_array();
    bool healthy = d->n_verdicts > 0;
    for (int i = 0; list && i < d->n_verdicts; i++) {
        json_array_append_new(list, verdict_json(&d->verdict[i], &d->window, language));
        healthy = healthy && d->verdict[i].severity < VX_SEVERITY_WARNING;
    }
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "healthy", healthy, "verdicts", list,
                     "window", vx_window_json(&d->window), "transforms", transforms_json(d),
                     "limits", limits_json(d), "evidence", evidence_names(d->window.have), "record",
                     vx_tune_record(&d->window));
}
