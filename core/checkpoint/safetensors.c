#include "checkpoint/safetensors.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is written from native words as little endian"
#endif

#define METADATA_KEY "__metadata__"
/* A header names at most this deep: {"NAME": {"shape": [..]}}. */
enum { HEADER_DEPTH = 8, LENGTH_BYTES = 8, ALIGN = 8 };

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
#define VX_X(name, bytes) [VX_ST_##name] = {#name, bytes},
    VX_ST_DTYPES(VX_X)
#undef VX_X
};

struct entry {
    struct vx_st_tensor t; /* name borrowed from header */
    uint64_t begin, end;   /* within the data */
};

struct vx_st {
    char *path; /* owned */
    int fd;
    uint64_t data_at; /* offset of the data in the file */
    json_t *header;   /* owned */
    size_t n;
    struct entry *entries; /* owned, by begin */
};

/* Elements of a shape; false where a length is negative or the product of bytes passes 2^62. */
static bool count_bytes(const struct vx_st_tensor *t, uint64_t *ret) {
    uint64_t bytes = dtypes[t->dtype].bytes;
    bool zero = false;
    for (int a = 0; a < t->rank; a++) {
        if (t->shape[a] < 0) {
            return false;
        }
        if (t->shape[a] == 0) {
            zero = true;
        } else if (bytes > ((uint64_t)1 << 62) / (uint64_t)t->shape[a]) {
            return false;
        } else {
            bytes *= (uint64_t)t->shape[a];
        }
    }
    *ret = zero ? 0 : bytes;
    return true;
}

size_t vx_st_bytes(const struct vx_st_tensor *t) {
    uint64_t bytes = 0;
    return count_bytes(t, &bytes) ? (size_t)bytes : 0;
}

static int add_entry(json_t *header, const struct vx_st_tensor *t, uint64_t *at,
                     struct vx_err *err) {
    uint64_t bytes = 0;
    if (!t->name || t->name[0] == '\0' || strlen(t->name) > VX_ST_MAX_NAME ||
        strcmp(t->name, METADATA_KEY) == 0 || json_object_get(header, t->name)) {
        return vx_fail(err, VX_E_INVALID, "bad_tensor_name", "\"%.100s\" cannot name a tensor here",
                       t->name ? t->name : "");
    }
    if (t->rank < 0 || t->rank > VX_ST_MAX_RANK || !count_bytes(t, &bytes) ||
        (bytes > 0 && !t->data)) {
        return vx_fail(err, VX_E_INVALID, "bad_tensor_shape",
                       "tensor %s has no proper shape or no data", t->name);
    }
    json_t *shape = json_array();
    for (int a = 0; a < t->rank; a++) {
        json_array_append_new(shape, json_integer(t->shape[a]));
    }
    json_t *row = json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtypes[t->dtype].name, "shape", shape,
                            "data_offsets", (json_int_t)*at, (json_int_t)(*at + bytes));
    *at += bytes;
    return row && json_object_set_new(header, t->name, row) == 0
               ? VX_OK
               : vx_fail(err, VX_E_INVALID, "bad_tensor_name", "a tensor's name is not UTF-8");
}

