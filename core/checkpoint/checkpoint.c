#include "checkpoint/checkpoint.h"
#include "checkpoint/metadata.h"
#include "checkpoint/safetensors.h"

#include "base/err.h"
#include "base/own.h"

#include <math.h>
#include <string.h>
#include <zlib.h>

#define MOMENTUM           "momentum."
#define MAX_METADATA_BYTES ((size_t)64 << 20)

void vx_ckpt_init(struct vx_ckpt *c) {
    memset(c, 0, sizeof *c);
    c->ema_dice = c->best_ema_dice = NAN;
    c->best_epoch = -1;
}

static void release_tensor(struct vx_ckpt_tensor *t) {
    free(t->name);
    free(t->param);
    free(t->momentum);
}

static void release_json(struct vx_ckpt *c) {
    json_decref(c->history);
    json_decref(c->quarantines);
    json_decref(c->environment);
    json_decref(c->trainer);
    json_decref(c->network);
    c->history = c->quarantines = c->environment = c->trainer = c->network = NULL;
}

void vx_ckpt_release(struct vx_ckpt *c) {
    for (size_t i = 0; i < c->n_tensors; i++) {
        release_tensor(&c->tensors[i]);
    }
    free(c->tensors);
    release_json(c);
    vx_ckpt_init(c);
}

/* Name and shape without data; NULL when out of memory or where the shape has no sensible size. */
static struct vx_ckpt_tensor *add_shape(struct vx_ckpt *c, const char *name, int rank,
                                        const int64_t *shape) {
    if (c->n_tensors == c->cap_tensors) {
        size_t cap = c->cap_tensors ? 2 * c->cap_tensors : 64;
        struct vx_ckpt_tensor *grown = realloc(c->tensors, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        c->tensors = grown;
        c->cap_tensors = cap;
    }
    struct vx_ckpt_tensor t = {.rank = rank, .n = 1};
    for (int a = 0; a < rank; a++) {
        if (shape[a] < 1 || (uint64_t)shape[a] > (SIZE_MAX / 8) / t.n) {
            return NULL;
        }
        t.shape[a] = shape[a];
        t.n *= (size_t)shape[a];
    }
    t.name = strdup(name);
    if (!t.name) {
        return NULL;
    }
    c->tensors[c->n_tensors] = t;
    return &c->tensors[c->n_tensors++];
}

struct vx_ckpt_tensor *vx_ckpt_add(struct vx_ckpt *c, const char *name, int rank,
                                   const int64_t *shape, bool with_momentum) {
    struct vx_ckpt_tensor *t = rank <= VX_CKPT_MAX_RANK ? add_shape(c, name, rank, shape) : NULL;
    if (!t) {
        return NULL;
    }
    t->param = calloc(t->n, sizeof *t->param);
    t->momentum = with_momentum ? calloc(t->n, sizeof *t->momentum) : NULL;
    if (!t->param || (with_momentum && !t->momentum)) {
        release_tensor(t);
        c->n_tensors--;
        return NULL;
    }
    return t;
}

int64_t vx_ckpt_find(const struct vx_ckpt *c, const char *name) {
    for (size_t i = 0; i < c->n_tensors; i++) {
        if (strcmp(c->tensors[i].name, name) == 0) {
            return (int64_t)i;
        }
    }
    return -1;
}

static bool same_tensors(const struct vx_ckpt *a, const struct vx_ckpt *b) {
    bool same = a->n_tensors == b->n_tensors;
    for (size_t i = 0; same && i < a->n_tensors; i++) {
        const struct vx_ckpt_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        same = strcmp(x->name, y->name) == 0 && x->rank == y->rank &&
               memcmp(x->shape, y->shape, sizeof x->shape) == 0 && x->param && y->param &&
               !x->momentum == !y->momentum;
    }
    return same;
}

static bool copy_json(struct vx_ckpt *dst, const struct vx_ckpt *src) {
    json_t *const from[] = {src->history, src->quarantines, src->environment, src->trainer,
                            src->network};
    json_t **const to[] = {&dst->history, &dst->quarantines, &dst->environment, &dst->trainer,
                           &dst->network};
    for (size_t i = 0; i < VX_COUNTOF(from); i++) {
        *to[i] = from[i] ? json_deep_copy(from[i]) : NULL;
        if (from[i] && !*to[i]) {
            return false;
        }
    }
    return true;
}

int vx_ckpt_copy(struct vx_ckpt *dst, const struct vx_ckpt *src, struct vx_err *err) {
    if (src->n_tensors > 0 && !src->tensors[0].param) {
        return vx_fail(err, VX_E_INVALID, "bad_checkpoint",
                       "a checkpoint without values cannot be copied");
    }
    if (!same_tensors(dst, src)) {
        vx_ckpt_release(dst);
        for (size_t i = 0; i < src->n_tensors; i++) {
            const struct vx_ckpt_tensor *t = &src->tensors[i];
            if (!vx_ckpt_add(dst, t->name, t->rank, t->shape, t->momentum != NULL)) {
                vx_ckpt_release(dst);
                return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a copy of the checkpoint");
            }
        }
    }
    for (size_t i = 0; i < src->n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &src->tensors[i];
        memcpy(dst->tensors[i].param, t->param, t->n * sizeof *t->param);
        if (t->momentum) {
            memcpy(dst->tensors[i].momentum, t->momentum, t->n * sizeof *t->momentum);
        }
    }
    release_json(dst);
    struct vx_ckpt fields = *src;
    fields.n_tensors = dst->n_tensors;
    fields.cap_tensors = dst->cap_tensors;
    fields.tensors = dst->tensors;
    fields.history = fields.quarantines = fields.environment = fields.trainer = fields.network =
        NULL;
    *dst = fields;
    if (!copy_json(dst, src)) {
        vx_ckpt_release(dst);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a copy of the checkpoint");
    }
    return VX_OK;
}

/* CRC-32 of name, shape and values: a name or shape that changed in the header is noticed as well.
 */
static uint32_t checksum(const char *name, const struct vx_ckpt_tensor *t, const float *values) {
    uLong crc = crc32_z(0, (const Bytef *)name, strlen(name));
    crc = crc32_z(crc, (const Bytef *)t->shape, (size_t)t->rank * sizeof *t->shape);
    return (uint32_t)crc32_z(crc, (const Bytef *)values, t->n * sizeof *values);
}

static void describe(const struct vx_ckpt_tensor *t, const char *name, const float *data,
                     struct vx_st_tensor *ret) {
    *ret = (struct vx_st_tensor){.name = name, .dtype = VX_ST_F32, .rank = t->rank, .data = data};
    memcpy(ret->shape, t->shape, (size_t)t->rank * sizeof *t->shape);
}

/* Lists parameters, then momentum; names of the latter are owned by names. */
static int list_tensors(const struct vx_ckpt *c, struct vx_st_tensor *list, uint32_t *crc32,
                        json_t *names, struct vx_err *err) {
    bool momentum = c->n_tensors > 0 && c->tensors[0].momentum;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const struct vx_ckpt_tensor *t = &c->tensors[i];
        if (!t->param || !t->momentum == momentum ||
            strncmp(t->name, MOMENTUM, strlen(MOMENTUM)) == 0) {
            return vx_fail(
                err, VX_E_INVALID, "bad_checkpoint",
                "tensor %s has no values, or momentum unlike the others, or a reserved name",
                t->name);
        }
        describe(t, t->name, t->param, &list[i]);
        crc32[i] = checksum(t->name, t, t->param);
        if (momentum) {
            json_t *name = json_sprintf(MOMENTUM "%s", t->name);
            if (!name || json_array_append_new(names, name) != 0) {
                return vx_fail(err, VX_E_INVALID, "bad_tensor_name",
                               "a tensor's name is not UTF-8");
            }
            describe(t, json_string_value(name), t->momentum, &list[c->n_tensors + i]);
            crc32[c->n_tensors + i] = checksum(json_string_value(name), t, t->momentum);
        }
    }
    return VX_OK;
}

