/* voxeld prepare --raw DIR --out DATASET_DIR [--plans FILE] [--configuration NAME] [--processes N]
 * [--repair CASE]: the prepared store of a data set, case by case; what is whole already is kept.
 * Without --plans the data set is checked and planned first. Lines: "progress" {done, total},
 * "prepared" {store}. SIGTERM ends it between cases.
 *
 * With --repair only that case is looked at, and made again where a byte of it is not as it was
 * written. Line: "repaired" {case, made}. */
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/roles/build.h"
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

static int find_plans(const char *path, const char *raw_dir, int threads, json_t **ret,
                      struct vx_err *err) {
    if (path) {
        return vx_json_load_file(path, 64u << 20, ret, err);
    }
    struct vx_examination x = {0};
    int rc = vx_examine(raw_dir, threads, false, &stop, &x, err);
    if (rc == VX_OK && !x.valid) {
        rc = vx_fail(err, VX_E_INVALID, x.code, "%s; voxeld verify lists every problem", x.message);
    }
    if (rc == VX_OK) {
        *ret = json_incref(x.plans);
    }
    vx_examination_release(&x);
    return rc;
}

static const char usage[] =
    "usage: voxeld prepare --raw DATASET_DIR --out PREPROCESSED_DATASET_DIR [--plans FILE]\n"
    "                      [--configuration NAME] [--processes N] [--repair CASE]\n";

static int repair(const struct vx_build *b, const char *case_name, struct vx_err *err) {
    bool made = false;
    int rc = vx_build_repair(b, case_name, &made, err);
    if (rc == VX_OK) {
        vx_say(json_pack("{s:s, s:s, s:b}", "event", "repaired", "case", case_name, "made", made));
    }
    return rc;
}

static int build(const struct vx_build *b, struct vx_err *err) {
    vx_auto_free char *store = NULL;
    int rc = vx_build_store(b, &store, err);
    if (rc == VX_OK) {
        vx_say(json_pack("{s:s, s:s}", "event", "prepared", "store", store));
    }
    return rc;
}

int vx_role_prepare(int argc, char **argv) {
    static const struct option options[] = {{"raw", required_argument, NULL, 'r'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"plans", required_argument, NULL, 'p'},
                                            {"configuration", required_argument, NULL, 'c'},
                                            {"processes", required_argument, NULL, 'n'},
                                            {"repair", required_argument, NULL, 'e'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct vx_build b = {.configuration = "3d_fullres", .stop = &stop};
    const char *plans_path = NULL, *damaged = NULL;
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'r':
            b.raw_dir = optarg;
            break;
        case 'o':
            b.dataset_dir = optarg;
            break;
        case 'p':
            plans_path = optarg;
            break;
        case 'c':
            b.configuration = optarg;
            break;
        case 'n':
            b.threads = atoi(optarg);
            break;
        case 'e':
            damaged = optarg;
            break;
        default:
            fputs(usage, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (!b.raw_dir || !b.dataset_dir || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGTERM, on_term);
    struct vx_err err = {0};
    vx_auto_json json_t *plans = NULL;
    int rc = find_plans(plans_path, b.raw_dir, b.threads, &plans, &err);
    if (rc == VX_OK) {
        b.plans = plans;
        rc = damaged ? repair(&b, damaged, &err) : build(&b, &err);
    }
    return rc == VX_OK ? 0 : vx_say_error("prepare", &err);
}
