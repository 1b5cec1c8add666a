/* voxeld verify [--json] [--processes N] DIR: integrity report, fingerprint and plans of a raw data
 * set. For people the report as JSON and exit status 1 where the data set is not usable; with
 * --json (the daemon) one JSON line per case and at the end "verified" {valid, code, message,
 * report, fingerprint, plans}, exit status 0. */
#include "base/err.h"
#include "base/own.h"
#include "daemon/roles/examine.h"
#include "daemon/roles/say.h"
#include "daemon/verbs.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>

static atomic_bool stop;

static void on_term(int signum) {
    (void)signum;
    atomic_store(&stop, true);
}

static void say_verified(const struct vx_examination *x) {
    json_t *line = json_pack("{s:s, s:b, s:s, s:s, s:O}", "event", "verified", "valid", x->valid,
                             "code", x->code, "message", x->message, "report", x->report);
    if (line && x->valid) {
        json_object_set(line, "fingerprint", x->fingerprint);
        json_object_set(line, "plans", x->plans);
    }
    vx_say(line);
}

static int print_report(const struct vx_examination *x) {
    vx_auto_free char *text = json_dumps(x->report, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    puts(text ? text : "out of memory");
    return x->valid ? 0 : 1;
}

int vx_role_verify(int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"processes", required_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    bool json = false;
    int threads = 0, opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'j') {
            json = true;
        } else if (opt == 'n') {
            threads = atoi(optarg);
        } else {
            fputs("usage: voxeld verify [--json] [--processes N] DATASET_DIR\n",
                  opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (optind + 1 != argc) {
        fputs("usage: voxeld verify [--json] [--processes N] DATASET_DIR\n", stderr);
        return 2;
    }
    signal(SIGTERM, on_term);
    struct vx_examination x = {0};
    struct vx_err err = {0};
    if (vx_examine(argv[optind], threads, json, &stop, &x, &err) != VX_OK) {
        return vx_say_error("verify", &err);
    }
    int status = 0;
    if (json) {
        say_verified(&x);
    } else {
        status = print_report(&x);
    }
    vx_examination_release(&x);
    return status;
}
