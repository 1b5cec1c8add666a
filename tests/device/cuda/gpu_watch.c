/* gpu_watch: runs a `voxeld train` and says what its own lines and NVIDIA's management library tell
 * of the time between the end of its first epochs and its end.
 *   gpu_watch NAME [--seconds S] [--limit S] [--epochs N --within S] [--nvml FILE] -- COMMAND...
 *     --seconds   stop the training when so much has been watched; else its schedule is kept
 *     --limit     stop it so long after its start, whatever it does
 *     --within    give up after three epochs where N of them will not be done in S seconds from the
 *                 start; exit status 75, "epoch_seconds" says what one takes
 * One JSON object on a line: {"check": NAME, ...}. SM activity is GPM's (share of multiprocessors
 * with work, Hopper and later); where the library does not give it, "sm_active" is null and
 * "sm_active_lacks" says why; its utilisation (share of time with any kernel) is another thing and
 * reported beside it. Exit status: the training's, 0 where it was stopped as asked. */
#include "base/clock.h"
#include "base/err.h"
#include "daemon/evidence/gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM_EPOCHS = 1, TRIAL_EPOCHS = 3, LOOK_MS = 250, PATIENCE_S = 3, TOO_SLOW = 75 };

struct figures {
    int looks, active; /* all; those with SM activity */
    double sm, tensor, dram, utilisation, watts, clock_hz;
};

struct watch {
    const char *name, *nvml;
    double seconds, within, limit; /* 0: not asked for */
    int epochs;
    pid_t pid;
    int out;
    uint64_t started, warm, ended; /* ended: of the last epoch so far */
    uint64_t asked_to_stop;
    bool too_slow;
    struct vx_gpus *gpus;
    struct vx_err no_gpus;
    struct figures now; /* since warm */
    int watched;        /* epochs behind the warm ones */
    double epoch_seconds, first_seconds;
    json_t *phases, *last, *result, *error;
    char line[1 << 16];
    size_t length;
};

static volatile sig_atomic_t interrupted;

static void on_term(int signum) {
    (void)signum;
    interrupted = 1;
}

static double since(uint64_t start) {
    return (double)(vx_now_ns() - start) * 1e-9;
}

static void stop(struct watch *w) {
    if (w->asked_to_stop == 0) {
        w->asked_to_stop = vx_now_ns();
        kill(w->pid, SIGTERM);
    } else if (since(w->asked_to_stop) > PATIENCE_S) {
        kill(w->pid, SIGKILL);
    }
}

/* --- the training's lines --- */

static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static void add_phases(struct watch *w, json_t *phases) {
    const char *key;
    json_t *value;
    json_object_foreach(phases, key, value) {
        json_object_set_new(w->phases, key,
                            json_real(number(w->phases, key) + json_number_value(value)));
    }
}

static void take_epoch(struct watch *w, json_t *line) {
    int n = (int)number(line, "epoch") + 1;
    json_decref(w->last);
    w->last = json_incref(line);
    w->ended = vx_now_ns();
    if (w->warm == 0) {
        w->warm = n >= WARM_EPOCHS ? w->ended : 0;
        w->first_seconds = since(w->started);
        return;
    }
    w->watched++;
    w->epoch_seconds += number(line, "seconds");
    add_phases(w, json_object_get(line, "phases"));
    double left = (w->epochs - n) * w->epoch_seconds / w->watched;
    if (w->within > 0 && w->watched == TRIAL_EPOCHS - WARM_EPOCHS &&
        since(w->started) + left > w->within) {
        w->too_slow = true;
        stop(w);
    }
}

static void take_line(struct watch *w) {
    json_t *line = json_loadb(w->line, w->length, 0, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event && strcmp(event, "epoch") == 0) {
        take_epoch(w, line);
    } else if (event && strcmp(event, "result") == 0) {
        json_decref(w->result);
        w->result = json_incref(line);
    } else if (json_object_get(line, "error")) {
        json_decref(w->error);
        w->error = json_incref(json_object_get(line, "error"));
    }
    json_decref(line);
}

