/* See say.h. */
#include "daemon/roles/say.h"

#include "base/err.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

void vx_say(json_t *line) {
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (text) {
        /* one write, so that lines of several threads or a kill in between never mix */
        fprintf(stdout, "%s\n", text);
        fflush(stdout);
    }
    free(text);
    json_decref(line);
}

json_t *vx_say_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int vx_say_error(const char *verb, const struct vx_err *err) {
    /* another process may do better after a lost device, a lack of memory, or what another process
     * still holds; nothing else heals by itself */
    bool retry = err->code == VX_E_DEVICE || err->code == VX_E_NOMEM || err->code == VX_E_BUSY;
    vx_say(json_pack("{s:{s:s, s:s, s:s, s:s, s:b, s:i}}", "error", "code",
                     err->reason[0] ? err->reason : vx_status_word(err->code), "message", err->text,
                     "where", err->where, "status", vx_status_word(err->code), "retry", retry,
                     "native", err->native));
    fprintf(stderr, "voxeld %s: %s%s%s\n", verb, err->text, err->where[0] ? ": " : "", err->where);
    return 1;
}
