/* voxeld: one binary, one verb per process. */
#include "daemon/child_setup.h"
#include "daemon/verbs.h"

#include "base/own.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: internal, not listed */
} verbs[] = {
    {"serve", vx_role_serve, "run the daemon: HTTP interface, queue, trainings"},
    {"train", vx_role_train, "run one training from a job file, JSON lines on stdout"},
    {"plan", vx_role_plan, "print the plan of a data set"},
    {"prepare", vx_role_prepare, "build the prepared cache of a data set"},
    {"predict", vx_role_predict, "segment new cases with a trained model"},
    {"verify", vx_role_verify, "check a data set and extract its fingerprint"},
    {"bench", vx_role_bench, "measure the loader: samples a second, workers a device needs"},
    {"phantom", vx_role_phantom, "write a synthetic data set"},
    {"step", vx_role_step, NULL},
    {"augment", vx_role_augment, NULL},
    {"keeper", vx_role_keeper, NULL},
    {"probe", vx_role_probe, NULL},
};

static void usage(FILE *out) {
    fputs("usage: voxeld VERB [options]; voxeld VERB --help lists them\n\n", out);
    for (size_t i = 0; i < VX_COUNTOF(verbs); i++) {
        if (verbs[i].help) {
            fprintf(out, "  %-8s  %s\n", verbs[i].name, verbs[i].help);
        }
    }
    fputs("\n  --help     this list\n  --version  print the version\n", out);
}

int main(int argc, char **argv) {
    vx_child_setup_apply();
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("voxeld " VX_VERSION);
        return 0;
    }
    for (size_t i = 0; i < VX_COUNTOF(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "voxeld: unknown verb \"%s\"; voxeld --help lists them\n", argv[1]);
    return 2;
}
