/* Where pretrained weights may lie. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/session/pretrained.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char base[64];
static struct vx_config config;

static void put(const char *name) {
    vx_auto_free char *path = vx_strf("%s/%s", base, name);
    cr_assert_eq(vx_write_file_atomic(path, "x", 1, 0644, NULL), VX_OK);
}

static void make(void) {
    strcpy(base, "/tmp/voxeld-pretrained-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    static const char *const folders[] = {"data/a", "results/model", "outside"};
    for (size_t i = 0; i < VX_COUNTOF(folders); i++) {
        vx_auto_free char *path = vx_strf("%s/%s", base, folders[i]);
        cr_assert_eq(vx_mkdirs(path, 0755, NULL), VX_OK);
    }
    put("data/a/both.pth");
    put("results/model/x.pth");
    put("results/top.pth");
    put("outside/y.pth");
    vx_auto_free char *out = vx_strf("%s/data/out", base), *in = vx_strf("%s/data/in.pth", base);
    cr_assert_eq(symlink("../outside", out), 0);
    cr_assert_eq(symlink("a/both.pth", in), 0);
    config = (struct vx_config){.data = vx_strf("%s/data", base),
                                .preprocessed = vx_strf("%s/never_made", base),
                                .results = vx_strf("%s/results", base)};
}

static void clean(void) {
    free(config.data);
    free(config.preprocessed);
    free(config.results);
    vx_remove_tree(base, NULL);
}

TestSuite(daemon_pretrained, .init = make, .fini = clean);

/* asked beneath base where it begins with '/'; the file found beneath base, or the reason. */
static const struct {
    const char *asked, *found, *reason;
} table[] = {
    {"a/both.pth", "data/a/both.pth", NULL},
    {"in.pth", "data/a/both.pth", NULL},
    {"model/x.pth", "results/model/x.pth", NULL},
    {"/results/top.pth", "results/top.pth", NULL},
    {"/data/a/both.pth", "data/a/both.pth", NULL},
    {"missing.pth", NULL, "no_weights"},
    {"in.pth/deeper", NULL, "no_weights"},
    {"/results/missing.pth", NULL, "no_weights"},
    {"model", NULL, "not_a_file"},
    {"/results/", NULL, "not_a_file"},
    {"../outside/y.pth", NULL, "outside_root"},
    {"out/y.pth", NULL, "outside_root"},
    {"/outside/y.pth", NULL, "outside_root"},
    {"/results/../outside/y.pth", NULL, "outside_root"},
};

Test(daemon_pretrained, beneath_the_daemons_folders) {
    for (size_t i = 0; i < VX_COUNTOF(table); i++) {
        char path[PATH_MAX] = "";
        struct vx_err err = {0};
        bool absolute = table[i].asked[0] == '/';
        vx_auto_free char *asked = vx_strf("%s%s", absolute ? base : "", table[i].asked);
        int rc = vx_pretrained_find(&config, asked, path, sizeof path, &err);
        if (table[i].found) {
            vx_auto_free char *want = vx_strf("%s/%s", base, table[i].found);
            cr_expect_eq(rc, VX_OK, "%s: %s", asked, err.text);
            cr_expect_str_eq(path, want);
        } else {
            cr_expect_eq(rc, err.code, "%s", asked);
            cr_expect_str_eq(err.reason, table[i].reason, "%s: %s", asked, err.text);
            cr_expect_str_eq(err.where, "/training/pretrained_weights");
        }
    }
}

Test(daemon_pretrained, any_file_for_the_user_of_the_machine) {
    char path[PATH_MAX] = "";
    struct vx_err err = {0};
    vx_auto_free char *asked = vx_strf("%s/data/out/../outside/y.pth", base);
    vx_auto_free char *want = vx_strf("%s/outside/y.pth", base);
    vx_auto_free char *folder = vx_strf("%s/outside", base);
    cr_assert_eq(vx_pretrained_any(asked, path, sizeof path, &err), VX_OK, "%s", err.text);
    cr_expect_str_eq(path, want);
    cr_expect_eq(vx_pretrained_any(folder, path, sizeof path, &err), VX_E_INVALID);
    cr_expect_eq(vx_pretrained_any("/nowhere/x", path, sizeof path, &err), VX_E_NOT_FOUND);
    cr_expect_str_eq(err.where, "/training/pretrained_weights");
}
