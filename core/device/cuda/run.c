/* Running a program. A run's inputs go over the bus on the transfer stream while the run before is
 * computed; its result comes back into page-locked memory, read when the caller asks for it. The
 * first run puts step by step on the compute stream, the second is captured, and from then on a run
 * is one launch. */
#include "device/cuda/internal.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <string.h>

/* A slot is refilled when the run before the last has taken its inputs out of it. */
static int fill_slot(struct cuda_program *p, struct cuda_slot *slot,
                     const struct vx_run_input *in) {
    const struct cuda_api *api = p->device->api;
    const struct cuda_tensor *t = &p->tensors[p->net.input];
    struct CUstream_st *transfer = p->device->transfer;
    size_t image = (size_t)t->c * (size_t)t->voxels * sizeof(float);
    size_t label = (size_t)t->voxels * sizeof(int16_t);
    int code = p->ticket >= 2 ? api->event_wait(transfer, slot->consumed) : 0;
    for (int i = 0; i < t->n && !code; i++) {
        char *to = cuda_at(p, &slot->images);
        code = api->copy(to + (size_t)i * image, in->images[i], image, transfer);
        if (!code && p->mode != VX_MODE_INFER) {
            to = cuda_at(p, &slot->labels);
            code = api->copy(to + (size_t)i * label, in->labels[i], label, transfer);
        }
    }
    return code ? code : api->event_record(slot->copied, transfer);
}

/* From the slot into the arena, on the compute stream. */
static int load_slot(struct cuda_program *p, struct cuda_slot *slot) {
    const struct cuda_api *api = p->device->api;
    const struct cuda_tensor *t = &p->tensors[p->net.input];
    struct CUstream_st *compute = p->device->compute;
    int code = api->event_wait(compute, slot->copied);
    code = code ? code : api->clear(cuda_at(p, &p->result), sizeof(struct vx_cuda_result), compute);
    code = code ? code
                : api->load_images(cuda_at(p, &slot->images), t->c * t->voxels, t->n, t->c,
                                   t->padded, t->voxels, cuda_tensor_at(p, &t->value), compute);
    if (!code && p->mode != VX_MODE_INFER) {
        code = cuda_load_targets(p, slot);
    }
    return code ? code : api->event_record(slot->consumed, compute);
}

static int run_steps(struct cuda_program *p, const char **ret_name) {
    for (p->step = 0; p->step < p->n_steps; p->step++) {
        int code = p->steps[p->step].run(p, p->steps[p->step].data);
        if (code) {
            *ret_name = p->steps[p->step].name;
            return code;
        }
    }
    return 0;
}

/* A graph that cannot be made costs launches, not the training. */
static void capture(struct cuda_program *p) {
    const struct cuda_api *api = p->device->api;
    const char *name = "the end of the graph";
    int code = api->capture_begin(p->device->compute);
    if (!code) {
        code = run_steps(p, &name);
        int end = api->capture_end(p->device->compute, &p->graph);
        code = code ? code : end;
    }
    if (code) {
        if (p->graph) {
            api->graph_free(p->graph);
        }
        p->graph = NULL;
        p->no_graph = true;
        vx_log_warn("cuda", "no_graph at=\"%s\" code=%d text=\"%s\"", name, code,
                    api->error_text(code));
    }
}

int cuda_run_network(struct cuda_program *p, const char **ret_name) {
    if (p->ticket > 0 && !p->device->eager && !p->no_graph && !p->graph) {
        capture(p);
    }
    *ret_name = "launching the graph";
    return p->graph ? p->device->api->graph_launch(p->graph, p->device->compute)
                    : run_steps(p, ret_name);
}

static int start(struct cuda_program *p, const struct vx_run_input *in, const char **ret_name) {
    const struct cuda_api *api = p->device->api;
    struct CUstream_st *compute = p->device->compute;
    int parity = (int)((p->ticket + 1) % 2);
    struct cuda_mail *mail = &p->mail[parity];
    *ret_name = "waiting for the run before the last";
    int code = p->ticket >= 2 ? api->event_sync(p->done[parity]) : 0;
    *ret_name = "copying inputs";
    code = code ? code : fill_slot(p, &p->slots[parity], in);
    if (!code && p->mode == VX_MODE_TRAIN) {
        mail->rate = in->learning_rate;
        code = api->copy(cuda_at(p, &p->rate), &mail->rate, sizeof mail->rate, compute);
    }
    code = code ? code : load_slot(p, &p->slots[parity]);
    code = code ? code : cuda_run_network(p, ret_name);
    if (code) {
        return code;
    }
    *ret_name = "copying the result";
    code = api->copy(&mail->result, cuda_at(p, &p->result), sizeof mail->result, compute);
    return code ? code : api->event_record(p->done[parity], compute);
}

