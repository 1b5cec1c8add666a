/* See recorder.h. */
#include "daemon/results/recorder.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/results/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define DRAW_EVERY_NS    10000000000ull
#define MAX_EPOCHS_BYTES (256u << 20)

struct vx_recorder {
    char *dir;
    int log_fd, epochs_fd;
    struct vx_progress_point *points; /* in order of epochs, one each */
    size_t n, cap;
    uint64_t drawn_ns;
};

static double real_of(const json_t *line, const char *key) {
    const json_t *v = json_object_get(line, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void add_point(struct vx_recorder *r, const json_t *line) {
    struct vx_progress_point p = {(int)json_integer_value(json_object_get(line, "epoch")),
                                  real_of(line, "train_loss"),
                                  real_of(line, "val_loss"),
                                  real_of(line, "mean_dice"),
                                  real_of(line, "ema_dice"),
                                  real_of(line, "lr"),
                                  real_of(line, "seconds")};
    while (r->n > 0 && r->points[r->n - 1].epoch >= p.epoch) {
        r->n--; /* a resumed job does some epochs again */
    }
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct vx_progress_point *grown = realloc(r->points, cap * sizeof *grown);
        if (!grown) {
            return; /* the picture will lack the newest epochs; log and epochs.jsonl are whole */
        }
        r->points = grown;
        r->cap = cap;
    }
    r->points[r->n++] = p;
}

static void load_points(struct vx_recorder *r, const char *path) {
    vx_auto_free char *text = NULL;
    size_t len = 0;
    if (vx_read_file(path, MAX_EPOCHS_BYTES, &text, &len, NULL) != VX_OK) {
        return;
    }
    for (char *at = text, *nl; (nl = strchr(at, '\n')) != NULL; at = nl + 1) {
        vx_auto_json json_t *line = NULL;
        if (vx_json_parse(at, (size_t)(nl - at), 1 << 20, 16, &line, NULL) == VX_OK) {
            add_point(r, line);
        }
    }
}

int vx_recorder_open(const char *dir, struct vx_recorder **ret, struct vx_err *err) {
    struct vx_recorder *r = calloc(1, sizeof *r);
    vx_auto_free char *log = vx_strf("%s/log.txt", dir);
    vx_auto_free char *epochs = vx_strf("%s/epochs.jsonl", dir);
    if (!r || !log || !epochs) {
        free(r);
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    r->epochs_fd = -1;
    r->dir = strdup(dir);
    r->log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (r->log_fd < 0) {
        int rc = vx_fail_errno(err, errno, log, "cannot open the job's log");
        vx_recorder_close(r);
        return rc;
    }
    load_points(r, epochs);
    if (!r->dir) {
        vx_recorder_close(r);
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", dir);
    }
    *ret = r;
    return VX_OK;
}

void vx_recorder_close(struct vx_recorder *r) {
    if (r) {
        if (r->log_fd >= 0) {
            close(r->log_fd);
        }
        if (r->epochs_fd >= 0) {
            close(r->epochs_fd);
        }
        free(r->points);
        free(r->dir);
        free(r);
    }
}

void vx_recorder_say(struct vx_recorder *r, const char *fmt, ...) {
    char text[4096];
    int64_t ms = vx_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    localtime_r(&seconds, &tm);
    size_t at = strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    at += (size_t)snprintf(text + at, sizeof text - at, ".%03d000: ", (int)(ms % 1000));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text + at, sizeof text - at - 1, fmt, ap);
    va_end(ap);
    at += n < 0 ? 0 : (size_t)n < sizeof text - at - 1 ? (size_t)n : sizeof text - at - 2;
    text[at++] = '\n';
    vx_write_all(r->log_fd, text, at,
                 NULL); /* a full disk must not end a training that could go on */
}

/* nnU-Net's lines of an epoch. */
static void say_epoch(struct vx_recorder *r, const json_t *line) {
    vx_recorder_say(r, "Epoch %lld", (long long)json_integer_value(json_object_get(line, "epoch")));
    vx_recorder_say(r, "Current learning rate: %.5f", real_of(line, "lr"));
    vx_recorder_say(r, "train_loss %.4f", real_of(line, "train_loss"));
    vx_recorder_say(r, "val_loss %.4f", real_of(line, "val_loss"));
    char list[2048] = "";
    size_t at = 0, i;
    const json_t *v;
    json_array_foreach(json_object_get(line, "dice"), i, v) {
        if (at < sizeof list - 32) {
            double dice = json_is_number(v) ? json_number_value(v) : NAN;
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%.4f", i ? ", " : "", dice);
        }
    }
    vx_recorder_say(r, "Pseudo dice [%s]", list);
    vx_recorder_say(r, "Epoch time: %.2f s", real_of(line, "seconds"));
    if (json_is_true(json_object_get(line, "is_best"))) {
        vx_recorder_say(r, "New best EMA pseudo Dice: %.4f", real_of(line, "ema_dice"));
    }
}

/* With the first epoch: a job without any has no history. */
static bool open_epochs(struct vx_recorder *r) {
    vx_auto_free char *path = r->epochs_fd < 0 ? vx_strf("%s/epochs.jsonl", r->dir) : NULL;
    if (path) {
        r->epochs_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    return r->epochs_fd >= 0;
}

static void take_epoch(struct vx_recorder *r, const json_t *line) {
    say_epoch(r, line);
    add_point(r, line);
    vx_auto_free char *text = json_dumps(line, JSON_COMPACT);
    vx_auto_free char *full = text ? vx_strf("%s\n", text) : NULL;
    if (full && open_epochs(r)) {
        vx_write_all(r->epochs_fd, full, strlen(full), NULL);
    }
    if (vx_now_ns() - r->drawn_ns > DRAW_EVERY_NS) {
        vx_recorder_draw(r, NULL); /* drawn again at the end, where a failure counts */
    }
}

/* seconds: of a prediction's case, NULL in a validation. */
static void say_case(struct vx_recorder *r, const char *name, const json_t *seconds) {
    if (seconds) {
        vx_recorder_say(r, "predicted %s (%.2f s preparing, %.2f s network, %.2f s export)", name,
                        real_of(seconds, "prepare"), real_of(seconds, "network"),
                        real_of(seconds, "export"));
    } else {
        vx_recorder_say(r, "predicting %s", name);
    }
}

static void say_result(struct vx_recorder *r, const json_t *line) {
    const json_t *validation = json_object_get(line, "validation");
    const char *output = json_string_value(json_object_get(line, "output"));
    if (validation) {
        vx_recorder_say(r, "Validation complete");
        vx_recorder_say(r, "Mean Validation Dice: %.16g", real_of(validation, "mean_dice"));
    } else if (output) {
        vx_recorder_say(r, "Prediction complete: %lld cases in %s",
                        (long long)json_integer_value(json_object_get(line, "cases")), output);
    }
}

void vx_recorder_line(struct vx_recorder *r, const json_t *line) {
    const json_t *error = json_object_get(line, "error");
    const char *event = json_string_value(json_object_get(line, "event"));
    if (json_is_object(error)) {
        const char *message = json_string_value(json_object_get(error, "message"));
        const char *where = json_string_value(json_object_get(error, "where"));
        vx_recorder_say(r, "error: %s %s", message ? message : "?", where ? where : "");
        return;
    }
    if (!event) {
        return;
    }
    if (strcmp(event, "epoch") == 0) {
        take_epoch(r, line);
    } else if (strcmp(event, "loaded") == 0) {
        vx_recorder_say(r, "%s at epoch %lld, batch %lld",
                        json_is_true(json_object_get(line, "resumed")) ? "Resuming" : "Starting",
                        (long long)json_integer_value(json_object_get(line, "epoch")),
                        (long long)json_integer_value(json_object_get(line, "batches")));
    } else if (strcmp(event, "trajectory") == 0) {
        const char *why = json_string_value(json_object_get(line, "message"));
        vx_recorder_say(r, "the trajectory is approximate from here on: %s", why ? why : "?");
    } else if (strcmp(event, "phase") == 0) {
        const char *phase = json_string_value(json_object_get(line, "phase"));
        vx_recorder_say(r, "phase: %s", phase ? phase : "?");
    } else if (strcmp(event, "case") == 0) {
        const char *name = json_string_value(json_object_get(line, "case"));
        say_case(r, name ? name : "?", json_object_get(line, "seconds"));
    } else if (strcmp(event, "result") == 0) {
        say_result(r, line);
    }
}

int vx_recorder_draw(struct vx_recorder *r, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/progress.png", r->dir);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "progress.png");
    }
    r->drawn_ns = vx_now_ns();
    return vx_progress_write(path, r->points, r->n, err);
}
