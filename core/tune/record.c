/* See record.h. */
#include "tune/record.h"

#include "base/err.h"
#include "tune/window.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { REAL, U32, I32, U64, FLAG, CHOICE, TEXT };

static const struct field {
    const char *group, *key; /* group NULL: of the window itself */
    enum kind kind;
    size_t at, size;
} fields[] = {
#define W(key, kind)                                                                               \
    {                                                                                              \
        NULL, #key, kind, offsetof(struct vx_tune_window, key),                                    \
            sizeof(((struct vx_tune_window *)0)->key)                                              \
    }
#define F(group, key, kind)                                                                        \
    {                                                                                              \
#group, #key, kind, offsetof(struct vx_tune_window, group.key),                            \
            sizeof(((struct vx_tune_window *)0)->group.key)                                        \
    }
    W(have, U32),
    W(seconds, REAL),
    W(warm, FLAG),
    F(step, n, U32),
    F(step, batch, U32),
    F(step, phase, REAL), /* VX_TUNE_PHASES of them */
    F(step, wall, REAL),
    F(step, p50, REAL),
    F(step, p95, REAL),
    F(step, p99, REAL),
    F(step, wait_p50, REAL),
    F(step, deviation, REAL),
    F(step, depth, REAL),
    F(step, since_last, REAL),
    F(step, deadline, REAL),
    F(step, compute_best, REAL),
    F(loader, workers, U32),
    F(loader, slots, U32),
    F(loader, samples, U64),
    F(loader, open, REAL),
    F(loader, read, REAL),
    F(loader, decompress, REAL),
    F(loader, augment, REAL),
    F(loader, wait_slot, REAL),
    F(loader, cpu, REAL),
    F(loader, runqueue, REAL),
    F(loader, opens, U64),
    F(loader, bytes_read, U64),
    F(loader, bytes_device, U64),
    F(loader, major_faults, U64),
    F(loader, store_bytes, U64),
    F(loader, store_cold_bytes, U64),
    F(loader, keep_files_open, FLAG),
    F(loader, tier, CHOICE),
    F(loader, storage, CHOICE),
    F(host, cores, REAL),
    F(host, trainer_cores, REAL),
    F(host, own_cores, REAL),
    F(host, foreign_cores, REAL),
    F(host, foreign_pid, I32),
    F(host, foreign_uid, U32),
    F(host, foreign_name, TEXT),
    F(host, psi_cpu, REAL),
    F(host, psi_io, REAL),
    F(host, psi_memory, REAL),
    F(host, psi_memory_full, REAL),
    F(host, throttled, REAL),
    F(host, memory_limit, U64),
    F(host, memory_available, U64),
    F(host, worker_bytes, U64),
    F(host, swap_in, REAL),
    F(host, available_trend, REAL),
    F(device, sm_active, REAL),
    F(device, tensor_active, REAL),
    F(device, power_ratio, REAL),
    F(device, throttled_thermal, FLAG),
    F(device, throttled_power, FLAG),
    F(device, memory_free, U64),
    F(device, launch_gap, REAL),
    F(device, largest_batch, U32),
    F(device, largest_batch_step, REAL),
    F(event, workers_lost, U32),
    F(event, lost_cause, TEXT),
    F(event, lost_case, TEXT),
    F(event, corrupt_entries, U32),
    F(event, corrupt_case, TEXT),
    F(event, period_steps, REAL),
    F(event, period_share, REAL),
    F(event, period_spike, REAL),
    F(event, period_phase, CHOICE),
    F(event, step_slope, REAL),
    F(event, rss_slope, REAL),
#undef W
#undef F
};
#define N_FIELDS (sizeof fields / sizeof *fields)

_Static_assert(sizeof(enum vx_tune_tier) == sizeof(uint32_t) &&
                   sizeof(enum vx_tune_storage) == sizeof(uint32_t) &&
                   sizeof(enum vx_tune_phase) == sizeof(uint32_t),
               "choices are written as 32 bits");

static json_t *real(double value) {
    return json_real(isfinite(value) ? value : 0);
}

static json_t *write_field(const struct field *f, const unsigned char *from) {
    uint32_t u32 = 0;
    int32_t i32 = 0;
    uint64_t u64 = 0;
    double d = 0;
    switch (f->kind) {
    case REAL:
        if (f->size > sizeof d) {
            json_t *list = json_array();
            for (size_t i = 0; list && i < f->size / sizeof d; i++) {
                memcpy(&d, from + i * sizeof d, sizeof d);
                json_array_append_new(list, real(d));
            }
            return list;
        }
        memcpy(&d, from, sizeof d);
        return real(d);
    case I32:
        memcpy(&i32, from, sizeof i32);
        return json_integer(i32);
    case U64:
        memcpy(&u64, from, sizeof u64);
        return json_integer((json_int_t)u64);
    case FLAG:
        return json_boolean(*from);
    case TEXT:
        return json_stringn((const char *)from, strnlen((const char *)from, f->size));
    default:
        memcpy(&u32, from, sizeof u32);
        return json_integer(u32);
    }
}

json_t *vx_tune_record(const struct vx_tune_window *w) {
    json_t *o = json_object();
    for (size_t i = 0; o && i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        json_t *group = f->group ? json_object_get(o, f->group) : o;
        if (!group) {
            group = json_object();
            json_object_set_new(o, f->group, group);
        }
        json_object_set_new(group, f->key, write_field(f, (const unsigned char *)w + f->at));
    }
    return o;
}

static bool read_number(const struct field *f, const json_t *v, unsigned char *to) {
    if (f->kind == REAL) {
        double d = json_number_value(v);
        memcpy(to, &d, sizeof d);
        return json_is_number(v);
    }
    json_int_t n = json_integer_value(v);
    uint32_t u32 = (uint32_t)n;
    uint64_t u64 = (uint64_t)n;
    memcpy(to, f->kind == U64 ? (const void *)&u64 : &u32, f->size);
    json_int_t lo = f->kind == I32 ? INT32_MIN : 0, hi = f->kind == U64   ? INT64_MAX
                                                         : f->kind == I32 ? INT32_MAX
                                                                          : UINT32_MAX;
    return json_is_integer(v) && n >= lo && n <= hi;
}

static bool read_field(const struct field *f, const json_t *v, unsigned char *to) {
    if (f->kind == FLAG) {
        *(bool *)to = json_is_true(v);
        return json_is_boolean(v);
    }
    if (f->kind == TEXT) {
        snprintf((char *)to, f->size, "%s", json_is_string(v) ? json_string_value(v) : "");
        return json_is_string(v) && json_string_length(v) < f->size;
    }
    if (f->kind == REAL && f->size > sizeof(double)) {
        bool good = json_array_size(v) == f->size / sizeof(double);
        for (size_t i = 0; good && i < json_array_size(v); i++) {
            good = read_number(f, json_array_get(v, i), to + i * sizeof(double));
        }
        return good;
    }
    return read_number(f, v, to);
}

int vx_tune_replay(const json_t *record, struct vx_tune_window *ret, struct vx_err *err) {
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        const json_t *group = f->group ? json_object_get(record, f->group) : record;
        if (!read_field(f, json_object_get(group, f->key), (unsigned char *)ret + f->at)) {
            return vx_fail(err, VX_E_CORRUPT, NULL,
                           "%s%s%s of a recorded window is not there, or no %s",
                           f->group ? f->group : "", f->group ? "." : "", f->key,
                           f->kind == TEXT   ? "text that fits"
                           : f->kind == FLAG ? "boolean"
                                             : "number in range");
        }
    }
    return VX_OK;
}
