/* The memory of a program on the device: one piece, taken when the program is compiled. */
#include "device/cuda/internal.h"

#include "base/err.h"

enum { ALIGNMENT = 256 };

/* What would fit, for people. Memory grows with the batch and with the voxels of a patch. */
static int too_large(const struct cuda_program *p, size_t bytes, size_t room, size_t total,
                     struct vx_err *err) {
    int batch = p->net.batch, fits = (int)((double)batch * (double)room / (double)bytes);
    double gib = 1.0 / (1 << 30);
    if (fits >= 1) {
        return vx_fail(err, VX_E_NOMEM, "device_memory",
                       "%s: this network needs %.1f GiB at batch size %d and %.1f of %.1f GiB are "
                       "free; batch size %d would need about %.1f GiB",
                       p->device->info.name, (double)bytes * gib, batch, (double)room * gib,
                       (double)total * gib, fits, (double)bytes * gib * fits / batch);
    }
    return vx_fail(
        err, VX_E_NOMEM, "device_memory",
        "%s: this network needs %.1f GiB at batch size %d and %.1f of %.1f GiB are free; "
        "one sample alone is too much: a patch of %.0f %% of the voxels would fit",
        p->device->info.name, (double)bytes * gib, batch, (double)room * gib, (double)total * gib,
        100.0 * batch * (double)room / (double)bytes);
}

int cuda_make_arena(struct cuda_program *p, struct vx_err *err) {
    const struct cuda_api *api = p->device->api;
    size_t bytes = 0, room = 0, total = 0;
    int rc = vx_place_spans(p->buffers, p->n_buffers, ALIGNMENT, &bytes, err);
    if (rc != VX_OK) {
        return rc;
    }
    bytes = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    int code = api->room(&room, &total);
    if (code) {
        return cuda_fail(p->device, code, err, "asking for free memory");
    }
    void *arena = NULL;
    if (bytes > room || (code = api->allocate(&arena, bytes)) != 0) {
        if (code && cuda_fail(p->device, code, err, "taking memory") != VX_E_NOMEM) {
            return VX_E_DEVICE;
        }
        return too_large(p, bytes, room, total, err);
    }
    p->arena = arena;
    p->arena_bytes = bytes;
    /* Once: workspaces start zeroed, the rest is written before it is read. */
    code = api->clear(arena, bytes, p->device->compute);
    code = code ? code : api->stream_sync(p->device->compute);
    return code ? cuda_fail(p->device, code, err, "clearing memory") : VX_OK;
}
