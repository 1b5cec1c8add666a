/* Opening a device over the table of api.h, its streams, locked memory, and what errors mean. */
#include "device/cuda/internal.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2 }; /* cudaErrorMemoryAllocation */

/* Errors after which nothing works in this process any more: the context is gone, or the GPU is. */
bool cuda_is_sticky(int code) {
    static const int sticky[] = {
        4,   /* driver shutting down */
        46,  /* device unavailable */
        100, /* no device (any more) */
        201, /* invalid context */
        214, /* uncorrectable memory error */
        220, /* uncorrectable link error */
        226, /* contained error */
        700, /* illegal address */
        702, /* launch timeout */
        709, /* context destroyed */
        710, /* device-side assert */
        714, /* hardware stack error */
        715, /* illegal instruction */
        716, /* misaligned address */
        717, /* invalid address space */
        718, /* invalid program counter */
        719, /* launch failure */
        721, /* contained error */
        802, /* system not ready */
        999, /* unknown: an Xid without a name */
    };
    for (size_t i = 0; i < sizeof sticky / sizeof *sticky; i++) {
        if (code == sticky[i]) {
            return true;
        }
    }
    return false;
}

int cuda_fail(const struct cuda_device *d, int code, struct vx_err *err, const char *what) {
    size_t room = 0, total = 0;
    /* cuDNN hides why a launch failed; CUDA repeats an error that stays. */
    int behind = code >= 1000 ? d->api->room(&room, &total) : 0;
    int cause = cuda_is_sticky(behind) ? behind : code;
    const char *text = d->api->error_text(cause);
    if (cuda_is_sticky(cause)) {
        vx_fail(err, VX_E_DEVICE, "device_lost",
                "%s failed on %s: %s (error %d); the process must end, training goes on from its "
                "last checkpoint",
                what, d->info.name, text, cause);
    } else if (cause == OUT_OF_MEMORY) {
        vx_fail(err, VX_E_NOMEM, "device_memory", "%s: %s has no memory left", what, d->info.name);
    } else {
        vx_fail(err, VX_E_DEVICE, NULL, "%s failed on %s: %s (error %d)", what, d->info.name, text,
                cause);
    }
    if (err) {
        err->native = cause;
    }
    return cause == OUT_OF_MEMORY ? VX_E_NOMEM : VX_E_DEVICE;
}

int cuda_enter(const struct cuda_device *d, struct vx_err *err) {
    int code = d->api->enter(d->index);
    return code ? cuda_fail(d, code, err, "making the device current") : VX_OK;
}

static int make_streams(struct cuda_device *d, struct vx_err *err) {
    const struct cuda_api *api = d->api;
    int code = api->stream_create(&d->compute);
    code = code ? code : api->stream_create(&d->transfer);
    code = code ? code : api->stream_create(&d->clock);
    code = code ? code : api->event_create(&d->now);
    return code ? cuda_fail(d, code, err, "making streams") : VX_OK;
}

static bool is_set(const char *variable) {
    const char *value = getenv(variable);
    return value && *value && strcmp(value, "0") != 0;
}

int cuda_device_open(const struct cuda_api *api, const struct vx_device_api *table, int index,
                     const struct vx_device_options *options, struct vx_device **ret,
                     struct vx_err *err) {
    struct cuda_device *d = calloc(1, sizeof *d);
    if (!d) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a device");
    }
    d->base.api = table;
    d->api = api;
    d->index = index;
    d->eager = is_set("VOXELD_CUDA_EAGER");
    bool fast = !options->deterministic || is_set("VOXELD_CUDA_FAST");
    int rc = api->open(index, fast, &d->info, &d->engine, err);
    d->info.varies = fast;
    rc = rc != VX_OK ? rc : make_streams(d, err);
    if (rc != VX_OK) {
        cuda_device_close(&d->base);
        return rc;
    }
    *ret = &d->base;
    return VX_OK;
}

void cuda_device_close(struct vx_device *base) {
    struct cuda_device *d = (struct cuda_device *)base;
    d->api->enter(d->index);
    for (int i = 0; i < d->n_locked; i++) {
        d->api->unlock(d->locked[i]);
    }
    /* cuDNN's context knows the stream it worked on last. */
    d->api->close(d->engine);
    d->api->event_free(d->now);
    d->api->stream_free(d->clock);
    d->api->stream_free(d->transfer);
    d->api->stream_free(d->compute);
    free(d);
}

void cuda_device_info(struct vx_device *base, struct vx_device_info *ret) {
    *ret = ((struct cuda_device *)base)->info;
}

int cuda_use_memory(struct vx_device *base, void *memory, size_t bytes, struct vx_err *err) {
    struct cuda_device *d = (struct cuda_device *)base;
    if (d->n_locked == CUDA_MAX_LOCKED) {
        return vx_fail(err, VX_E_LIMIT, NULL, "%d pieces of memory are locked already",
                       CUDA_MAX_LOCKED);
    }
    int rc = cuda_enter(d, err);
    if (rc != VX_OK) {
        return rc;
    }
    int code = d->api->lock(memory, bytes);
    if (code) {
        return vx_fail(err, VX_E_LIMIT, "memlock",
                       "%zu MiB could not be locked for %s (%s): copies to it take a detour; raise "
                       "the limit on locked memory (ulimit -l, LimitMEMLOCK=)",
                       bytes >> 20, d->info.name, d->api->error_text(code));
    }
    d->locked[d->n_locked++] = memory;
    return VX_OK;
}
