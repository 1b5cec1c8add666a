/* Reading JSON strictly: typed access that records every problem with its JSON pointer (RFC 6901),
 * so that a reply can name all of them at once. Thread: one at a time per reader. */
#ifndef VX_BASE_JSON_H
#define VX_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;

#define VX_JSON_MAX_PROBLEMS 32

struct vx_json_problem {
    char pointer[160];
    char code[32]; /* "unknown_key", "wrong_type", "out_of_range", "missing", "invalid_value" */
    char text[200];
};

struct vx_json_problems {
    size_t n; /* problems found, also those past the end of the list */
    struct vx_json_problem list[VX_JSON_MAX_PROBLEMS];
};

void vx_json_problem(struct vx_json_problems *ps, const char *pointer, const char *code,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Text to JSON with limits on bytes and nesting depth; duplicate keys are refused. New reference in
 * *ret. */
int vx_json_parse(const char *text, size_t len, size_t max_bytes, int max_depth, json_t **ret,
                  struct vx_err *err);
int vx_json_load_file(const char *path, size_t max_bytes, json_t **ret, struct vx_err *err);
/* Canonical text: sorted keys, no spaces, shortest round-trip numbers. Caller frees. */
char *vx_json_canonical(const json_t *value);
int vx_json_write_file(const char *path, const json_t *value,
                       struct vx_err *err); /* indented, atomic */

/* Each getter looks up key in obj (a JSON object at pointer base). Absent keys leave *out untouched
 * and return false; a value of the wrong type or out of range adds a problem and returns false.
 * Ranges are inclusive. */
bool vx_json_get_int(const json_t *obj, const char *base, const char *key, int64_t lo, int64_t hi,
                     int64_t *out, struct vx_json_problems *ps);
bool vx_json_get_real(const json_t *obj, const char *base, const char *key, double lo, double hi,
                      double *out, struct vx_json_problems *ps);
bool vx_json_get_bool(const json_t *obj, const char *base, const char *key, bool *out,
                      struct vx_json_problems *ps);
/* Copies at most size - 1 bytes; longer strings, empty strings and control characters are problems.
 */
bool vx_json_get_string(const json_t *obj, const char *base, const char *key, char *out,
                        size_t size, struct vx_json_problems *ps);
/* Borrowed sub-object or array; NULL when absent (or a problem). */
const json_t *vx_json_get_object(const json_t *obj, const char *base, const char *key,
                                 struct vx_json_problems *ps);
const json_t *vx_json_get_array(const json_t *obj, const char *base, const char *key, size_t min,
                                size_t max, struct vx_json_problems *ps);
/* Adds an "unknown_key" problem for every key of obj that is not in the NULL-terminated list. */
void vx_json_only_keys(const json_t *obj, const char *base, const char *const *keys,
                       struct vx_json_problems *ps);

#endif
