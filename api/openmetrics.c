#include "api/openmetrics.h"

#include <string.h>

#define MEDIA "application/openmetrics-text"

int vx_openmetrics_wanted(const char *accept) {
    return accept && strstr(accept, MEDIA) != NULL;
}

/* "# HELP NAME_total ..." and "# TYPE NAME_total counter" lose the _total; samples keep it. */
static void add_line(const char *line, size_t n, struct vx_buf *out) {
    static const char suffix[] = "_total";
    size_t cut = sizeof suffix - 1;
    if (n > 7 && (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0)) {
        size_t name = 0;
        while (7 + name < n && line[7 + name] != ' ') {
            name++;
        }
        if (name > cut && strncmp(line + 7 + name - cut, suffix, cut) == 0) {
            vx_buf_add(out, line, 7 + name - cut);
            vx_buf_add(out, line + 7 + name, n - 7 - name);
            return;
        }
    }
    vx_buf_add(out, line, n);
}

void vx_openmetrics(const char *text, struct vx_buf *out) {
    while (*text) {
        size_t n = strcspn(text, "\n");
        add_line(text, n, out);
        vx_buf_puts(out, "\n");
        text += n + (text[n] == '\n');
    }
    vx_buf_puts(out, "# EOF\n");
}
