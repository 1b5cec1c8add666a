#include "prepare/verify/findings.h"

#include "base/err.h"
#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vx_finding *grow(struct vx_findings *f) {
    if ((f->n & (f->n - 1)) == 0) { /* full at powers of two */
        struct vx_finding *list = realloc(f->list, (f->n ? 2 * f->n : 1) * sizeof *list);
        if (!list) {
            return NULL;
        }
        f->list = list;
    }
    struct vx_finding *one = &f->list[f->n++];
    *one = (struct vx_finding){0};
    return one;
}

int findings_add(struct vx_findings *f, const struct finding_key *key, const char *fmt, ...) {
    struct vx_finding *one = grow(f);
    if (!one) {
        return VX_E_NOMEM;
    }
    one->warning = key->warning;
    snprintf(one->case_name, sizeof one->case_name, "%s", key->case_name ? key->case_name : "");
    snprintf(one->file, sizeof one->file, "%s", key->file ? key->file : "");
    snprintf(one->field, sizeof one->field, "%s", key->field ? key->field : "");
    snprintf(one->code, sizeof one->code, "%s", key->code);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(one->text, sizeof one->text, fmt, ap);
    va_end(ap);
    return VX_OK;
}

void vx_findings_release(struct vx_findings *f) {
    free(f->list);
    *f = (struct vx_findings){0};
}

bool vx_findings_ok(const struct vx_findings *f) {
    for (size_t i = 0; i < f->n; i++) {
        if (!f->list[i].warning) {
            return false;
        }
    }
    return true;
}

/* File names are bytes; JSON wants UTF-8. Bytes that are none become '?'. */
static json_t *text_json(const char *bytes) {
    json_t *s = json_string(bytes);
    if (!s) {
        char copy[sizeof(struct vx_finding)];
        snprintf(copy, sizeof copy, "%s", bytes);
        for (char *p = copy; *p; p++) {
            *p = (unsigned char)*p < 0x80 ? *p : '?';
        }
        s = json_string(copy);
    }
    return s;
}

json_t *vx_findings_to_json(const struct vx_findings *f, size_t n_cases) {
    json_t *list = json_array();
    json_int_t warnings = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct vx_finding *one = &f->list[i];
        warnings += one->warning;
        json_array_append_new(list, json_pack("{s:s,s:o,s:o,s:s,s:s,s:o}", "severity",
                                              one->warning ? "warning" : "error", "case",
                                              text_json(one->case_name), "file",
                                              text_json(one->file), "field", one->field, "code",
                                              one->code, "message", text_json(one->text)));
    }
    json_int_t errors = (json_int_t)f->n - warnings;
    return json_pack("{s:b,s:I,s:I,s:I,s:o}", "ok", errors == 0, "cases", (json_int_t)n_cases,
                     "errors", errors, "warnings", warnings, "findings", list);
}

int vx_findings_from_json(const json_t *json, struct vx_findings *f, struct vx_err *err) {
    const json_t *list = json_object_get(json, "findings");
    size_t i;
    json_t *entry;
    if (!json_is_array(list)) {
        return vx_fail(err, VX_E_CORRUPT, "bad_report", "an integrity report without \"findings\"");
    }
    json_array_foreach(list, i, entry) {
        const char *severity, *name, *file, *field, *code, *message;
        if (json_unpack(entry, "{s:s,s:s,s:s,s:s,s:s,s:s}", "severity", &severity, "case", &name,
                        "file", &file, "field", &field, "code", &code, "message", &message) != 0) {
            return vx_fail(err, VX_E_CORRUPT, "bad_report",
                           "finding %zu of an integrity report lacks a field", i);
        }
        struct finding_key key = {strcmp(severity, "warning") == 0, name, file, field, code};
        if (findings_add(f, &key, "%s", message) != VX_OK) {
            return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
        }
    }
    return VX_OK;
}
