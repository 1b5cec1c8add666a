/* See show.h. */
#include "daemon/devices/show.h"

#include "base/budget.h"
#include "base/buf.h"
#include "daemon/app.h"
#include "daemon/devices/health.h"
#include "daemon/devices/list.h"
#include "daemon/dispatch.h"
#include "daemon/evidence/gpu.h"
#include "daemon/telemetry/telemetry.h"

#include <stdio.h>

static json_t *cpu_json(const struct vx_app *app) {
    struct vx_memory memory = {0};
    vx_budget_memory("", &memory);
    return json_pack("{s:s, s:s, s:n, s:n, s:i, s:f, s:I, s:I}", "kind", "cpu", "model",
                     app->cpu_model, "uuid", "compute_capability", "cores", app->cores,
                     "utilisation", vx_telemetry_cpu(app->telemetry), "memory_bytes",
                     (json_int_t)memory.total_bytes, "memory_available_bytes",
                     (json_int_t)memory.available_bytes);
}

/* What the driver does not say is null. */
static json_t *gpu_json(const struct vx_app *app, const struct vx_host_device *d) {
    const struct vx_gpu_card *c = d->card;
    struct vx_gpu look;
    char capability[16];
    vx_telemetry_gpu(app->telemetry, d->gpu, &look);
    snprintf(capability, sizeof capability, "%d.%d", c->major, c->minor);
    json_t *o = json_pack("{s:s, s:s, s:s}", "kind", "cuda", "model", c->name, "uuid", c->uuid);
    json_object_set_new(o, "compute_capability", c->major ? json_string(capability) : json_null());
    json_object_set_new(o, "memory_bytes",
                        c->memory_bytes ? json_integer((json_int_t)c->memory_bytes) : json_null());
    json_object_set_new(o, "memory_available_bytes",
                        look.has & VX_GPU_MEMORY ? json_integer((json_int_t)look.memory_free)
                                                 : json_null());
    json_object_set_new(o, "utilisation",
                        look.has & VX_GPU_UTILISATION ? json_real(look.utilisation) : json_null());
    return o;
}

json_t *vx_devices_json(const struct vx_app *app) {
    json_t *list = json_array();
    struct vx_dispatch_seat s;
    for (unsigned i = 0; vx_dispatch_seat(app->dispatch, i, &s); i++) {
        const struct vx_health *h = s.health;
        const char *state = h->unhealthy ? "unhealthy" : s.job ? "busy" : "idle";
        json_t *o = s.device->kind == VX_KIND_CPU ? cpu_json(app) : gpu_json(app, s.device);
        json_object_set_new(o, "name", json_string(s.device->name));
        json_object_set_new(o, "state", json_string(state));
        json_object_set_new(o, "reason",
                            h->unhealthy
                                ? json_pack("{s:s, s:s}", "code", h->code, "message", h->text)
                                : json_null());
        json_object_set_new(o, "job", s.job ? json_integer(s.job) : json_null());
        json_array_append_new(list, o);
    }
    return list;
}

static void write_family(const struct vx_app *app, struct vx_buf *out, const char *name,
                         bool faults) {
    struct vx_dispatch_seat s;
    for (unsigned i = 0; vx_dispatch_seat(app->dispatch, i, &s); i++) {
        vx_buf_printf(out, "%s{device=\"%s\",uuid=\"%s\"} %u\n", name, s.device->name,
                      s.device->card ? s.device->card->uuid : "",
                      faults ? s.health->faults : !s.health->unhealthy);
    }
}

void vx_devices_metrics(const struct vx_app *app, struct vx_buf *out) {
    vx_buf_puts(out, "# HELP voxeld_device_healthy 1 where the device may be given jobs.\n"
                     "# TYPE voxeld_device_healthy gauge\n");
    write_family(app, out, "voxeld_device_healthy", false);
    vx_buf_puts(out, "# HELP voxeld_device_faults_total Times that the device failed.\n"
                     "# TYPE voxeld_device_faults_total counter\n");
    write_family(app, out, "voxeld_device_faults_total", true);
}
