#include "base/json.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void vx_json_problem(struct vx_json_problems *ps, const char *pointer, const char *code,
                     const char *fmt, ...) {
    size_t at = ps->n++;
    if (at >= VX_JSON_MAX_PROBLEMS) {
        return;
    }
    struct vx_json_problem *p = &ps->list[at];
    snprintf(p->pointer, sizeof p->pointer, "%s", pointer);
    snprintf(p->code, sizeof p->code, "%s", code);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->text, sizeof p->text, fmt, ap);
    va_end(ap);
}

/* base + "/" + key with RFC 6901 escapes. */
static void pointer_to(const char *base, const char *key, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "%s/", base);
    for (; *key && n + 2 < size; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    if (n < size) {
        out[n] = '\0';
    }
}

/* Nesting depth of JSON text, strings skipped; cheap guard before the recursive parser runs. */
static int text_depth(const char *text, size_t len) {
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return deepest;
}

int vx_json_parse(const char *text, size_t len, size_t max_bytes, int max_depth, json_t **ret,
                  struct vx_err *err) {
    if (len > max_bytes) {
        return vx_fail(err, VX_E_LIMIT, "json_too_large",
                       "JSON of %zu bytes; at most %zu are accepted", len, max_bytes);
    }
    if (text_depth(text, len) > max_depth) {
        return vx_fail(err, VX_E_LIMIT, "json_too_deep", "JSON is nested deeper than %d levels",
                       max_depth);
    }
    json_error_t e;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!value) {
        return vx_fail(err, VX_E_INVALID, "malformed_json", "line %d, column %d: %s", e.line,
                       e.column, e.text);
    }
    *ret = value;
    return VX_OK;
}

int vx_json_load_file(const char *path, size_t max_bytes, json_t **ret, struct vx_err *err) {
    vx_auto_free char *text = NULL;
    size_t len = 0;
    int rc = vx_read_file(path, max_bytes, &text, &len, err);
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_json_parse(text, len, max_bytes, 64, ret, err);
    if (rc != VX_OK) {
        vx_err_prefix(err, "%s", path);
        vx_err_at(err, "%s", path);
    }
    return rc;
}

char *vx_json_canonical(const json_t *value) {
    return json_dumps(value,
                      JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

int vx_json_write_file(const char *path, const json_t *value, struct vx_err *err) {
    vx_auto_free char *text =
        json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!text) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return vx_write_file_atomic(path, text, strlen(text), 0644, err);
}

static const json_t *look_up(const json_t *obj, const char *base, const char *key, char *pointer,
                             size_t size) {
    pointer_to(base, key, pointer, size);
    return json_object_get(obj, key);
}

bool vx_json_get_int(const json_t *obj, const char *base, const char *key, int64_t lo, int64_t hi,
                     int64_t *out, struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (!v) {
        return false;
    }
    if (!json_is_integer(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be an integer");
        return false;
    }
    int64_t x = json_integer_value(v);
    if (x < lo || x > hi) {
        vx_json_problem(ps, at, "out_of_range", "must be between %lld and %lld", (long long)lo,
                        (long long)hi);
        return false;
    }
    *out = x;
    return true;
}

bool vx_json_get_real(const json_t *obj, const char *base, const char *key, double lo, double hi,
                      double *out, struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (!v) {
        return false;
    }
    if (!json_is_number(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be a number");
        return false;
    }
    double x = json_number_value(v);
    if (!isfinite(x) || x < lo || x > hi) {
        vx_json_problem(ps, at, "out_of_range", "must be between %g and %g", lo, hi);
        return false;
    }
    *out = x;
    return true;
}

bool vx_json_get_bool(const json_t *obj, const char *base, const char *key, bool *out,
                      struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (!v) {
        return false;
    }
    if (!json_is_boolean(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be true or false");
        return false;
    }
    *out = json_is_true(v);
    return true;
}

bool vx_json_get_string(const json_t *obj, const char *base, const char *key, char *out,
                        size_t size, struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (!v) {
        return false;
    }
    if (!json_is_string(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be a string");
        return false;
    }
    const char *text = json_string_value(v);
    size_t len = json_string_length(v);
    if (len == 0 || len >= size) {
        vx_json_problem(ps, at, "out_of_range", "must have 1 to %zu characters", size - 1);
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            vx_json_problem(ps, at, "invalid_value", "must not contain control characters");
            return false;
        }
    }
    memcpy(out, text, len + 1);
    return true;
}

const json_t *vx_json_get_object(const json_t *obj, const char *base, const char *key,
                                 struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (v && !json_is_object(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be an object");
        return NULL;
    }
    return v;
}

const json_t *vx_json_get_array(const json_t *obj, const char *base, const char *key, size_t min,
                                size_t max, struct vx_json_problems *ps) {
    char at[160];
    const json_t *v = look_up(obj, base, key, at, sizeof at);
    if (!v) {
        return NULL;
    }
    if (!json_is_array(v)) {
        vx_json_problem(ps, at, "wrong_type", "must be an array");
        return NULL;
    }
    if (json_array_size(v) < min || json_array_size(v) > max) {
        vx_json_problem(ps, at, "out_of_range", "must have %zu to %zu elements", min, max);
        return NULL;
    }
    return v;
}

void vx_json_only_keys(const json_t *obj, const char *base, const char *const *keys,
                       struct vx_json_problems *ps) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)obj, key, value) {
        bool known = false;
        for (const char *const *k = keys; *k && !known; k++) {
            known = strcmp(*k, key) == 0;
        }
        if (!known) {
            char at[160];
            pointer_to(base, key, at, sizeof at);
            vx_json_problem(ps, at, "unknown_key", "is not a known key here");
        }
    }
}
