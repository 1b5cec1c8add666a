/* voxelctl: why a job's device waits, and the knobs of its loader. */
#include "verbs.h"

#include "base/io.h"
#include "base/own.h"

#include <stdio.h>
#include <string.h>

static void print_verdict(const json_t *v) {
    double cost = json_number_value(json_object_get(v, "cost"));
    double gain = json_number_value(json_object_get(v, "gain"));
    printf("%-8s %s (%.0f %% of the time)\n", text_of(v, "severity"), text_of(v, "code"),
           100 * cost);
    printf("         %s\n", text_of(v, "text"));
    if (text_of(v, "advice")[0]) {
        printf("         %s", text_of(v, "advice"));
        printf(gain > 0 ? " (saves about %.0f %% of a step)\n" : "\n", 100 * gain);
    }
}

int verb_why(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/bottleneck", args[0]);
    vx_auto_json json_t *reply = ask(x, NULL, path, NULL);
    const json_t *verdicts = json_object_get(reply, "verdicts");
    if (!reply) {
        return 1;
    }
    if (x->json) {
        print_json(reply);
    } else if (json_array_size(verdicts) == 0) {
        printf("job %s is %s: nothing is measured\n", args[0], text_of(reply, "state"));
    }
    size_t i;
    json_t *v;
    json_array_foreach(x->json ? NULL : verdicts, i, v) {
        print_verdict(v);
    }
    return 0;
}

/* A relative change of the mean step, as "-38 %"; "-" where it is not known. */
static const char *percent(const json_t *change, char text[16]) {
    snprintf(text, 16, "-");
    if (json_is_number(change)) {
        snprintf(text, 16, "%+.1f %%", 100 * json_number_value(change));
    }
    return text;
}

int verb_tuning(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/tuning?limit=1000", args[0]);
    vx_auto_json json_t *reply = ask(x, NULL, path, NULL);
    size_t i;
    json_t *c;
    if (!reply) {
        return 1;
    }
    if (x->json) {
        print_json(reply);
        return 0;
    }
    printf("%4s  %-24s %-7s %-16s %-16s %-20s %10s %10s  %s\n", "n", "at", "who", "knob",
           "from, to", "why", "predicted", "measured", "outcome");
    json_array_foreach(json_object_get(reply, "changes"), i, c) {
        char predicted[16], measured[16];
        vx_auto_free char *values = vx_strf("%s, %s", text_of(c, "from"), text_of(c, "to"));
        printf("%4lld  %-24s %-7s %-16s %-16s %-20s %10s %10s  %s\n",
               (long long)json_integer_value(json_object_get(c, "n")), text_of(c, "at"),
               text_of(c, "who"), text_of(c, "knob"), values ? values : "", text_of(c, "why"),
               percent(json_object_get(c, "predicted"), predicted),
               percent(json_object_get(c, "measured"), measured), text_of(c, "outcome"));
    }
    return 0;
}

/* The loader as it is, or as it will be within a second or two. */
static int show_loader(struct context *x, json_t *loader) {
    if (!loader) {
        return 1;
    }
    const char *key;
    json_t *value;
    if (x->json) {
        print_json(loader);
    }
    json_object_foreach(x->json ? NULL : loader, key, value) {
        vx_auto_free char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("%-18s %s\n", key, json_is_string(value) ? json_string_value(value) : text);
    }
    json_decref(loader);
    return 0;
}

/* NAME=VALUE as {NAME: VALUE}: what reads as JSON is that, anything else is text. New reference;
 * NULL after complaining. */
static json_t *wish_of(const char *text) {
    const char *eq = strchr(text, '=');
    if (!eq || eq == text) {
        fprintf(stderr,
                "voxelctl: \"%s\" is not KNOB=VALUE; knobs: workers, prefetch, "
                "keep_files_open, cache\n",
                text);
        return NULL;
    }
    vx_auto_free char *name = vx_strf("%.*s", (int)(eq - text), text);
    json_t *value = json_loads(eq + 1, JSON_DECODE_ANY, NULL);
    return json_pack("{s:o}", name, value ? value : json_string(eq + 1));
}

int verb_turn(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/loader", args[0]);
    vx_auto_json json_t *wish = wish_of(args[1]);
    vx_auto_free char *body = wish ? json_dumps(wish, 0) : NULL;
    return body ? show_loader(x, ask(x, "PATCH", path, body)) : 1;
}

int verb_revert(struct context *x, char **args) {
    vx_auto_free char *path = vx_strf("/v1/jobs/%s/tuning/%s/revert", args[0], args[1]);
    return show_loader(x, ask(x, NULL, path, ""));
}