int vx_ckpt_write(const char *path, const struct vx_ckpt *c, struct vx_err *err) {
    size_t n = c->n_tensors * (c->n_tensors > 0 && c->tensors[0].momentum ? 2 : 1);
    vx_auto_free struct vx_st_tensor *list = calloc(n + 1, sizeof *list);
    vx_auto_free uint32_t *sums = calloc(n + 1, sizeof *sums);
    vx_auto_json json_t *names = json_array();
    if (!list || !sums || !names) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
    }
    int rc = vx_ckpt_check(c, err);
    if (rc == VX_OK) {
        rc = list_tensors(c, list, sums, names, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_json json_t *doc = vx_ckpt_metadata(c, sums, n);
    vx_auto_free char *text = doc ? vx_json_canonical(doc) : NULL;
    if (!text || strlen(text) > MAX_METADATA_BYTES) {
        return vx_fail(err, VX_E_LIMIT, "bad_checkpoint", "the history of %s is too long", path);
    }
    char hex[VX_SHA256_HEX], format[16];
    vx_sha256_hex(text, strlen(text), hex);
    snprintf(format, sizeof format, "%d", VX_CKPT_FORMAT);
    vx_auto_json json_t *metadata =
        json_pack("{s:s,s:s,s:s}", "format", format, "voxeld", text, "voxeld_sha256", hex);
    return metadata ? vx_st_write(path, list, n, metadata, err)
                    : vx_fail(err, VX_E_NOMEM, NULL, "no memory to write %s", path);
}

static int corrupt(const char *path, const char *what, struct vx_err *err) {
    vx_fail(err, VX_E_CORRUPT, "bad_checkpoint", "%s: %s", path, what);
    vx_err_at(err, "%s", path);
    return VX_E_CORRUPT;
}

static int load_metadata(const struct vx_st *st, const char *path, struct vx_ckpt *c,
                         uint32_t *sums, struct vx_err *err) {
    const char *text = vx_st_metadata(st, "voxeld");
    const char *hex = vx_st_metadata(st, "voxeld_sha256");
    const char *format = vx_st_metadata(st, "format");
    vx_auto_json json_t *doc = NULL;
    char real[VX_SHA256_HEX];
    if (!text || !hex || !format) {
        return corrupt(path, "no checkpoint of voxeld (its metadata is missing)", err);
    }
    vx_sha256_hex(text, strlen(text), real);
    if (strcmp(real, hex) != 0) {
        return corrupt(path, "the metadata fails its checksum", err);
    }
    int rc = vx_json_parse(text, strlen(text), MAX_METADATA_BYTES, 32, &doc, NULL);
    if (rc != VX_OK) {
        return corrupt(path, "the metadata is not JSON", err);
    }
    const json_t *inner = json_object_get(doc, "format");
    if (!json_is_integer(inner) || atoll(format) != json_integer_value(inner)) {
        return corrupt(path, "the format inside and outside the metadata differ", err);
    }
    rc = vx_ckpt_metadata_parse(doc, c, sums, vx_st_count(st), err);
    if (rc != VX_OK) {
        vx_err_prefix(err, "%s", path);
        vx_err_at(err, "%s", path);
    }
    return rc;
}

/* The file's tensors are n parameters, or n parameters and then their n momentum buffers. */
static int load_shapes(const struct vx_st *st, const char *path, struct vx_ckpt *c,
                       bool *ret_momentum, struct vx_err *err) {
    size_t all = vx_st_count(st), n = 0;
    while (n < all && strncmp(vx_st_tensor(st, n)->name, MOMENTUM, strlen(MOMENTUM)) != 0) {
        n++;
    }
    if (all != n && all != 2 * n) {
        return corrupt(path, "parameters and momentum are not equally many", err);
    }
    for (size_t i = 0; i < all; i++) {
        const struct vx_st_tensor *t = vx_st_tensor(st, i);
        const struct vx_st_tensor *p = vx_st_tensor(st, i % n);
        bool same = t->rank == p->rank && memcmp(t->shape, p->shape, sizeof t->shape) == 0;
        if (t->dtype != VX_ST_F32 || t->rank > VX_CKPT_MAX_RANK || vx_st_bytes(t) == 0 || !same ||
            (i >= n && strcmp(t->name + strlen(MOMENTUM), p->name) != 0)) {
            return corrupt(path, "a tensor is no float32 parameter or not the momentum of one",
                           err);
        }
        if (i < n && !add_shape(c, t->name, t->rank, t->shape)) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the tensors of %s", path);
        }
    }
    *ret_momentum = all > n;
    return VX_OK;
}

