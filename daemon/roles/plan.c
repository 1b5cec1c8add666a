/* voxeld plan DIR: plans.json of a raw data set on stdout. */
#include "base/err.h"
#include "base/own.h"
#include "daemon/roles/examine.h"
#include "daemon/roles/say.h"
#include "daemon/verbs.h"

#include <getopt.h>
#include <stdio.h>

int vx_role_plan(int argc, char **argv) {
    static const struct option options[] = {{"processes", required_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: voxeld plan [--processes N] DATASET_DIR\n";
    int threads = 0, opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt != 'n') {
            fputs(usage, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
        threads = atoi(optarg);
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    struct vx_examination x = {0};
    struct vx_err err = {0};
    int rc = vx_examine(argv[optind], threads, false, NULL, &x, &err);
    if (rc == VX_OK && !x.valid) {
        rc =
            vx_fail(&err, VX_E_INVALID, x.code, "%s; voxeld verify lists every problem", x.message);
    }
    if (rc == VX_OK) {
        vx_auto_free char *text = json_dumps(x.plans, JSON_INDENT(4) | JSON_PRESERVE_ORDER);
        puts(text ? text : "out of memory");
    }
    vx_examination_release(&x);
    return rc == VX_OK ? 0 : vx_say_error("plan", &err);
}
