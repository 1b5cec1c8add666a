#include "daemon/bench/settings.h"

#include "base/err.h"
#include "base/own.h"

#include <stddef.h>

static const struct {
    const char *key;
    size_t offset;
} reals[] = {
    {"step_ms", offsetof(struct vx_bench_settings, step_ms)},
    {"spike_every", offsetof(struct vx_bench_settings, spike_every)},
    {"spike_ms", offsetof(struct vx_bench_settings, spike_ms)},
    {"step_growth", offsetof(struct vx_bench_settings, step_growth)},
    {"leak_kib", offsetof(struct vx_bench_settings, leak_kib)},
    {"warm_seconds", offsetof(struct vx_bench_settings, warm_seconds)},
    {"seconds", offsetof(struct vx_bench_settings, seconds)},
    {"sample_ms", offsetof(struct vx_bench_settings, sample_ms)},
    {"sample_cpu_ms", offsetof(struct vx_bench_settings, sample_cpu_ms)},
};

int vx_bench_settings_read(const json_t *json, struct vx_bench_settings *ret, struct vx_err *err) {
    struct vx_bench_settings s = {.synthetic = json_is_true(json_object_get(json, "synthetic")),
                                  .cold = json_is_true(json_object_get(json, "cold")),
                                  .nearer = json_is_true(json_object_get(json, "nearer")),
                                  .costs = json_is_true(json_object_get(json, "costs"))};
    for (size_t i = 0; i < VX_COUNTOF(reals); i++) {
        const json_t *v = json_object_get(json, reals[i].key);
        double x = v ? json_number_value(v) : 0;
        if ((v && !json_is_number(v)) || x < 0) {
            return vx_fail(err, VX_E_CORRUPT, "brief_invalid", "bench.%s is no time", reals[i].key);
        }
        *(double *)((char *)&s + reals[i].offset) = x;
    }
    *ret = s;
    return VX_OK;
}

json_t *vx_bench_settings_write(const struct vx_bench_settings *s) {
    json_t *json = json_pack("{s:b, s:b, s:b, s:b}", "synthetic", (int)s->synthetic, "cold",
                             (int)s->cold, "nearer", (int)s->nearer, "costs", (int)s->costs);
    for (size_t i = 0; json && i < VX_COUNTOF(reals); i++) {
        double x = *(const double *)((const char *)s + reals[i].offset);
        json_object_set_new(json, reals[i].key, json_real(x));
    }
    return json;
}
