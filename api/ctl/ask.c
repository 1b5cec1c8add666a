/* What voxelctl's verbs share. */
#include "verbs.h"

#include <stdio.h>

json_t *ask(struct context *x, const char *method, const char *path, const char *body) {
    json_t *reply = NULL;
    int status = vx_ctl_request(x->client, method, path, body, &reply);
    if (status >= 200 && status < 300) {
        return reply ? reply : json_object();
    }
    if (status > 0) {
        vx_ctl_complain(status, reply);
    }
    json_decref(reply);
    return NULL;
}

const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

void print_json(const json_t *value) {
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    putchar('\n');
}