/* False at the end. */
static bool take_output(struct watch *w) {
    char piece[4096];
    ssize_t n = read(w->out, piece, sizeof piece);
    for (ssize_t i = 0; i < n; i++) {
        if (piece[i] == '\n') {
            take_line(w);
            w->length = 0;
        } else if (w->length < sizeof w->line) {
            w->line[w->length++] = piece[i];
        }
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* --- the GPU --- */

static void look(struct watch *w) {
    struct vx_gpu g;
    if (!w->gpus) {
        return;
    }
    vx_gpus_look(w->gpus, 0, false, &g);
    if (w->warm == 0 || w->asked_to_stop) {
        return; /* the looks before only say from when on GPM counts */
    }
    struct figures *f = &w->now;
    f->looks++;
    f->utilisation += g.has & VX_GPU_UTILISATION ? g.utilisation : 0;
    f->watts += g.has & VX_GPU_POWER ? g.power_watts : 0;
    f->clock_hz += g.has & VX_GPU_CLOCK ? g.sm_clock_hz : 0;
    if (g.has & VX_GPU_ACTIVITY) {
        f->active++;
        f->sm += g.sm_active;
        f->tensor += g.tensor_active;
        f->dram += g.dram_active;
    }
}

static json_t *share(double sum, int n) {
    return n > 0 ? json_real(sum / n) : json_null();
}

static void say_gpu(const struct watch *w, json_t *o) {
    const struct figures *f = &w->now;
    json_object_set_new(o, "looks", json_integer(f->active));
    json_object_set_new(o, "sm_active", share(f->sm, f->active));
    json_object_set_new(o, "tensor_active", share(f->tensor, f->active));
    json_object_set_new(o, "dram_active", share(f->dram, f->active));
    json_object_set_new(o, "utilisation", share(f->utilisation, f->looks));
    json_object_set_new(o, "power_watts", share(f->watts, f->looks));
    json_object_set_new(o, "sm_clock_mhz", share(f->clock_hz * 1e-6, f->looks));
    if (f->active == 0) {
        const char *why = !w->gpus       ? w->no_gpus.text
                          : f->looks > 0 ? "the management library gives no GPM figures here"
                                         : "no epoch was watched";
        json_object_set_new(o, "sm_active_lacks", json_string(why));
    }
}

/* --- a training --- */

static int start(struct watch *w, char **command) {
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        return -1;
    }
    w->pid = fork();
    if (w->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(pipes[1], STDOUT_FILENO);
        execvp(command[0], command);
        fprintf(stderr, "gpu_watch: %s: %s\n", command[0], strerror(errno));
        _exit(127);
    }
    close(pipes[1]);
    w->out = pipes[0];
    fcntl(w->out, F_SETFL, O_NONBLOCK);
    w->started = vx_now_ns();
    return w->pid > 0 ? 0 : -1;
}

static void follow(struct watch *w) {
    struct pollfd poll_out = {.fd = w->out, .events = POLLIN};
    uint64_t looked = 0;
    for (bool more = true; more;) {
        int n = poll(&poll_out, 1, LOOK_MS);
        if (n > 0) {
            more = take_output(w);
        }
        if (since(looked) * 1e3 >= LOOK_MS) {
            look(w);
            looked = vx_now_ns();
        }
        bool enough = w->seconds > 0 && w->warm && since(w->warm) >= w->seconds && w->watched > 0;
        bool late = w->limit > 0 && since(w->started) >= w->limit;
        if (interrupted || enough || late || w->asked_to_stop) {
            stop(w);
        }
    }
}

static int reap(const struct watch *w) {
    int status = 0;
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool say(const struct watch *w, int status) {
    double all = 0, wait = number(w->phases, "wait_loader");
    const char *key;
    json_t *value;
    json_object_foreach(w->phases, key, value) {
        all += json_number_value(value);
    }
    json_t *o = json_pack("{s:s, s:i, s:i, s:f, s:f, s:o, s:o, s:O}", "check", w->name, "status",
                          status, "epochs", w->watched, "seconds", since(w->started),
                          "first_epoch_at", w->first_seconds, "epoch_seconds",
                          share(w->epoch_seconds, w->watched), "loader_wait_share",
                          all > 0 ? json_real(wait / all) : json_null(), "phases", w->phases);
    json_object_set_new(o, "stopped", json_boolean(w->asked_to_stop > 0));
    json_object_set_new(o, "too_slow", json_boolean(w->too_slow));
    say_gpu(w, o);
    json_t *parts[] = {w->last, w->result, w->error};
    static const char *const names[] = {"last_epoch", "result", "error"};
    for (int i = 0; i < 3; i++) {
        if (parts[i]) {
            json_object_set(o, names[i], parts[i]);
        }
    }
    bool passed = w->watched > 0 && !w->too_slow && (w->seconds > 0 || (status == 0 && w->result));
    json_object_set_new(o, "passed", json_boolean(passed));
    char *text = json_dumps(o, JSON_REAL_PRECISION(6));
    puts(text);
    free(text);
    json_decref(o);
    return passed;
}

static int usage(void) {
    fputs(
        "usage: gpu_watch NAME [--seconds S] [--limit S] [--epochs N --within S] [--nvml FILE] -- "
        "COMMAND...\n",
        stderr);
    return 2;
}

int main(int argc, char **argv) {
    struct watch w = {.name = argc > 1 ? argv[1] : "", .phases = json_object()};
    int i = 2;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        const char *option = argv[i], *v = argv[i + 1];
        if (strcmp(option, "--seconds") == 0) {
            w.seconds = atof(v);
        } else if (strcmp(option, "--within") == 0) {
            w.within = atof(v);
        } else if (strcmp(option, "--limit") == 0) {
            w.limit = atof(v);
        } else if (strcmp(option, "--epochs") == 0) {
            w.epochs = atoi(v);
        } else if (strcmp(option, "--nvml") == 0) {
            w.nvml = v;
        } else {
            return usage();
        }
    }
    if (i + 1 >= argc) {
        return usage();
    }
    /* Not restarted: a signal is to be seen at once. */
    struct sigaction act = {.sa_handler = on_term};
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    if (vx_gpus_open(w.nvml, &w.gpus, &w.no_gpus) == VX_OK && vx_gpus_count(w.gpus) == 0) {
        w.gpus = vx_gpus_close(w.gpus);
        vx_fail(&w.no_gpus, VX_E_NOT_FOUND, NULL, "the management library knows no GPU");
    }
    if (start(&w, argv + i + 1) != 0) {
        perror("gpu_watch");
        return 1;
    }
    follow(&w);
    int status = reap(&w);
    bool passed = say(&w, status);
    w.gpus = vx_gpus_close(w.gpus);
    json_decref(w.phases);
    json_decref(w.last);
    json_decref(w.result);
    json_decref(w.error);
    close(w.out);
    return passed ? 0 : w.too_slow ? TOO_SLOW : status ? status : 1;
}