static int load_values(const struct vx_st *st, size_t i, uint32_t sum,
                       const struct vx_ckpt_tensor *t, float **ret, const char *path,
                       struct vx_err *err) {
    *ret = malloc(t->n * sizeof **ret);
    if (!*ret) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the tensors of %s", path);
    }
    int rc = vx_st_read(st, i, *ret, err);
    if (rc == VX_OK && checksum(vx_st_tensor(st, i)->name, t, *ret) != sum) {
        rc = corrupt(path, "a tensor fails its checksum", err);
    }
    return rc;
}

static int load(const char *path, bool data, struct vx_ckpt *c, struct vx_err *err) {
    vx_auto_st struct vx_st *st = NULL;
    bool momentum = false;
    int rc = vx_st_open(path, &st, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free uint32_t *sums = calloc(vx_st_count(st) + 1, sizeof *sums);
    if (!sums) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    rc = load_metadata(st, path, c, sums, err);
    if (rc == VX_OK) {
        rc = load_shapes(st, path, c, &momentum, err);
    }
    for (size_t i = 0; i < c->n_tensors && data && rc == VX_OK; i++) {
        struct vx_ckpt_tensor *t = &c->tensors[i];
        rc = load_values(st, i, sums[i], t, &t->param, path, err);
        if (rc == VX_OK && momentum) {
            size_t m = c->n_tensors + i;
            rc = load_values(st, m, sums[m], t, &t->momentum, path, err);
        }
    }
    return rc;
}

static int read_into(const char *path, bool data, struct vx_ckpt *ret, struct vx_err *err) {
    struct vx_ckpt c;
    vx_ckpt_init(&c);
    int rc = load(path, data, &c, err);
    if (rc != VX_OK) {
        vx_ckpt_release(&c);
        return rc;
    }
    *ret = c;
    return VX_OK;
}

int vx_ckpt_read(const char *path, struct vx_ckpt *ret, struct vx_err *err) {
    return read_into(path, true, ret, err);
}

int vx_ckpt_read_info(const char *path, struct vx_ckpt *ret, struct vx_err *err) {
    return read_into(path, false, ret, err);
}
