/* voxelctl: the command line client. Verbs are rows of a table; each prints for people, or the
 * reply's JSON with --json. Exit status: 0, 1 refused or failed, 2 wrong usage. */
#include "base/own.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>

static const struct verb {
    const char *name, *arguments, *help;
    int n;
    int (*run)(struct context *x, char **args);
} verbs[] = {
    {"submit", "FILE", "submit a job (- for stdin)", 1, verb_submit},
    {"list", "", "jobs, newest first", 0, verb_list},
    {"show", "ID", "everything about a job", 1, verb_show},
    {"watch", "ID", "follow a job to its end; exit status 0 if it succeeded", 1, verb_watch},
    {"why", "ID", "what a running job's device waits for, and what helps", 1, verb_why},
    {"tuning", "ID", "every change of its loader: why, predicted, measured", 1, verb_tuning},
    {"turn", "ID KNOB=VALUE", "change its loader while it runs: workers=4, cache=memory", 2,
     verb_turn},
    {"revert", "ID N", "take change N of its tuning back", 2, verb_revert},
    {"cancel", "ID", "end a job", 1, verb_cancel},
    {"datasets", "", "registered data sets", 0, verb_datasets},
    {"register", "NAME", "register a data set and wait for its check", 1, verb_register},
};

static int usage(FILE *to) {
    fprintf(to, "usage: voxelctl [--state DIR | --url URL] [--json] VERB [ARGUMENTS]\n\n");
    for (size_t i = 0; i < VX_COUNTOF(verbs); i++) {
        fprintf(to, "  %-9s %-13s  %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
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
        if (strcmp(argv[i], verbs[v].name) == 0 && argc - i - 1 == verbs[v].n) {
            x.client = vx_ctl_open(url, NULL, state);
            int out = x.client ? verbs[v].run(&x, argv + i + 1) : 1;
            vx_ctl_close(x.client);
            return out;
        }
    }
    return usage(stderr);
}
