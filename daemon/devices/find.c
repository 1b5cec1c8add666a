/* See find.h. */
#include "daemon/devices/find.h"

#include "base/err.h"
#include "base/log.h"
#include "daemon/children.h"
#include "daemon/config.h"
#include "daemon/devices/list.h"
#include "daemon/evidence/gpu.h"
#include "daemon/telemetry/telemetry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define KILLED_S 15 /* children.h kills after 10 */

struct probe {
    struct vx_found_devices *all;
    struct vx_child *child; /* NULL: ended */
    struct vx_err err;      /* code 0: it can be used */
};

struct vx_found_devices {
    struct vx_device_list list;
    struct probe probes[VX_DEVICES_MAX]; /* as list has them until settle */
    uv_timer_t timer;
    unsigned pending, seconds;
};

int vx_device_probe(struct vx_children *children, const struct vx_host_device *device,
                    void (*done)(void *ctx, const struct vx_err *err), void *ctx,
                    struct vx_child **ret, struct vx_err *err) {
    char verb[] = "probe", device_option[] = "--device", name[] = "cuda:0", gpu[] = "--gpu",
         uuid[sizeof device->card->uuid], what[32];
    snprintf(uuid, sizeof uuid, "%s", device->card->uuid);
    snprintf(what, sizeof what, "looking at %s", device->name);
    char *args[] = {verb, device_option, name, gpu, uuid, NULL};
    struct vx_child_events events = {.ended = done, .ctx = ctx};
    return vx_children_spawn(children, what, args, &events, ret, err);
}

static void on_probed(void *ctx, const struct vx_err *err) {
    struct probe *p = ctx;
    p->child = NULL;
    if (err) {
        p->err = *err;
    }
    p->all->pending--;
}

static void on_second(uv_timer_t *timer) {
    struct vx_found_devices *f = timer->data;
    f->seconds++;
    for (uint32_t i = 0; f->seconds == VX_PROBE_S && i < f->list.n; i++) {
        if (f->probes[i].child) {
            vx_child_stop(f->probes[i].child);
        }
    }
}

static void probe_all(struct vx_found_devices *f, uv_loop_t *loop, struct vx_children *children) {
    for (uint32_t i = 0; i < f->list.n; i++) {
        struct probe *p = &f->probes[i];
        p->all = f;
        if (f->list.v[i].kind == VX_KIND_CUDA &&
            vx_device_probe(children, &f->list.v[i], on_probed, p, &p->child, &p->err) == VX_OK) {
            f->pending++;
        }
    }
    if (f->pending == 0) {
        return;
    }
    uv_timer_init(loop, &f->timer);
    f->timer.data = f;
    uv_timer_start(&f->timer, on_second, 1000, 1000);
    while (f->pending > 0 && f->seconds < VX_PROBE_S + KILLED_S) {
        uv_run(loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&f->timer, NULL);
    for (int i = 0; i < 2; i++) {
        uv_run(loop, UV_RUN_NOWAIT); /* what closes is closed then */
    }
}

/* A missing module is the same trouble for every GPU. */
static bool module_missing(const struct vx_err *err) {
    return strncmp(err->reason, "device_module", 13) == 0 ||
           strcmp(err->reason, "abi_mismatch") == 0;
}

/* Drops what did not open; false where nothing is left. */
static bool settle(struct vx_found_devices *f, const struct vx_devices_input *in) {
    bool some = true;
    uint32_t n = f->list.n;
    for (uint32_t i = n; i-- > 0;) {
        const struct probe *p = &f->probes[i];
        char why[700];
        if (p->child) {
            snprintf(why, sizeof why, "%s could not be opened within %d s", f->list.v[i].name,
                     VX_PROBE_S);
        } else if (module_missing(&p->err)) {
            snprintf(why, sizeof why, "GPUs are not used: %s", p->err.text);
        } else {
            snprintf(why, sizeof why, "%s cannot be used: %s", f->list.v[i].name, p->err.text);
        }
        if (p->child || p->err.code) {
            some = vx_devices_drop(in, &f->list, i, why);
        }
    }
    return some;
}

static void say(const struct vx_device_list *l) {
    char names[VX_DEVICES_MAX * 18] = "";
    for (uint32_t i = 0; i < l->n; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? " " : "", l->v[i].name);
    }
    vx_log_notice("devices", "listed devices=\"%s\"", names);
    if (l->note[0]) {
        vx_log_warn("devices", "left_out text=\"%s\"", l->note);
    }
}

int vx_devices_find(uv_loop_t *loop, const struct vx_config *config, struct vx_telemetry *telemetry,
                    struct vx_children *children, struct vx_found_devices **ret,
                    struct vx_err *err) {
    struct vx_found_devices *f = calloc(1, sizeof *f);
    if (!f) {
        return vx_fail(err, VX_E_NOMEM, NULL, "listing the devices");
    }
    const struct vx_gpu_card *cards[64];
    struct vx_devices_input in = {.setting = config->devices,
                                  .cpu_jobs = (unsigned)config->cpu_jobs,
                                  .cards = cards,
                                  .visible = getenv("CUDA_VISIBLE_DEVICES"),
                                  .order = getenv("CUDA_DEVICE_ORDER")};
    for (; in.n_cards < vx_telemetry_gpus(telemetry) && in.n_cards < 64; in.n_cards++) {
        cards[in.n_cards] = vx_telemetry_gpu_card(telemetry, in.n_cards);
    }
    int rc = vx_devices_list(&in, &f->list, err);
    if (rc != VX_OK) {
        free(f);
        return rc;
    }
    probe_all(f, loop, children);
    if (!settle(f, &in)) {
        rc = vx_fail(err, VX_E_NOT_FOUND, "no_device", "devices: none of \"%.100s\" is there: %s",
                     config->devices, f->list.note);
        free(f); /* the process ends */
        return rc;
    }
    say(&f->list);
    *ret = f;
    return VX_OK;
}

const struct vx_device_list *vx_found_devices(const struct vx_found_devices *f) {
    return &f->list;
}

void vx_found_devices_free(struct vx_found_devices *f) {
    free(f);
}
