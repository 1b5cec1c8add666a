/* voxelctl: the command line client. Verbs are rows of a table; each prints for people, or the
 * reply's JSON with
 * --json. Exit status: 0, 1 refused or failed, 2 wrong usage. */
#include "base/io.h"
#include "base/own.h"
#include "client.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 30

struct context {
    struct vx_ctl_client *client;
    bool json;
};

/* The reply of a request that must have succeeded; NULL after complaining. */
static json_t *ask(struct context *x, const char *path, const char *body) {
    json_t *reply = NULL;
    int status = vx_ctl_request(x->client, path, body, &reply);
    if (status >= 200 && status < 300) {
        return reply ? reply : json_object();
    }
    if (status > 0) {
        vx_ctl_complain(status, reply);
    }
    json_decref(reply);
    return NULL;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static void print_json(const json_t *value) {
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    putchar('\n');
}

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

static int verb_submit(struct context *x, const char *file) {
    vx_auto_free char *body = vx_ctl_read(file);
    return body ? show_job(x, ask(x, "/v1/jobs", body)) : 1;
}

static int verb_show(struct context *x, const char *id) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s", id);
    vx_auto_json json_t *job = ask(x, path, NULL);
    if (job) {
        print_json(job);
    }
    return job ? 0 : 1;
}

static int verb_cancel(struct context *x, const char *id) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/cancel", id);
    return show_job(x, ask(x, path, ""));
}

static int print_rows(struct context *x, const char *path, const char *key,
                      void (*row)(const json_t *)) {
    vx_auto_json json_t *reply = ask(x, path, NULL);
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

static int verb_list(struct context *x, const char *none) {
    (void)none;
    return print_rows(x, "/v1/jobs?limit=100", "jobs", print_job_line);
}

static void print_dataset(const json_t *d) {
    printf("%-40s %-12s %s\n", text_of(d, "name"), text_of(d, "state"),
           text_of(json_object_get(d, "reason"), "message"));
}

static int verb_datasets(struct context *x, const char *none) {
    (void)none;
    return print_rows(x, "/v1/datasets", "datasets", print_dataset);
}

/* Registers and waits for the outcome. */
static int verb_register(struct context *x, const char *name) {
    vx_auto_json json_t *request = json_pack("{s:s}", "name", name);
    vx_auto_free char *body = request ? json_dumps(request, 0) : NULL;
    vx_auto_free char *path = vx_strf("/v1/datasets/%s", name);
    json_t *d = body && path ? ask(x, "/v1/datasets", body) : NULL;
    while (d && strcmp(text_of(d, "state"), "registering") == 0) {
        json_decref(d);
        usleep(200000);
        d = ask(x, path, NULL);
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

static int verb_watch(struct context *x, const char *id) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s", id);
    bool tty = isatty(STDOUT_FILENO);
    char last[512] = "";
    for (;;) {
        vx_auto_json json_t *job = ask(x, path, NULL);
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

static const struct verb {
    const char *name, *argument, *help;
    int (*run)(struct context *x, const char *argument);
} verbs[] = {
    {"submit", "FILE", "submit a job (- for stdin)", verb_submit},
    {"list", NULL, "jobs, newest first", verb_list},
    {"show", "ID", "everything about a job", verb_show},
    {"watch", "ID", "follow a job to its end; exit status 0 if it succeeded", verb_watch},
    {"cancel", "ID", "end a job", verb_cancel},
    {"datasets", NULL, "registered data sets", verb_datasets},
    {"register", "NAME", "register a data set and wait for its check", verb_register},
};

static int usage(FILE *to) {
    fprintf(to, "usage: voxelctl [--state DIR | --url URL] [--json] VERB [ARGUMENT]\n\n");
    for (size_t i = 0; i < VX_COUNTOF(verbs); i++) {
        fprintf(to, "  %-9s %-5s %s\n", verbs[i].name, verbs[i].argument ? verbs[i].argument : "",
                verbs[i].help);
    }
    fprintf(to, "\nURL is http://HOST:PORT or unix:PATH. Environment: VOXELD_URL, VOXELD_TOKEN, "
                "VOXELD_STATE.\n");
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv) {
    const char *state = NULL, *url = NULL;
    struct context x = {NULL, false};
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            x.json = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            return usage(stdout);
        } else if (strcmp(argv[i], "--state") == 0 && i + 1 < argc) {
            state = argv[++i];
        } else if (strcmp(argv[i], "--url") == 0 && i + 1 < argc) {
            url = argv[++i];
        } else {
            return usage(stderr);
        }
    }
    for (size_t v = 0; i < argc && v < VX_COUNTOF(verbs); v++) {
        if (strcmp(argv[i], verbs[v].name) == 0 && argc - i - 1 == (verbs[v].argument ? 1 : 0)) {
            x.client = vx_ctl_open(url, NULL, state);
            int out = x.client ? verbs[v].run(&x, verbs[v].argument ? argv[i + 1] : NULL) : 1;
            vx_ctl_close(x.client);
            return out;
        }
    }
    return usage(stderr);
}
