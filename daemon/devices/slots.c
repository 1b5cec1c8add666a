/* The devices as the dispatch uses them: who gets which, what becomes of one that fails, and of the
 * job it failed under. Inside the dispatch (dispatch_internal.h). */
#include "daemon/dispatch_internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/children.h"
#include "daemon/config.h"
#include "daemon/devices/find.h"
#include "daemon/evidence/gpu.h"
#include "daemon/post.h"
#include "daemon/telemetry/telemetry.h"
#include "daemon/worker_thread.h"

#include <stdio.h>
#include <string.h>

#define WATCH_EVERY_NS 250000000ull
#define SECOND_NS      1000000000ull

static uint64_t pause_ns(const struct vx_dispatch *d) {
    int64_t seconds = d->o.config->device_retry;
    return (uint64_t)(seconds ? seconds : VX_DEVICE_RETRY_S) * SECOND_NS;
}

static void say_fault(const struct device_slot *slot, const char *what) {
    const struct vx_health *h = &slot->health;
    uint64_t now = vx_now_ns();
    vx_log_err("devices", "%s device=%s uuid=%s code=%s retry_in_s=%llu text=\"%s\"", what,
               slot->device->name, slot->device->card ? slot->device->card->uuid : "", h->code,
               (unsigned long long)(h->again_ns > now
                                        ? (h->again_ns - now + SECOND_NS - 1) / SECOND_NS
                                        : 0),
               h->text);
}

/* --- jobs onto devices --- */

static void then_run(struct vx_dispatch *d, struct task *t, int rc) {
    struct vx_err err = {0};
    t->worker->reserved = false;
    if (rc != VX_OK) {
        dispatch_drop(d, t); /* cancelled while it waited */
        vx_dispatch_kick(d);
        return;
    }
    rc = vx_worker_thread_start(t->worker->thread, t->s.id, t->resolved.brief_path, &err);
    if (rc != VX_OK) {
        dispatch_leave(d, t, VX_JOB_FAILED, &err, NULL);
    } else if (t->cancelled) {
        vx_worker_thread_cancel(t->worker->thread);
    } else if (d->draining) {
        vx_worker_thread_stop(t->worker->thread);
    } else if (t->worker->health.unhealthy) { /* since it was chosen */
        vx_worker_thread_lose(t->worker->thread, t->worker->health.code, t->worker->health.text);
    }
}

void dispatch_fill(struct vx_dispatch *d) {
    for (unsigned i = 0; i < d->n_workers; i++) {
        struct device_slot *slot = &d->workers[i];
        if (slot->health.unhealthy || slot->reserved || vx_worker_thread_job(slot->thread) != 0) {
            continue;
        }
        struct vx_sched_task view[DISPATCH_MAX_TASKS];
        size_t n = dispatch_view(d, view);
        int best = vx_sched_next_run(view, n, 1u << i);
        if (best < 0) {
            continue;
        }
        struct task *t = d->tasks[best];
        t->s.stage = VX_TASK_RUNNING;
        t->worker = slot;
        slot->reserved = true;
        dispatch_change(d, t->s.id, VX_JOB_RUNNING, "starting", NULL, NULL, then_run);
    }
}

void dispatch_session_ended(void *ctx, struct vx_worker_thread *worker, int64_t job_id,
                            const struct vx_err *lost) {
    struct vx_dispatch *d = ctx;
    for (unsigned i = 0; i < d->n_workers; i++) {
        struct device_slot *slot = &d->workers[i];
        if (slot->thread != worker) {
            continue;
        }
        if (!lost) {
            vx_health_did_well(&slot->health);
        } else if (!slot->health.unhealthy) { /* else it was seen before the job was told */
            vx_health_fault(&slot->health, lost->reason, lost->text, vx_now_ns(), pause_ns(d));
            say_fault(slot, "unhealthy");
        }
    }
    struct task *t = dispatch_find(d, job_id);
    if (t) {
        dispatch_drop(d, t);
    }
    vx_dispatch_kick(d);
}

/* --- health --- */

static void on_probed(void *ctx, const struct vx_err *err) {
    struct device_slot *slot = ctx;
    slot->probe = NULL;
    if (err) {
        vx_health_fault(&slot->health, err->reason, err->text, vx_now_ns(), pause_ns(slot->d));
        say_fault(slot, "still_unhealthy");
    } else if (!slot->health.lost) {
        vx_health_tried(&slot->health);
        vx_log_notice("devices", "healthy device=%s uuid=%s", slot->device->name,
                      slot->device->card->uuid);
    }
    vx_dispatch_kick(slot->d);
}

