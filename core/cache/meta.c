#include "cache/meta.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/own.h"

#include <string.h>

enum { LOCATIONS_PER_CHUNK = 1024 };

const char *vx_cache_array_name(enum vx_cache_array a) {
    static const char *const names[] = {"image", "seg", "locations"};
    return names[a];
}

void vx_cache_meta_release(struct vx_cache_meta *m) {
    json_decref(m->info.geometry);
    free(m->info.classes);
    free(m->info.sources);
    memset(m, 0, sizeof *m);
}

static int64_t sum_of_locations(const struct vx_cache_info *info) {
    int64_t n = 0;
    for (size_t i = 0; i < info->n_classes; i++) {
        n += info->classes[i].n_locations;
    }
    return n;
}

int vx_cache_meta_layout(struct vx_cache_meta *m, const int64_t chunk[3], struct vx_err *err) {
    const struct vx_cache_info *in = &m->info;
    int64_t image[4] = {in->n_channels, in->shape[0], in->shape[1], in->shape[2]};
    int64_t seg[4] = {1, in->shape[0], in->shape[1], in->shape[2]};
    int64_t block[4] = {1, chunk[0], chunk[1], chunk[2]};
    int64_t list[4] = {1, 1, sum_of_locations(in), 3};
    int64_t list_block[4] = {1, 1, LOCATIONS_PER_CHUNK, 3};
    struct vx_cache_layout *a = m->arrays;
    a[VX_CACHE_ARRAY_IMAGE].present = true;
    a[VX_CACHE_ARRAY_SEG].present = in->has_seg;
    a[VX_CACHE_ARRAY_LOCATIONS].present = true;
    int rc = vx_shard_init(&a[VX_CACHE_ARRAY_IMAGE].shard, VX_SHARD_FLOAT32, 4, image, block, err);
    if (rc == VX_OK) {
        rc = vx_shard_init(&a[VX_CACHE_ARRAY_SEG].shard, VX_SHARD_INT16, 3, seg, block, err);
    }
    if (rc == VX_OK) {
        rc = vx_shard_init(&a[VX_CACHE_ARRAY_LOCATIONS].shard, VX_SHARD_INT32, 2, list, list_block,
                           err);
    }
    return rc;
}

static json_t *ints(const int64_t v[3]) {
    return json_pack("[I,I,I]", (json_int_t)v[0], (json_int_t)v[1], (json_int_t)v[2]);
}

static json_t *reals(const double v[3]) {
    return json_pack("[f,f,f]", v[0], v[1], v[2]);
}

static json_t *arrays_to_json(const struct vx_cache_meta *m) {
    json_t *out = json_object();
    for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
        const struct vx_cache_layout *a = &m->arrays[i];
        if (a->present) {
            json_object_set_new(out, vx_cache_array_name((enum vx_cache_array)i),
                                json_pack("{s:s,s:I,s:I,s:I}", "shard", vx_shard_path(&a->shard),
                                          "bytes", (json_int_t)a->file.bytes, "crc32c",
                                          (json_int_t)a->file.crc32c, "payload_crc32c",
                                          (json_int_t)a->file.payload_crc32c));
        }
    }
    return out;
}

json_t *vx_cache_meta_to_json(const struct vx_cache_meta *m) {
    const struct vx_cache_info *in = &m->info;
    json_t *classes = json_array(), *sources = json_array();
    for (size_t i = 0; i < in->n_classes; i++) {
        const struct vx_cache_class *c = &in->classes[i];
        json_array_append_new(classes, json_pack("{s:s,s:I,s:I,s:I}", "key", c->key, "voxels",
                                                 (json_int_t)c->n_voxels, "first",
                                                 (json_int_t)c->first_index, "locations",
                                                 (json_int_t)c->n_locations));
    }
    for (size_t i = 0; i < in->n_sources; i++) {
        const struct vx_cache_source *s = &in->sources[i];
        json_array_append_new(sources, json_pack("{s:s,s:I,s:I}", "path", s->path, "bytes",
                                                 (json_int_t)s->size_bytes, "mtime_ns",
                                                 (json_int_t)s->mtime_ns));
    }
    json_t *geometry = in->geometry ? json_incref(in->geometry) : json_object();
    json_t *doc = json_pack(
        "{s:i,s:s,s:i,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "format",
        VX_CACHE_FORMAT, "name", in->name, "channels", in->n_channels, "has_seg", (int)in->has_seg,
        "shape", ints(in->shape), "spacing", reals(in->spacing), "shape_raw", ints(in->shape_raw),
        "spacing_raw", reals(in->spacing_raw), "crop_lo", ints(in->crop_lo), "crop_hi",
        ints(in->crop_hi), "shape_cropped", ints(in->shape_cropped), "chunk",
        ints(&m->arrays[VX_CACHE_ARRAY_IMAGE].shard.chunk[1]), "patch", ints(in->patch), "geometry",
        geometry, "classes", classes, "sources", sources, "arrays", arrays_to_json(m));
    if (doc && m->key[0]) {
        json_object_set_new(doc, "key", json_string(m->key));
    }
    return doc;
}

