#include "session/ring.h"

#include "base/clock.h"
#include "base/err.h"
#include "session/ring_words.h"

#include <stddef.h>
#include <string.h>

_Static_assert(offsetof(struct vx_slot, lo) == 32, "slot head layout");
_Static_assert(sizeof(struct vx_slot) == 72, "slot head layout");
_Static_assert(offsetof(struct vx_ring_desc, image_offset) == 32, "descriptor layout");
_Static_assert(offsetof(struct vx_ring_desc, schedule) == 120, "descriptor layout");

#define DEFAULT_CAP (256ull << 20)

static uint64_t align64(uint64_t x) {
    return (x + 63) / 64 * 64;
}

static void describe(uint32_t channels, const uint32_t size[3], struct vx_ring_desc *d) {
    uint64_t plane = (uint64_t)size[1] * size[2], volume = plane * size[0];
    d->channels = channels;
    memcpy(d->size, size, sizeof d->size);
    d->image_dtype = VX_DTYPE_F32;
    d->label_dtype = VX_DTYPE_I16;
    d->previous_dtype = VX_DTYPE_NONE;
    d->image_offset = align64(sizeof(struct vx_slot));
    d->label_offset = align64(d->image_offset + channels * volume * sizeof(float));
    d->previous_offset = 0;
    const uint64_t elements[4] = {volume, plane, size[2], 1};
    for (int i = 0; i < 4; i++) {
        d->image_stride[i] = elements[i] * sizeof(float);
        if (i > 0) {
            d->label_stride[i - 1] = elements[i] * sizeof(int16_t);
        }
    }
    d->slot_bytes = d->label_offset + volume * sizeof(int16_t);
}

uint64_t vx_ring_slot_bytes(uint32_t channels, const uint32_t size[3]) {
    struct vx_ring_desc d = {0};
    describe(channels, size, &d);
    return (d.slot_bytes + 4095) / 4096 * 4096;
}

uint32_t vx_ring_plan(uint64_t slot_bytes, uint32_t workers_max, uint32_t batch,
                      uint64_t cap_bytes) {
    uint64_t cap = (cap_bytes ? cap_bytes : DEFAULT_CAP) / (slot_bytes ? slot_bytes : 1);
    uint64_t slots = 4ull * workers_max + 3ull * batch;
    slots = slots < 12 ? 12 : slots;
    slots = slots > cap ? cap : slots;
    /* below this the trainer and the workers would take turns */
    return (uint32_t)(slots < 2ull * batch + 2 ? 2ull * batch + 2 : slots);
}

int vx_ring_create(uint32_t channels, const uint32_t size[3],
                   const struct vx_sample_schedule *schedule, uint32_t slots, uint64_t first_q,
                   struct vx_ring *ret, struct vx_err *err) {
    if (!channels || !size[0] || !size[1] || !size[2] || !schedule->batch ||
        !schedule->train_iterations || slots <= schedule->batch) {
        return vx_fail(err, VX_E_INVALID, "ring_shape",
                       "a ring needs channels, a patch, a schedule and more slots than the batch");
    }
    struct vx_ring r = {VX_SHM_INIT, {0}, slots};
    describe(channels, size, &r.desc);
    r.desc.schedule = *schedule;
    const struct vx_shm_table tables[VX_RING_TABLES] = {
        {0, sizeof(struct vx_ring_state), 1},
        {0, sizeof(struct vx_ring_desc), 1},
        {0, sizeof(uint64_t), slots},
        {0, r.desc.slot_bytes, slots},
    };
    int rc = vx_shm_create("voxeld-ring", VX_SHM_RING, tables, VX_RING_TABLES,
                           1u << VX_RING_TABLE_SLOTS, &r.shm, err);
    if (rc != VX_OK) {
        return rc;
    }
    memcpy(vx_shm_record(&r.shm, VX_RING_TABLE_DESC, 0), &r.desc, sizeof r.desc);
    vx_ring_state(&r)->gate = VX_GATE_PAUSED;
    rc = vx_ring_rewind(&r, first_q);
    vx_ring_set_gate(&r, VX_GATE_OPEN);
    *ret = r;
    return rc;
}

/* The descriptor's claims about a slot against the slot's size: a child must not write outside. */
static bool desc_fits(const struct vx_ring_desc *d, uint64_t slot_stride) {
    struct vx_ring_desc own = {0};
    if (!d->channels || d->channels > 4096) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (!d->size[i] || d->size[i] > 65535) {
            return false;
        }
    }
    describe(d->channels, d->size, &own);
    own.schedule = d->schedule;
    return memcmp(&own, d, sizeof own) == 0 && own.slot_bytes <= slot_stride && d->schedule.batch &&
           d->schedule.train_iterations;
}

int vx_ring_map(int fd, struct vx_ring *ret, struct vx_err *err) {
    const uint64_t least[VX_RING_TABLES] = {sizeof(struct vx_ring_state),
                                            sizeof(struct vx_ring_desc), sizeof(uint64_t),
                                            sizeof(struct vx_slot)};
    struct vx_ring r = {VX_SHM_INIT, {0}, 0};
    int rc = vx_shm_map(fd, VX_SHM_RING, true, least, VX_RING_TABLES, &r.shm, err);
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_shm_table *t = r.shm.table;
    bool fits = t[VX_RING_TABLE_STATE].count == 1 && t[VX_RING_TABLE_DESC].count == 1 &&
                t[VX_RING_TABLE_WORDS].count == t[VX_RING_TABLE_SLOTS].count &&
                t[VX_RING_TABLE_SLOTS].count > 0 && t[VX_RING_TABLE_SLOTS].count < 1u << 20;
    if (fits) {
        memcpy(&r.desc, vx_shm_record(&r.shm, VX_RING_TABLE_DESC, 0), sizeof r.desc);
        fits = desc_fits(&r.desc, t[VX_RING_TABLE_SLOTS].stride);
    }
    if (!fits) {
        r.shm.fd = -1; /* stays with the caller */
        vx_shm_close(&r.shm);
        return vx_fail(err, VX_E_CORRUPT, "ring_descriptor", "the ring's descriptor is damaged");
    }
    r.slots = (uint32_t)t[VX_RING_TABLE_SLOTS].count;
    *ret = r;
    return VX_OK;
}

void vx_ring_close(struct vx_ring *r) {
    vx_shm_close(&r->shm);
}

struct vx_slot *vx_ring_slot(const struct vx_ring *r, uint64_t q) {
    return vx_shm_record(&r->shm, VX_RING_TABLE_SLOTS, q % r->slots);
}

float *vx_ring_image(const struct vx_ring *r, uint64_t q) {
    return (float *)((char *)vx_ring_slot(r, q) + r->desc.image_offset);
}

int16_t *vx_ring_label(const struct vx_ring *r, uint64_t q) {
    return (int16_t *)((char *)vx_ring_slot(r, q) + r->desc.label_offset);
}