static void try_again(struct device_slot *slot, uint64_t now) {
    struct vx_err err = {0};
    slot->probe_ns = now;
    if (vx_device_probe(slot->d->o.children, slot->device, on_probed, slot, &slot->probe, &err) !=
        VX_OK) {
        slot->health.again_ns = now + pause_ns(slot->d);
        vx_log_warn("devices", "not_tried device=%s text=\"%s\"", slot->device->name, err.text);
    }
}

static void watch(struct device_slot *slot, uint64_t now) {
    struct vx_gpu look;
    vx_telemetry_gpu(slot->d->o.telemetry, slot->device->gpu, &look);
    if (vx_health_look(&slot->health, &look, now, pause_ns(slot->d))) {
        say_fault(slot, "unhealthy");
        if (vx_worker_thread_job(slot->thread) != 0) {
            vx_worker_thread_lose(slot->thread, slot->health.code, slot->health.text);
        }
    }
    if (slot->probe && now - slot->probe_ns > VX_PROBE_S * SECOND_NS) {
        slot->probe_ns = now;
        vx_child_stop(slot->probe);
    } else if (!slot->probe && vx_worker_thread_job(slot->thread) == 0 &&
               vx_health_due(&slot->health, now)) {
        try_again(slot, now);
    }
}

/* --- why jobs wait --- */

struct reason {
    int64_t id;
    char code[48], text[500];
};

static int reason_op(struct vx_db *db, void *arg, struct vx_err *err) {
    const struct reason *r = arg;
    return vx_db_job_waits(db, r->id, r->code, r->text, err);
}

static void reason_done(void *arg, int rc, const struct vx_err *err) {
    struct reason *r = arg;
    if (rc != VX_OK) {
        vx_log_warn("dispatch", "store_failed job=%lld text=\"%s\"", (long long)r->id, err->text);
    }
    free(r);
}

/* Code and words where no device that the task may use can be had for now; else both empty. */
static void why_waiting(const struct vx_dispatch *d, const struct task *t, struct reason *r) {
    struct vx_buf words = VX_BUF_INIT;
    bool any = false;
    for (unsigned i = 0; i < d->n_workers; i++) {
        const struct device_slot *slot = &d->workers[i];
        if (t->s.devices >> i & 1) {
            any = any || !slot->health.unhealthy;
            vx_buf_printf(&words, "%s%s (%s)", words.len ? ", " : "", slot->device->name,
                          slot->health.text);
        }
    }
    if (t->s.devices == VX_DEVICES_NOWHERE) {
        snprintf(r->code, sizeof r->code, "no_device");
        snprintf(r->text, sizeof r->text,
                 "it waits for device \"%s\", which this daemon does not have; GET /v1/devices "
                 "lists those there are",
                 t->wants);
    } else if (!any) {
        snprintf(r->code, sizeof r->code, "no_healthy_device");
        snprintf(r->text, sizeof r->text, "it waits for a healthy device: %s",
                 words.failed ? "there is none" : words.data);
    }
    vx_buf_release(&words);
}

static void explain(struct vx_dispatch *d, struct task *t) {
    struct reason now = {.id = t->s.id};
    why_waiting(d, t, &now);
    uint64_t digest = now.text[0] ? 1469598103934665603ull : 0; /* FNV-1a */
    for (const char *p = now.text; *p; p++) {
        digest = (digest ^ (unsigned char)*p) * 1099511628211ull;
    }
    struct reason *r = digest != t->said ? malloc(sizeof *r) : NULL;
    if (r) {
        *r = now;
        t->said = digest;
        vx_post_store(d->o.post, d->o.store, reason_op, r, reason_done);
    }
}

void dispatch_watch(struct vx_dispatch *d) {
    uint64_t now = vx_now_ns();
    if (now - d->watched_ns < WATCH_EVERY_NS) {
        return;
    }
    d->watched_ns = now;
    for (unsigned i = 0; i < d->n_workers; i++) {
        if (d->workers[i].device->kind == VX_KIND_CUDA) {
            watch(&d->workers[i], now);
        }
    }
    for (size_t i = 0; i < d->n_tasks; i++) {
        if (d->tasks[i]->s.stage == VX_TASK_READY) {
            explain(d, d->tasks[i]);
        }
    }
}

/* --- from outside --- */

bool vx_dispatch_seat(const struct vx_dispatch *d, unsigned index, struct vx_dispatch_seat *ret) {
    if (index >= d->n_workers) {
        return false;
    }
    const struct device_slot *slot = &d->workers[index];
    *ret =
        (struct vx_dispatch_seat){slot->device, &slot->health, vx_worker_thread_job(slot->thread)};
    return true;
}