static void get_ints(const json_t *doc, const char *key, int64_t lo, int64_t out[3],
                     struct vx_json_problems *ps) {
    const json_t *list = vx_json_get_array(doc, "", key, 3, 3, ps);
    for (size_t i = 0; list && i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = json_is_integer(v) ? json_integer_value(v) : -1;
        if (out[i] < lo || out[i] > VX_CACHE_MAX_EDGE) {
            char at[64];
            snprintf(at, sizeof at, "/%s/%zu", key, i);
            vx_json_problem(ps, at, "out_of_range", "must be an integer from %lld to %d",
                            (long long)lo, VX_CACHE_MAX_EDGE);
        }
    }
    if (!list) {
        vx_json_problem(ps, key, "missing", "three integers belong here");
    }
}

static void get_reals(const json_t *doc, const char *key, double out[3],
                      struct vx_json_problems *ps) {
    const json_t *list = vx_json_get_array(doc, "", key, 3, 3, ps);
    for (size_t i = 0; list && i < 3; i++) {
        out[i] = json_number_value(json_array_get(list, i));
        if (!(out[i] > 0 && out[i] < 1e9)) {
            vx_json_problem(ps, key, "out_of_range", "must be three positive numbers");
        }
    }
    if (!list) {
        vx_json_problem(ps, key, "missing", "three numbers belong here");
    }
}

static void must_int(const json_t *doc, const char *base, const char *key, int64_t hi, int64_t *out,
                     struct vx_json_problems *ps) {
    size_t before = ps->n;
    if (!vx_json_get_int(doc, base, key, 0, hi, out, ps) && ps->n == before) {
        vx_json_problem(ps, base, "missing", "has no %s", key);
    }
}

static void must_string(const json_t *doc, const char *base, const char *key, char *out,
                        size_t size, struct vx_json_problems *ps) {
    size_t before = ps->n;
    if (!vx_json_get_string(doc, base, key, out, size, ps) && ps->n == before) {
        vx_json_problem(ps, base, "missing", "has no %s", key);
    }
}

static int get_classes(const json_t *doc, struct vx_cache_info *in, struct vx_json_problems *ps) {
    const json_t *list = vx_json_get_array(doc, "", "classes", 0, VX_CACHE_MAX_CLASSES, ps);
    in->n_classes = json_array_size(list);
    in->classes = calloc(in->n_classes + 1, sizeof *in->classes);
    if (!in->classes) {
        return VX_E_NOMEM;
    }
    int64_t first = 0, most = (int64_t)1 << 40;
    for (size_t i = 0; i < in->n_classes; i++) {
        const json_t *v = json_array_get(list, i);
        struct vx_cache_class *c = &in->classes[i];
        must_string(v, "/classes", "key", c->key, sizeof c->key, ps);
        must_int(v, "/classes", "voxels", most, &c->n_voxels, ps);
        must_int(v, "/classes", "first", most, &c->first_index, ps);
        must_int(v, "/classes", "locations", most, &c->n_locations, ps);
        if (c->first_index != first || c->n_locations > c->n_voxels) {
            vx_json_problem(ps, "/classes", "invalid_value", "the rows of class %zu do not add up",
                            i);
        }
        first += c->n_locations;
    }
    return VX_OK;
}

static int get_sources(const json_t *doc, struct vx_cache_info *in, struct vx_json_problems *ps) {
    const json_t *list = vx_json_get_array(doc, "", "sources", 0, VX_CACHE_MAX_SOURCES, ps);
    in->n_sources = json_array_size(list);
    in->sources = calloc(in->n_sources + 1, sizeof *in->sources);
    if (!in->sources) {
        return VX_E_NOMEM;
    }
    for (size_t i = 0; i < in->n_sources; i++) {
        const json_t *v = json_array_get(list, i);
        struct vx_cache_source *s = &in->sources[i];
        must_string(v, "/sources", "path", s->path, sizeof s->path, ps);
        must_int(v, "/sources", "bytes", INT64_MAX, &s->size_bytes, ps);
        vx_json_get_int(v, "/sources", "mtime_ns", INT64_MIN, INT64_MAX, &s->mtime_ns, ps);
    }
    return VX_OK;
}

static void get_info(const json_t *doc, struct vx_cache_info *in, int64_t chunk[3],
                     struct vx_json_problems *ps) {
    int64_t channels = 0;
    must_string(doc, "", "name", in->name, sizeof in->name, ps);
    must_int(doc, "", "channels", 4096, &channels, ps);
    in->n_channels = (int)channels;
    in->has_seg = json_is_true(json_object_get(doc, "has_seg"));
    get_ints(doc, "shape", 1, in->shape, ps);
    get_ints(doc, "shape_raw", 1, in->shape_raw, ps);
    get_ints(doc, "crop_lo", 0, in->crop_lo, ps);
    get_ints(doc, "crop_hi", 1, in->crop_hi, ps);
    get_ints(doc, "shape_cropped", 1, in->shape_cropped, ps);
    get_ints(doc, "chunk", 1, chunk, ps);
    if (json_object_get(doc, "patch")) { /* not in the cases of earlier versions */
        get_ints(doc, "patch", 0, in->patch, ps);
    }
    get_reals(doc, "spacing", in->spacing, ps);
    get_reals(doc, "spacing_raw", in->spacing_raw, ps);
    json_t *geometry = json_object_get(doc, "geometry");
    if (!json_is_object(geometry)) {
        vx_json_problem(ps, "/geometry", "wrong_type", "must be an object");
    } else {
        in->geometry = json_incref(geometry);
    }
}