/* The JSON header, padded; caller frees. */
static int make_header(const struct vx_st_tensor *tensors, size_t n, const json_t *metadata,
                       char **ret_text, size_t *ret_len, struct vx_err *err) {
    vx_auto_json json_t *header = json_object();
    if (!header || n > VX_ST_MAX_TENSORS) {
        return vx_fail(err, VX_E_INVALID, "too_many_tensors", "%zu tensors are too many", n);
    }
    if (metadata) {
        json_object_set(header, METADATA_KEY, (json_t *)metadata);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        int rc = add_entry(header, &tensors[i], &at, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    vx_auto_free char *text = json_dumps(header, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0, padded = (len + ALIGN - 1) / ALIGN * ALIGN;
    char *out = text ? malloc(padded + 1) : NULL;
    if (!out) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the header of %zu tensors", n);
    }
    memcpy(out, text, len);
    memset(out + len, ' ', padded - len);
    if (padded > VX_ST_MAX_HEADER_BYTES) {
        free(out);
        return vx_fail(err, VX_E_LIMIT, "header_too_large", "the header needs %zu bytes", padded);
    }
    *ret_text = out;
    *ret_len = padded;
    return VX_OK;
}

static int write_to(int fd, const char *header, size_t len, const struct vx_st_tensor *tensors,
                    size_t n, struct vx_err *err) {
    uint64_t length = len;
    int rc = vx_write_all(fd, &length, LENGTH_BYTES, err);
    if (rc == VX_OK) {
        rc = vx_write_all(fd, header, len, err);
    }
    for (size_t i = 0; i < n && rc == VX_OK; i++) {
        rc = vx_write_all(fd, tensors[i].data, vx_st_bytes(&tensors[i]), err);
    }
    return rc;
}

int vx_st_write(const char *path, const struct vx_st_tensor *tensors, size_t n,
                const json_t *metadata, struct vx_err *err) {
    vx_auto_free char *header = NULL;
    vx_auto_free char *tmp = vx_strf("%s.tmp.%d", path, (int)getpid());
    size_t len = 0;
    if (!tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = make_header(tensors, n, metadata, &header, &len, err);
    if (rc != VX_OK) {
        return rc;
    }
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    rc = write_to(fd, header, len, tensors, n, err);
    if (close(fd) != 0 && rc == VX_OK) {
        rc = vx_fail_errno(err, errno, path, "cannot close %s", path);
    }
    if (rc == VX_OK) {
        rc = vx_rename_durable(tmp, path, err);
    }
    if (rc != VX_OK) {
        unlink(tmp);
        vx_err_at(err, "%s", path);
    }
    return rc;
}

static int corrupt(const struct vx_st *st, const char *reason, const char *what,
                   struct vx_err *err) {
    vx_fail(err, VX_E_CORRUPT, reason, "%s: %s", st->path, what);
    vx_err_at(err, "%s", st->path);
    return VX_E_CORRUPT;
}

/* A header row's dtype, shape and offsets; false where one is missing, wrong or does not agree. */
static bool parse_row(const json_t *row, uint64_t data_bytes, struct entry *e) {
    const char *dtype = json_string_value(json_object_get(row, "dtype"));
    const json_t *shape = json_object_get(row, "shape");
    const json_t *offsets = json_object_get(row, "data_offsets");
    size_t known = VX_COUNTOF(dtypes), d = 0;
    while (dtype && d < known && strcmp(dtype, dtypes[d].name) != 0) {
        d++;
    }
    if (!dtype || d == known || !json_is_array(shape) || json_array_size(shape) > VX_ST_MAX_RANK ||
        json_array_size(offsets) != 2) {
        return false;
    }
    e->t.dtype = (enum vx_st_dtype)d;
    e->t.rank = (int)json_array_size(shape);
    for (int a = 0; a < e->t.rank; a++) {
        const json_t *v = json_array_get(shape, (size_t)a);
        e->t.shape[a] = json_is_integer(v) ? json_integer_value(v) : -1;
    }
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    uint64_t bytes = 0;
    if (!json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < json_integer_value(from) ||
        (uint64_t)json_integer_value(to) > data_bytes || !count_bytes(&e->t, &bytes)) {
        return false;
    }
    e->begin = (uint64_t)json_integer_value(from);
    e->end = (uint64_t)json_integer_value(to);
    return e->end - e->begin == bytes;
}

static int by_begin(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    /* tensors without elements share an offset with their successor */
    return x->end < y->end ? -1 : x->end > y->end;
}

static int parse_entries(struct vx_st *st, uint64_t data_bytes, struct vx_err *err) {
    const char *name;
    json_t *row;
    size_t most = json_object_size(st->header);
    if (most > VX_ST_MAX_TENSORS + 1) {
        return corrupt(st, "too_many_tensors", "the header lists too many tensors", err);
    }
    st->entries = calloc(most + 1, sizeof *st->entries);
    if (!st->entries) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for %zu tensors", most);
    }
    json_object_foreach(st->header, name, row) {
        if (strcmp(name, METADATA_KEY) == 0) {
            continue;
        }
        struct entry *e = &st->entries[st->n];
        e->t.name = name;
        if (strlen(name) > VX_ST_MAX_NAME || !parse_row(row, data_bytes, e)) {
            return corrupt(st, "bad_tensor", "a tensor's dtype, shape and offsets do not agree",
                           err);
        }
        st->n++;
    }
    qsort(st->entries, st->n, sizeof *st->entries, by_begin);
    uint64_t at = 0;
    for (size_t i = 0; i < st->n; i++) {
        if (st->entries[i].begin != at) {
            return corrupt(st, "bad_offsets", "the tensors overlap or leave holes", err);
        }
        at = st->entries[i].end;
    }
    return at == data_bytes
               ? VX_OK
               : corrupt(st, "truncated_file", "the tensors do not end where the file does", err);
}

static int load_header(struct vx_st *st, struct vx_err *err) {
    struct stat info;
    uint64_t length = 0;
    if (fstat(st->fd, &info) != 0) {
        return vx_fail_errno(err, errno, st->path, "cannot read %s", st->path);
    }
    uint64_t size = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    if (size < LENGTH_BYTES + 2) {
        return corrupt(st, "truncated_file", "too short for a safetensors file", err);
    }
    int rc = vx_pread_all(st->fd, &length, LENGTH_BYTES, 0, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (length < 2 || length > size - LENGTH_BYTES || length > VX_ST_MAX_HEADER_BYTES) {
        return corrupt(st, "bad_header_size", "the header's size does not fit the file", err);
    }
    vx_auto_free char *text = malloc((size_t)length + 1);
    if (!text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for a header of %zu bytes",
                       (size_t)length);
    }
    rc = vx_pread_all(st->fd, text, (size_t)length, LENGTH_BYTES, err);
    if (rc != VX_OK) {
        return rc;
    }
    text[length] = '\0';
    if (text[0] != '{' ||
        vx_json_parse(text, (size_t)length, (size_t)length, HEADER_DEPTH, &st->header, NULL) !=
            VX_OK ||
        !json_is_object(st->header)) {
        return corrupt(st, "bad_header", "the header is not a JSON object", err);
    }
    st->data_at = LENGTH_BYTES + length;
    return parse_entries(st, size - st->data_at, err);
}

int vx_st_open(const char *path, struct vx_st **ret, struct vx_err *err) {
    vx_auto_st struct vx_st *st = calloc(1, sizeof *st);
    if (!st) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    st->path = strdup(path);
    st->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!st->path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    if (st->fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot open %s", path);
    }
    int rc = load_header(st, err);
    if (rc == VX_OK) {
        *ret = vx_steal(st);
    }
    return rc;
}

struct vx_st *vx_st_close(struct vx_st *st) {
    if (st) {
        if (st->fd >= 0) {
            close(st->fd);
        }
        json_decref(st->header);
        free(st->entries);
        free(st->path);
        free(st);
    }
    return NULL;
}

size_t vx_st_count(const struct vx_st *st) {
    return st->n;
}

const struct vx_st_tensor *vx_st_tensor(const struct vx_st *st, size_t i) {
    return &st->entries[i].t;
}

int64_t vx_st_find(const struct vx_st *st, const char *name) {
    for (size_t i = 0; i < st->n; i++) {
        if (strcmp(st->entries[i].t.name, name) == 0) {
            return (int64_t)i;
        }
    }
    return -1;
}

const char *vx_st_metadata(const struct vx_st *st, const char *key) {
    return json_string_value(json_object_get(json_object_get(st->header, METADATA_KEY), key));
}

int vx_st_read(const struct vx_st *st, size_t i, void *dst, struct vx_err *err) {
    const struct entry *e = &st->entries[i];
    int rc = vx_pread_all(st->fd, dst, (size_t)(e->end - e->begin), (off_t)(st->data_at + e->begin),
                          err);
    if (rc != VX_OK) {
        vx_err_prefix(err, "%s", st->path);
        vx_err_at(err, "%s", st->path);
    }
    return rc;
}
