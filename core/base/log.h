/* Logging to stderr: one line, `component event key=value ...`. Levels: err, an operation failed;
 * warn, going on anyway; notice, lifecycle; info, per job or epoch; debug, the rest.
 * With JOURNAL_STREAM set, lines carry the <N> prefix that journald reads; otherwise a UTC time.
 * Rooms below db never log above debug: they return errors, and daemon or a handler logs once.
 * Thread: any. */
#ifndef VX_BASE_LOG_H
#define VX_BASE_LOG_H

enum vx_log_level {
    VX_LOG_ERR = 3,
    VX_LOG_WARN = 4,
    VX_LOG_NOTICE = 5,
    VX_LOG_INFO = 6,
    VX_LOG_DEBUG = 7
};

/* Highest level printed; default VX_LOG_INFO, or $VOXELD_LOG (err, warn, notice, info, debug). */
void vx_log_set_level(enum vx_log_level level);
void vx_log(enum vx_log_level level, const char *component, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define vx_log_err(component, ...)    vx_log(VX_LOG_ERR, component, __VA_ARGS__)
#define vx_log_warn(component, ...)   vx_log(VX_LOG_WARN, component, __VA_ARGS__)
#define vx_log_notice(component, ...) vx_log(VX_LOG_NOTICE, component, __VA_ARGS__)
#define vx_log_info(component, ...)   vx_log(VX_LOG_INFO, component, __VA_ARGS__)
#define vx_log_debug(component, ...)  vx_log(VX_LOG_DEBUG, component, __VA_ARGS__)

#endif