static void get_files(const json_t *doc, struct vx_cache_meta *m, struct vx_json_problems *ps) {
    const json_t *arrays = vx_json_get_object(doc, "", "arrays", ps);
    for (int i = 0; i < VX_CACHE_N_ARRAYS; i++) {
        const char *name = vx_cache_array_name((enum vx_cache_array)i);
        struct vx_cache_layout *a = &m->arrays[i];
        const json_t *v = json_object_get(arrays, name);
        if (a->present != json_is_object(v)) {
            vx_json_problem(ps, "/arrays", "missing", "%s %s here", name,
                            a->present ? "is missing" : "does not belong");
            continue;
        }
        int64_t bytes = 0, crc = 0, payload = 0;
        if (a->present) {
            must_int(v, "/arrays", "bytes", INT64_MAX, &bytes, ps);
            must_int(v, "/arrays", "crc32c", UINT32_MAX, &crc, ps);
            a->file.has_payload =
                vx_json_get_int(v, "/arrays", "payload_crc32c", 0, UINT32_MAX, &payload, ps);
        }
        a->file.payload_crc32c = (uint32_t)payload;
        a->file.bytes = (uint64_t)bytes;
        a->file.crc32c = (uint32_t)crc;
    }
}

static int first_problem(const struct vx_json_problems *ps, struct vx_err *err) {
    return vx_fail(err, VX_E_CORRUPT, "bad_case_json", "case.json: %s %s", ps->list[0].pointer,
                   ps->list[0].text);
}

int vx_cache_meta_from_json(const json_t *doc, struct vx_cache_meta *ret, struct vx_err *err) {
    struct vx_json_problems ps = {0};
    struct vx_cache_meta m = {0};
    int64_t format = 0, chunk[3] = {1, 1, 1};
    if (!json_is_object(doc)) {
        return vx_fail(err, VX_E_CORRUPT, "bad_case_json", "case.json is not an object");
    }
    must_int(doc, "", "format", INT64_MAX, &format, &ps);
    if (format > VX_CACHE_FORMAT) {
        return vx_fail(err, VX_E_UNSUPPORTED, "cache_format",
                       "the case has format %lld, this voxeld reads up to %d", (long long)format,
                       VX_CACHE_FORMAT);
    }
    get_info(doc, &m.info, chunk, &ps);
    vx_json_get_string(doc, "", "key", m.key, sizeof m.key, &ps);
    int rc = get_classes(doc, &m.info, &ps);
    if (rc == VX_OK) {
        rc = get_sources(doc, &m.info, &ps);
    }
    if (rc != VX_OK) {
        vx_fail(err, rc, NULL, "no memory for case.json");
    } else if (ps.n > 0) {
        rc = first_problem(&ps, err);
    } else {
        rc = vx_cache_meta_layout(&m, chunk, err) == VX_OK ? VX_OK : VX_E_CORRUPT;
        get_files(doc, &m, &ps);
    }
    if (rc == VX_OK && ps.n > 0) {
        rc = first_problem(&ps, err);
    }
    if (rc != VX_OK) {
        vx_cache_meta_release(&m);
        return rc;
    }
    *ret = m;
    return VX_OK;
}

int vx_cache_case_folder(const char *name, const struct vx_cache_source *sources, size_t n_sources,
                         char **ret, struct vx_err *err) {
    size_t len = strlen(name);
    bool control = false;
    for (size_t i = 0; i < len; i++) {
        control = control || (unsigned char)name[i] < 0x20;
    }
    if (len == 0 || len > VX_CACHE_MAX_NAME || name[0] == '.' || strchr(name, '/') || control) {
        return vx_fail(
            err, VX_E_INVALID, "bad_case_name",
            "\"%.60s\" cannot name a case: 1 to %d characters without / or a leading dot", name,
            VX_CACHE_MAX_NAME);
    }
    vx_auto_json json_t *list = json_array();
    for (size_t i = 0; i < n_sources; i++) {
        json_array_append_new(list, json_pack("[s,I,I]", sources[i].path,
                                              (json_int_t)sources[i].size_bytes,
                                              (json_int_t)sources[i].mtime_ns));
    }
    vx_auto_free char *text = vx_json_canonical(list);
    if (!text) {
        return vx_fail(err, VX_E_INVALID, "bad_source_path", "a source path of %s is not UTF-8",
                       name);
    }
    char hex[VX_SHA256_HEX];
    vx_sha256_hex(text, strlen(text), hex);
    char *folder = vx_strf("%s~%.8s", name, hex);
    if (!folder) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    *ret = folder;
    return VX_OK;
}
