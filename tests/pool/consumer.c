/* The trainer's place at the ring, without a device: every batch is hashed and written down. */
#include "lab.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/proc.h"
#include "session/control.h"
#include "session/ring.h"

#include <string.h>

struct consumer {
    struct vx_control control;
    struct vx_ring ring;
    struct vx_buf trace;
    char *batch; /* bytes of the batch in work; owned */
    uint64_t first_ns;
};

/* Takes the next batch, appends its bytes, gives its slots back. */
static int take_batch(struct consumer *c, uint32_t n, struct vx_sample_ref *ret_at,
                      struct vx_err *err) {
    const struct vx_ring_desc *d = &c->ring.desc;
    size_t bytes = d->slot_bytes - d->image_offset;
    for (uint32_t j = 0; j < n; j++) {
        uint64_t q;
        struct vx_sample s;
        int rc = vx_ring_take(&c->ring, 60000000000ull, &q, &s);
        if (rc != VX_OK) {
            return vx_fail(err, rc, NULL, "no sample from the loader: %s", vx_status_text(rc));
        }
        *ret_at = vx_sample_at(&d->schedule, q);
        if (s.head->q != q || s.head->k != ret_at->k || s.head->j != ret_at->j || ret_at->j != j ||
            s.head->stream != ret_at->stream) {
            return vx_fail(err, VX_E_STATE, "sample_order", "sample %llu is another",
                           (unsigned long long)q);
        }
        /* [image][label] lie behind each other in a slot */
        memcpy(c->batch + j * bytes, (const char *)s.head + d->image_offset, bytes);
        vx_ring_release(&c->ring, q);
    }
    return VX_OK;
}

static int consume(struct consumer *c, struct vx_err *err) {
    const struct vx_sample_schedule *schedule = &c->ring.desc.schedule;
    const char *pace = getenv(CONSUMER_PACE);
    uint64_t batches = vx_sample_end(schedule) / schedule->batch,
             pace_us = pace ? strtoull(pace, NULL, 10) : 0;
    size_t bytes = (c->ring.desc.slot_bytes - c->ring.desc.image_offset) * schedule->batch;
    c->batch = malloc(bytes);
    for (uint64_t b = 0; c->batch && b < batches; b++) {
        struct vx_sample_ref at = {0};
        char hex[VX_SHA256_HEX];
        int rc = take_batch(c, schedule->batch, &at, err);
        if (rc != VX_OK) {
            return rc;
        }
        c->first_ns = c->first_ns ? c->first_ns : vx_now_ns();
        vx_sha256_hex(c->batch, bytes, hex);
        vx_buf_printf(&c->trace, "%s %llu %s\n", at.stream ? "val" : "train",
                      (unsigned long long)at.k, hex);
        usleep((useconds_t)pace_us);
    }
    return c->batch && !c->trace.failed ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
}

static int run(const struct vx_brief *b, struct consumer *c, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/" CONSUMER_TRACE, b->dir);
    int rc = vx_control_map(VX_FD_CONTROL, &c->control, err);
    if (rc == VX_OK) {
        rc = vx_ring_map(VX_FD_RING, &c->ring, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_say(json_pack("{s:s, s:i}", "event", "loaded", "q", 0));
    for (;;) { /* after a crash the ring is brought back to the start */
        uint32_t seen = vx_control_changed(&c->control);
        if (vx_control_gate(&c->control) == VX_GATE_OPEN && vx_ring_next(&c->ring) == 0) {
            break;
        }
        vx_control_wait(&c->control, seen, 100000000);
    }
    rc = consume(c, err);
    if (rc == VX_OK) {
        rc = vx_write_file_atomic(path, c->trace.data, c->trace.len, 0644, err);
    }
    if (rc == VX_OK) {
        vx_say(
            json_pack("{s:s, s:I}", "event", "result", "first_batch_ns", (json_int_t)c->first_ns));
    }
    return rc;
}

int consumer_main(int argc, char **argv) {
    struct consumer c = {.control.shm = VX_SHM_INIT, .ring.shm = VX_SHM_INIT, .trace = VX_BUF_INIT};
    struct vx_err err = {0};
    struct vx_brief *b = NULL;
    int rc = argc == 5 ? vx_brief_read(argv[2], &b, &err)
                       : vx_fail(&err, VX_E_INVALID, NULL, "step --brief FILE --device NAME");
    rc = rc == VX_OK ? run(b, &c, &err) : rc;
    vx_brief_free(b);
    vx_buf_release(&c.trace);
    free(c.batch);
    vx_ring_close(&c.ring);
    vx_control_close(&c.control);
    return rc == VX_OK ? 0 : vx_say_error("step", &err);
}
