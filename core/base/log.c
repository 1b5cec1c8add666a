#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int g_level = -1;

static int level_from_env(void) {
    static const struct {
        const char *name;
        int level;
    } names[] = {{"err", VX_LOG_ERR},
                 {"warn", VX_LOG_WARN},
                 {"notice", VX_LOG_NOTICE},
                 {"info", VX_LOG_INFO},
                 {"debug", VX_LOG_DEBUG}};
    const char *text = getenv("VOXELD_LOG");
    for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].name) == 0) {
            return names[i].level;
        }
    }
    return VX_LOG_INFO;
}

void vx_log_set_level(enum vx_log_level level) {
    atomic_store(&g_level, (int)level);
}

void vx_log(enum vx_log_level level, const char *component, const char *fmt, ...) {
    int limit = atomic_load(&g_level);
    if (limit < 0) {
        limit = level_from_env();
        atomic_store(&g_level, limit);
    }
    if ((int)level > limit) {
        return;
    }
    int saved = errno;
    char line[1400];
    int n;
    if (getenv("JOURNAL_STREAM")) {
        n = snprintf(line, sizeof line, "<%d>%s ", (int)level, component);
    } else {
        struct timespec now;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        static const char *const words[] = {"", "", "", "err", "warn", "notice", "info", "debug"};
        n = snprintf(line, sizeof line, "%02d:%02d:%02d.%03ld %s %s ", tm.tm_hour, tm.tm_min,
                     tm.tm_sec, now.tv_nsec / 1000000, words[level], component);
    }
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof line - 2) {
        len = sizeof line - 2;
    }
    for (size_t i = 0; i < len; i++) { /* one event is one line, whatever a user put into a name */
        if (line[i] == '\n' || line[i] == '\r') {
            line[i] = ' ';
        }
    }
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0) {
        /* nobody is left to tell */
    }
    errno = saved;
}