int cuda_run(struct vx_program *base, const struct vx_run_input *in, uint64_t *ret_ticket,
             struct vx_err *err) {
    struct cuda_program *p = (struct cuda_program *)base;
    if (p->mode != VX_MODE_INFER && !in->labels) {
        return vx_fail(err, VX_E_INVALID, NULL, "this program needs labels");
    }
    int rc = cuda_enter(p->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    const char *name = "";
    int code = start(p, in, &name);
    if (code) {
        return cuda_fail(p->device, code, err, name);
    }
    *ret_ticket = ++p->ticket;
    return VX_OK;
}

/* When the run ended, by this host's clock: now, less the time since then by the device's. */
static int ended_at(const struct cuda_program *p, struct CUevent_st *done, uint64_t *ret_ns) {
    const struct cuda_device *d = p->device;
    float ms = 0;
    int code = d->api->event_record(d->now, d->clock);
    code = code ? code : d->api->event_sync(d->now);
    uint64_t now = vx_now_ns();
    code = code ? code : d->api->event_ms(&ms, done, d->now);
    *ret_ns = now - (uint64_t)(ms > 0 ? (double)ms * 1e6 : 0);
    return code;
}

static int check_labels(const struct cuda_program *p, const struct vx_cuda_result *r,
                        struct vx_err *err) {
    return r->top_label < p->net.classes
               ? VX_OK
               : vx_fail(err, VX_E_INVALID, "label_out_of_range",
                         "label %d in a sample, where the network has %d classes", r->top_label,
                         p->net.classes);
}

int cuda_wait(struct vx_program *base, uint64_t ticket, struct vx_run_result *ret,
              struct vx_err *err) {
    const struct cuda_program *p = (const struct cuda_program *)base;
    if (ticket == 0 || ticket > p->ticket || ticket + 1 < p->ticket) {
        return vx_fail(err, VX_E_INVALID, NULL, "run %llu is not one of the last two",
                       (unsigned long long)ticket);
    }
    int rc = cuda_enter(p->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct CUevent_st *done = p->done[ticket % 2];
    uint64_t ended = 0;
    int code = p->device->api->event_sync(done);
    code = code ? code : ended_at(p, done, &ended);
    if (code) {
        return cuda_fail(p->device, code, err, "a run");
    }
    const struct vx_cuda_result *r = &p->mail[ticket % 2].result;
    rc = check_labels(p, r, err);
    if (rc != VX_OK || !ret) {
        return rc;
    }
    *ret = (struct vx_run_result){
        .loss = r->loss, .ce = r->ce, .dice = r->dice, .grad_norm = r->grad_norm};
    ret->ended_ns = ended;
    if (p->mode == VX_MODE_VALIDATE) {
        memcpy(ret->tp, r->tp, sizeof ret->tp);
        memcpy(ret->fp, r->fp, sizeof ret->fp);
        memcpy(ret->fn, r->fn, sizeof ret->fn);
    }
    return VX_OK;
}

int cuda_read_logits(struct vx_program *base, float *dst, struct vx_err *err) {
    const struct cuda_program *p = (const struct cuda_program *)base;
    const struct cuda_tensor *t = &p->tensors[p->net.output];
    if (p->mode != VX_MODE_INFER || p->ticket == 0) {
        return vx_fail(err, VX_E_STATE, NULL, "logits can be read after an INFER run only");
    }
    int rc = cuda_enter(p->device, err);
    if (rc != VX_OK) {
        return rc;
    }
    size_t bytes = (size_t)t->n * (size_t)t->c * (size_t)t->voxels * sizeof(float);
    const struct cuda_api *api = p->device->api;
    int code = api->read_logits(cuda_at(p, &t->value), cuda_output_bias(p), t->n, t->c, t->padded,
                                t->voxels, cuda_at(p, &p->read_out), p->device->compute);
    code = code ? code : api->copy(dst, cuda_at(p, &p->read_out), bytes, p->device->compute);
    code = code ? code : api->stream_sync(p->device->compute);
    return code ? cuda_fail(p->device, code, err, "reading logits") : VX_OK;
}
