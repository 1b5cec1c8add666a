/* voxelctl: jobs and data sets. */
#include "verbs.h"

#include "base/io.h"
#include "base/own.h"

#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

/* Between 0 and 1; -1 where nothing is known. */
static double fraction_of(const json_t *job) {
    static const char *const pairs[][2] = {{"done", "total"}, {"epoch", "epochs"}};
    const json_t *p = json_object_get(job, "progress");
    if (strcmp(text_of(job, "state"), "succeeded") == 0) {
        return 1;
    }
    if (json_is_number(json_object_get(p, "fraction"))) {
        return json_number_value(json_object_get(p, "fraction"));
    }
    for (size_t i = 0; i < VX_COUNTOF(pairs); i++) {
        double all = json_number_value(json_object_get(p, pairs[i][1]));
        if (all > 0) {
            return json_number_value(json_object_get(p, pairs[i][0])) / all;
        }
    }
    return -1;
}

static void print_job_line(const json_t *job) {
    double at = fraction_of(job);
    char share[8] = "";
    if (at >= 0) {
        snprintf(share, sizeof share, "%3.0f%%", 100 * at);
    }
    vx_auto_free char *fold = json_dumps(json_object_get(job, "fold"), JSON_ENCODE_ANY);
    printf("%6lld  %-11s %5s  %-32s %-14s fold %-5s %s\n",
           (long long)json_integer_value(json_object_get(job, "id")), text_of(job, "state"), share,
           text_of(job, "dataset"), text_of(job, "configuration"), fold ? fold : "",
           text_of(json_object_get(job, "reason"), "message"));
}

static int show_job(struct context *x, json_t *job) {
    if (!job) {
        return 1;
    }
    if (x->json) {
        print_json(job);
    } else {
        print_job_line(job);
    }
    json_decref(job);
    return 0;
}

int verb_submit(struct context *x, char **args) {
    vx_auto_free char *body = vx_ctl_read(args[0]);
    return body ? show_job(x, ask(x, NULL, "/v1/jobs", body)) : 1;
}

int verb_show(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s", args[0]);
    vx_auto_json json_t *job = ask(x, NULL, path, NULL);
    if (job) {
        print_json(job);
    }
    return job ? 0 : 1;
}

int verb_cancel(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/cancel", args[0]);
    return show_job(x, ask(x, NULL, path, ""));
}

static int print_rows(struct context *x, const char *path, const char *key,
                      void (*row)(const json_t *)) {
    vx_auto_json json_t *reply = ask(x, NULL, path, NULL);
    size_t i;
    json_t *e;
    if (reply && x->json) {
        print_json(reply);
    } else if (reply) {
        json_array_foreach(json_object_get(reply, key), i, e) {
            row(e);
        }
    }
    return reply ? 0 : 1;
}

int verb_list(struct context *x, char **args) {
    (void)args;
    return print_rows(x, "/v1/jobs?limit=100", "jobs", print_job_line);
}

static void print_dataset(const json_t *d) {
    printf("%-40s %-12s %s\n", text_of(d, "name"), text_of(d, "state"),
           text_of(json_object_get(d, "reason"), "message"));
}

int verb_datasets(struct context *x, char **args) {
    (void)args;
    return print_rows(x, "/v1/datasets", "datasets", print_dataset);
}

/* Registers and waits for the outcome. */
int verb_register(struct context *x, char **args) {
    const char *name = args[0];
    vx_auto_json json_t *request = json_pack("{s:s}", "name", name);
    vx_auto_free char *body = request ? json_dumps(request, 0) : NULL;
    vx_auto_free char *path = vx_strf("/v1/datasets/%s", name);
    json_t *d = body && path ? ask(x, NULL, "/v1/datasets", body) : NULL;
    while (d && strcmp(text_of(d, "state"), "registering") == 0) {
        json_decref(d);
        usleep(200000);
        d = ask(x, NULL, path, NULL);
    }
    if (!d) {
        return 1;
    }
    if (x->json) {
        print_json(d);
    } else {
        print_dataset(d);
    }
    int out = strcmp(text_of(d, "state"), "ready") == 0 ? 0 : 1;
    json_decref(d);
    return out;
}

static void print_bar(const json_t *job, bool tty) {
    const json_t *p = json_object_get(job, "progress");
    double at = fraction_of(job);
    char bar[BAR_WIDTH + 1];
    int full = at > 0 ? (int)(at * BAR_WIDTH + 0.5) : 0;
    full = full > BAR_WIDTH ? BAR_WIDTH : full;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    printf("%s%-10s [%s] %3.0f%% %s", tty ? "\r\033[K" : "", text_of(job, "state"), bar,
           at > 0 ? 100 * at : 0.0, text_of(job, "phase"));
    static const struct {
        const char *key, *format;
    } figures[] = {{"train_loss", "  loss %.4f"},
                   {"ema_dice", "  dice %.3f"},
                   {"seconds_per_step", "  %.3f s/step"},
                   {"loader_wait_ratio", "  wait %.3f"}};
    for (size_t i = 0; i < VX_COUNTOF(figures); i++) {
        const json_t *v = json_object_get(p, figures[i].key);
        if (json_is_number(v)) {
            char text[48];
            /* The formats stand in the table above; none comes from outside. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(text, sizeof text, figures[i].format, json_number_value(v));
#pragma GCC diagnostic pop
            fputs(text, stdout);
        }
    }
    fputs(tty ? "" : "\n", stdout);
    fflush(stdout);
}

int verb_watch(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s", args[0]);
    bool tty = isatty(STDOUT_FILENO);
    char last[512] = "";
    for (;;) {
        vx_auto_json json_t *job = ask(x, NULL, path, NULL);
        if (!job) {
            return 1;
        }
        char now[512];
        snprintf(now, sizeof now, "%s %s %.3f", text_of(job, "state"), text_of(job, "phase"),
                 fraction_of(job));
        if (tty || strcmp(now, last) != 0) {
            print_bar(job, tty);
            memcpy(last, now, sizeof last);
        }
        if (json_is_string(json_object_get(job, "finished_at"))) {
            const json_t *reason = json_object_get(job, "reason");
            printf("%s%s%s%s\n", tty ? "\n" : "", text_of(job, "state"),
                   json_is_object(reason) ? ": " : "", text_of(reason, "message"));
            return strcmp(text_of(job, "state"), "succeeded") == 0 ? 0 : 1;
        }
        usleep(500000);
    }
}
