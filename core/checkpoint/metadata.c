#include "checkpoint/metadata.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <string.h>

/* Far above any training, low enough that arithmetic on them cannot overflow. */
#define MAX_COUNT ((int64_t)1 << 48)

static json_t *or_empty(json_t *value, json_t *(*make)(void)) {
    return value ? json_incref(value) : make();
}

static json_t *average(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *schedule_json(const struct vx_ckpt_schedule *s) {
    return json_pack(
        "{s:f,s:I,s:I,s:I,s:f,s:f,s:b,s:f,s:f}", "lr0", s->lr0, "epochs", (json_int_t)s->epochs,
        "iterations_per_epoch", (json_int_t)s->iterations_per_epoch, "validation_iterations",
        (json_int_t)s->validation_iterations, "poly_power", s->poly_power, "momentum", s->momentum,
        "nesterov", (int)s->nesterov, "weight_decay", s->weight_decay, "clip_norm", s->clip_norm);
}

json_t *vx_ckpt_metadata(const struct vx_ckpt *c, const uint32_t *crc32, size_t n_crc32) {
    json_t *sums = json_array();
    for (size_t i = 0; i < n_crc32; i++) {
        json_array_append_new(sums, json_integer(crc32[i]));
    }
    return json_pack(
        "{s:i,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:o,s:o,s:o,s:o}", "format",
        VX_CKPT_FORMAT, "k", (json_int_t)c->k, "epoch", (json_int_t)c->epoch, "iteration",
        (json_int_t)c->iteration, "validation_k", (json_int_t)c->validation_k, "ema_dice",
        average(c->ema_dice), "best_ema_dice", average(c->best_ema_dice), "best_epoch",
        c->best_epoch >= 0 ? json_integer(c->best_epoch) : json_null(), "schedule",
        schedule_json(&c->schedule), "history", or_empty(c->history, json_object), "recipe_digest",
        c->recipe_digest, "quarantines", or_empty(c->quarantines, json_array), "environment",
        or_empty(c->environment, json_object), "trainer", or_empty(c->trainer, json_object),
        "network", or_empty(c->network, json_object), "crc32", sums);
}

static void must(bool ok, size_t before, const char *base, const char *key,
                 struct vx_json_problems *ps) {
    if (!ok && ps->n == before) {
        char at[160];
        snprintf(at, sizeof at, "%s/%s", base, key);
        vx_json_problem(ps, at, "missing", "is missing");
    }
}

static void must_int(const json_t *o, const char *base, const char *key, int64_t *out,
                     struct vx_json_problems *ps) {
    size_t before = ps->n;
    must(vx_json_get_int(o, base, key, 0, MAX_COUNT, out, ps), before, base, key, ps);
}

static void must_real(const json_t *o, const char *base, const char *key, double *out,
                      struct vx_json_problems *ps) {
    size_t before = ps->n;
    must(vx_json_get_real(o, base, key, 0, 1e12, out, ps), before, base, key, ps);
}

static void nullable_real(const json_t *o, const char *key, double *out,
                          struct vx_json_problems *ps) {
    size_t before = ps->n;
    *out = NAN;
    if (!json_is_null(json_object_get(o, key))) {
        must(vx_json_get_real(o, "", key, -1e12, 1e12, out, ps), before, "", key, ps);
    }
}

static void must_container(const json_t *o, const char *key, bool array, json_t **out,
                           struct vx_json_problems *ps) {
    json_t *v = json_object_get(o, key);
    char at[64];
    snprintf(at, sizeof at, "/%s", key);
    if (array ? !json_is_array(v) : !json_is_object(v)) {
        vx_json_problem(ps, at, v ? "wrong_type" : "missing", "must be an %s",
                        array ? "array" : "object");
    } else {
        *out = json_incref(v);
    }
}

static void parse_schedule(const json_t *doc, struct vx_ckpt_schedule *s,
                           struct vx_json_problems *ps) {
    const json_t *o = json_object_get(doc, "schedule");
    if (!json_is_object(o)) {
        vx_json_problem(ps, "/schedule", "missing", "must be an object");
        return;
    }
    must_real(o, "/schedule", "lr0", &s->lr0, ps);
    must_int(o, "/schedule", "epochs", &s->epochs, ps);
    must_int(o, "/schedule", "iterations_per_epoch", &s->iterations_per_epoch, ps);
    must_int(o, "/schedule", "validation_iterations", &s->validation_iterations, ps);
    must_real(o, "/schedule", "poly_power", &s->poly_power, ps);
    must_real(o, "/schedule", "momentum", &s->momentum, ps);
    size_t before = ps->n;
    must(vx_json_get_bool(o, "/schedule", "nesterov", &s->nesterov, ps), before, "/schedule",
         "nesterov", ps);
    must_real(o, "/schedule", "weight_decay", &s->weight_decay, ps);
    must_real(o, "/schedule", "clip_norm", &s->clip_norm, ps);
}

static void check_history(const json_t *history, struct vx_json_problems *ps) {
    const char *key;
    json_t *list;
    json_object_foreach((json_t *)history, key, list) {
        if (!json_is_array(list)) {
            vx_json_problem(ps, "/history", "wrong_type", "%s must be a list", key);
        }
    }
}

static void check_quarantines(const json_t *list, struct vx_json_problems *ps) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        const json_t *from = json_object_get(row, "from_k");
        if (!json_is_string(json_object_get(row, "case")) || !json_is_integer(from) ||
            json_integer_value(from) < 0) {
            vx_json_problem(ps, "/quarantines", "invalid_value", "row %zu needs case and from_k",
                            i);
        }
    }
}

