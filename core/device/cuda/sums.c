/* Logits of a volume added up on the device. Tiles are cut from its image into the network's input,
 * and their logits added to its sums, around the steps of a run and on the same stream: what the
 * host sends is where the tiles lie. Rules: infer/sliding.h. */
#include "device/cuda/internal.h"

#include "base/err.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 };

struct cuda_sums {
    struct vx_sums base;
    struct cuda_program *program; /* borrowed, outlives the sums */
    int64_t volume[3], voxels;
    int patch[3];
    unsigned char *memory; /* owned, on the device: all of the below */
    float *image, *sums, *importance, *weights;
    int32_t *not_finite;
};

static const struct cuda_tensor *input_of(const struct cuda_sums *s) {
    return &s->program->tensors[s->program->net.input];
}

/* Takes so many bytes of the memory behind *at. */
static void *part(const struct cuda_sums *s, size_t *at, size_t bytes) {
    void *here = s->memory ? s->memory + *at : NULL;
    *at += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return here;
}

/* Places everything; the bytes of all. */
static size_t lay_out(struct cuda_sums *s) {
    size_t at = 0, volume = (size_t)s->voxels * sizeof(float);
    size_t factors = (size_t)(s->patch[0] + s->patch[1] + s->patch[2]) * sizeof(float);
    size_t axes = (size_t)(s->volume[0] + s->volume[1] + s->volume[2]) * sizeof(float);
    s->image = part(s, &at, (size_t)input_of(s)->c * volume);
    s->sums = part(s, &at, (size_t)s->program->net.classes * volume);
    s->importance = part(s, &at, factors);
    s->weights = part(s, &at, axes);
    s->not_finite = part(s, &at, sizeof *s->not_finite);
    return at;
}

static int too_large(struct cuda_program *p, const int64_t volume[3], size_t bytes, size_t room,
                     struct vx_err *err) {
    double mib = 1.0 / (1 << 20);
    struct vx_err own = {0};
    err = err ? err : &own;
    vx_fail(err, VX_E_NOMEM, "device_memory",
            "%s: image and logits of %lld x %lld x %lld voxels need %.1f MiB and %.1f are free",
            p->device->info.name, (long long)volume[0], (long long)volume[1], (long long)volume[2],
            (double)bytes * mib, (double)room * mib);
    if (!p->told_short) {
        p->told_short = true;
        vx_log_warn("cuda", "tiles_added_up_on_host text=\"%s\"", err->text);
    }
    return VX_E_NOMEM;
}

static int take_memory(struct cuda_sums *s, struct vx_err *err) {
    struct cuda_program *p = s->program;
    const struct cuda_api *api = p->device->api;
    size_t bytes = lay_out(s), room = 0, total = 0;
    void *memory = NULL;
    int code = api->room(&room, &total);
    if (code) {
        return cuda_fail(p->device, code, err, "asking for free memory");
    }
    if (bytes > room || (code = api->allocate(&memory, bytes)) != 0) {
        int rc = code ? cuda_fail(p->device, code, err, "taking memory for sums") : VX_E_NOMEM;
        return rc == VX_E_NOMEM ? too_large(p, s->volume, bytes, room, err) : rc;
    }
    s->memory = memory;
    lay_out(s);
    return VX_OK;
}

/* Three arrays, one for each axis, one behind the other. */
static int copy_axes(const struct cuda_sums *s, float *to, const float *const axes[3],
                     const int64_t n[3]) {
    int code = 0;
    for (int a = 0; a < 3 && !code; a++) {
        code = s->program->device->api->copy(to, axes[a], (size_t)n[a] * sizeof *to,
                                             s->program->device->compute);
        to += n[a];
    }
    return code;
}

static int prepare(struct cuda_sums *s, const float *const importance[3], struct vx_err *err) {
    const struct cuda_device *d = s->program->device;
    const int64_t patch[3] = {s->patch[0], s->patch[1], s->patch[2]};
    size_t bytes = (size_t)s->program->net.classes * (size_t)s->voxels * sizeof(float);
    int rc = take_memory(s, err);
    if (rc != VX_OK) {
        return rc;
    }
    int code = d->api->clear(s->sums, bytes, d->compute);
    code = code ? code : copy_axes(s, s->importance, importance, patch);
    code = code ? code : d->api->stream_sync(d->compute);
    return code ? cuda_fail(d, code, err, "preparing sums") : VX_OK;
}

int cuda_sums_begin(struct vx_program *program, const int64_t volume[3],
                    const float *const importance[3], struct vx_sums **ret, struct vx_err *err) {
    struct cuda_program *p = (struct cuda_program *)program;
    if (p->mode != VX_MODE_INFER) {
        return vx_fail(err, VX_E_INVALID, NULL, "logits are added up by an INFER program only");
    }
    int rc = cuda_enter(p->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct cuda_sums *s = calloc(1, sizeof *s);
    if (!s) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for sums");
    }
    s->base.program = program;
    s->program = p;
    s->voxels = volume[0] * volume[1] * volume[2];
    memcpy(s->volume, volume, sizeof s->volume);
    memcpy(s->patch, p->net.tensors[p->net.input].shape + 2, sizeof s->patch);
    rc = prepare(s, importance, err);
    if (rc != VX_OK) {
        cuda_sums_free(&s->base);
        return rc;
    }
    *ret = &s->base;
    return VX_OK;
}