static void parse_digest(const json_t *doc, char out[VX_SHA256_HEX], struct vx_json_problems *ps) {
    const char *text = json_string_value(json_object_get(doc, "recipe_digest"));
    if (!text || strlen(text) != VX_SHA256_HEX - 1 ||
        strspn(text, "0123456789abcdef") != VX_SHA256_HEX - 1) {
        vx_json_problem(ps, "/recipe_digest", "invalid_value", "must be 64 hex digits");
    } else {
        memcpy(out, text, VX_SHA256_HEX);
    }
}

static void parse_format_1(const json_t *doc, struct vx_ckpt *c, struct vx_json_problems *ps) {
    must_int(doc, "", "k", &c->k, ps);
    must_int(doc, "", "epoch", &c->epoch, ps);
    must_int(doc, "", "iteration", &c->iteration, ps);
    must_int(doc, "", "validation_k", &c->validation_k, ps);
    nullable_real(doc, "ema_dice", &c->ema_dice, ps);
    nullable_real(doc, "best_ema_dice", &c->best_ema_dice, ps);
    c->best_epoch = -1;
    if (!json_is_null(json_object_get(doc, "best_epoch"))) {
        must_int(doc, "", "best_epoch", &c->best_epoch, ps);
    }
    parse_schedule(doc, &c->schedule, ps);
    parse_digest(doc, c->recipe_digest, ps);
    must_container(doc, "history", false, &c->history, ps);
    must_container(doc, "quarantines", true, &c->quarantines, ps);
    must_container(doc, "environment", false, &c->environment, ps);
    must_container(doc, "trainer", false, &c->trainer, ps);
    must_container(doc, "network", false, &c->network, ps);
    check_history(c->history, ps);
    check_quarantines(c->quarantines, ps);
}

/* One reader per format; a new format adds a row and keeps the old ones (tests/checkpoint/samples
 * has a file of each). */
static const struct {
    int64_t format;
    void (*parse)(const json_t *, struct vx_ckpt *, struct vx_json_problems *);
} formats[] = {
    {1, parse_format_1},
};

static void parse_checksums(const json_t *doc, uint32_t *crc32, size_t n,
                            struct vx_json_problems *ps) {
    const json_t *list = json_object_get(doc, "crc32");
    if (json_array_size(list) != n) {
        vx_json_problem(ps, "/crc32", "invalid_value", "must hold one checksum per tensor");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t x = json_is_integer(v) ? json_integer_value(v) : -1;
        if (x < 0 || x > UINT32_MAX) {
            vx_json_problem(ps, "/crc32", "out_of_range", "checksum %zu is no 32-bit number", i);
        } else {
            crc32[i] = (uint32_t)x;
        }
    }
}

int vx_ckpt_metadata_parse(const json_t *doc, struct vx_ckpt *ret, uint32_t *crc32, size_t n_crc32,
                           struct vx_err *err) {
    struct vx_json_problems ps = {0};
    int64_t format = 0;
    must_int(doc, "", "format", &format, &ps);
    if (ps.n == 0 && format > VX_CKPT_FORMAT) {
        return vx_fail(
            err, VX_E_UNSUPPORTED, "checkpoint_format",
            "the checkpoint has format %lld, this voxeld reads up to %d; use a newer voxeld",
            (long long)format, VX_CKPT_FORMAT);
    }
    size_t row = 0;
    while (row < VX_COUNTOF(formats) && formats[row].format != format) {
        row++;
    }
    if (row == VX_COUNTOF(formats)) {
        return vx_fail(err, VX_E_CORRUPT, "bad_checkpoint", "the checkpoint has no known format");
    }
    formats[row].parse(doc, ret, &ps);
    parse_checksums(doc, crc32, n_crc32, &ps);
    if (ps.n > 0) {
        return vx_fail(err, VX_E_CORRUPT, "bad_checkpoint", "%s %s", ps.list[0].pointer,
                       ps.list[0].text);
    }
    return VX_OK;
}

int vx_ckpt_check(const struct vx_ckpt *c, struct vx_err *err) {
    struct vx_ckpt back;
    vx_ckpt_init(&back);
    vx_auto_json json_t *doc = vx_ckpt_metadata(c, NULL, 0);
    if (!doc) {
        vx_ckpt_release(&back);
        return vx_fail(err, VX_E_INVALID, "bad_checkpoint",
                       "the checkpoint cannot be written as JSON (a NaN in the schedule, or text "
                       "that is not UTF-8)");
    }
    struct vx_err why = {0};
    int rc = vx_ckpt_metadata_parse(doc, &back, NULL, 0, &why);
    vx_ckpt_release(&back);
    return rc == VX_OK ? VX_OK
                       : vx_fail(err, VX_E_INVALID, "bad_checkpoint",
                                 "cannot write this checkpoint: %.400s", why.text);
}

bool vx_ckpt_same_environment(const json_t *then, const json_t *now, char *why, size_t size) {
    const char *key;
    json_t *value;
    for (int side = 0; side < 2; side++) {
        json_object_foreach((json_t *)(side ? now : then), key, value) {
            json_t *other = json_object_get(side ? then : now, key);
            if (other && json_equal(value, other)) {
                continue;
            }
            if (why && size > 0) {
                vx_auto_free char *a = vx_json_canonical(side ? other : value);
                vx_auto_free char *b = vx_json_canonical(side ? value : other);
                snprintf(why, size, "%s was %s, is %s", key, a ? a : "absent", b ? b : "absent");
            }
            return false;
        }
    }
    return true;
}