void cuda_sums_free(struct vx_sums *base) {
    struct cuda_sums *s = (struct cuda_sums *)base;
    const struct cuda_device *d = s->program->device;
    if (s->memory) {
        d->api->enter(d->index);
        d->api->stream_sync(d->compute);
        d->api->release(s->memory);
    }
    free(s);
}

int cuda_sums_image(struct vx_sums *base, const float *image, struct vx_err *err) {
    struct cuda_sums *s = (struct cuda_sums *)base;
    const struct cuda_device *d = s->program->device;
    size_t bytes = (size_t)input_of(s)->c * (size_t)s->voxels * sizeof *image;
    int rc = cuda_enter(d, err);
    if (rc != VX_OK) {
        return rc;
    }
    int code = d->api->copy(s->image, image, bytes, d->compute);
    code = code ? code : d->api->stream_sync(d->compute);
    return code ? cuda_fail(d, code, err, "copying an image") : VX_OK;
}

static struct vx_cuda_tile tile_of(const struct cuda_sums *s, const struct vx_tile *tile) {
    struct vx_cuda_tile t;
    memcpy(t.volume, s->volume, sizeof t.volume);
    memcpy(t.start, tile->start, sizeof t.start);
    memcpy(t.patch, s->patch, sizeof t.patch);
    memcpy(t.flip, tile->flip, sizeof t.flip);
    return t;
}

/* The rest of the batch repeats the first tile: what is left from the run before could hold
 * anything. */
static int cut(const struct cuda_sums *s, const struct vx_tile *tiles, int n) {
    const struct cuda_program *p = s->program;
    const struct cuda_tensor *in = input_of(s);
    unsigned char *to = cuda_at(p, &in->value);
    int code = 0;
    for (int i = 0; i < in->n && !code; i++) {
        struct vx_cuda_tile t = tile_of(s, &tiles[i < n ? i : 0]);
        code = p->device->api->cut_tile(&t, s->image, in->c, in->padded, to, p->device->compute);
        to += (size_t)in->voxels * (size_t)in->padded * sizeof(uint16_t);
    }
    return code;
}

static int add(const struct cuda_sums *s, const struct vx_tile *tiles, int n) {
    const struct cuda_program *p = s->program;
    const struct cuda_tensor *out = &p->tensors[p->net.output];
    const unsigned char *from = cuda_at(p, &out->value);
    int code = 0;
    for (int i = 0; i < n && !code; i++) {
        struct vx_cuda_tile t = tile_of(s, &tiles[i]);
        code = p->device->api->add_tile(&t, from, cuda_output_bias(p), out->c, out->padded,
                                        s->importance, s->sums, p->device->compute);
        from += (size_t)out->voxels * (size_t)out->padded * sizeof(uint16_t);
    }
    return code;
}

/* As a run of the program: two may be under way. */
static int start(const struct cuda_sums *s, const struct vx_tile *tiles, int n,
                 const char **ret_name) {
    struct cuda_program *p = s->program;
    const struct cuda_api *api = p->device->api;
    struct CUevent_st *done = p->done[(p->ticket + 1) % 2];
    *ret_name = "waiting for the run before the last";
    int code = p->ticket >= 2 ? api->event_sync(done) : 0;
    *ret_name = "cutting tiles";
    code = code ? code : cut(s, tiles, n);
    code = code ? code : cuda_run_network(p, ret_name);
    if (code) {
        return code;
    }
    *ret_name = "adding up tiles";
    code = add(s, tiles, n);
    return code ? code : api->event_record(done, p->device->compute);
}

int cuda_sums_add(struct vx_sums *base, const struct vx_tile *tiles, int n, struct vx_err *err) {
    struct cuda_sums *s = (struct cuda_sums *)base;
    const char *name = "";
    if (n < 1 || n > input_of(s)->n) {
        return vx_fail(err, VX_E_INVALID, NULL, "%d tiles for a batch of %d", n, input_of(s)->n);
    }
    int rc = cuda_enter(s->program->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    int code = start(s, tiles, n, &name);
    if (code) {
        return cuda_fail(s->program->device, code, err, name);
    }
    s->program->ticket++;
    return VX_OK;
}

int cuda_sums_read(struct vx_sums *base, const float *const weights[3], float passes, float *dst,
                   bool *ret_finite, struct vx_err *err) {
    struct cuda_sums *s = (struct cuda_sums *)base;
    const struct cuda_device *d = s->program->device;
    int classes = s->program->net.classes;
    size_t bytes = (size_t)classes * (size_t)s->voxels * sizeof *dst;
    int32_t bad = 0;
    int rc = cuda_enter(d, err);
    if (rc != VX_OK) {
        return rc;
    }
    int code = d->api->clear(s->not_finite, sizeof *s->not_finite, d->compute);
    code = code ? code : copy_axes(s, s->weights, weights, s->volume);
    code = code ? code
                : d->api->divide_tiles(s->volume, classes, s->weights, passes, s->sums,
                                       s->not_finite, d->compute);
    code = code ? code : d->api->copy(dst, s->sums, bytes, d->compute);
    code = code ? code : d->api->copy(&bad, s->not_finite, sizeof bad, d->compute);
    /* Waits after a failure too: a copy under way may still write here. */
    int end = d->api->stream_sync(d->compute);
    code = code ? code : end;
    *ret_finite = bad == 0;
    return code ? cuda_fail(d, code, err, "reading sums") : VX_OK;
}
