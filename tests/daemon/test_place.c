/* Folders that jobs name: what lies beneath the root, and what only looks so. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/predict/place.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char base[64], root[80];

static void make(void) {
    strcpy(base, "/tmp/voxeld-place-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    snprintf(root, sizeof root, "%s/root", base);
    static const char *const folders[] = {"root/a/b", "outside/deep", "root2"};
    for (size_t i = 0; i < VX_COUNTOF(folders); i++) {
        vx_auto_free char *path = vx_strf("%s/%s", base, folders[i]);
        cr_assert_eq(vx_mkdirs(path, 0755, NULL), VX_OK);
    }
    vx_auto_free char *file = vx_strf("%s/file", root), *in = vx_strf("%s/inward", root),
                      *out = vx_strf("%s/outward", root), *up = vx_strf("%s/a/up", root),
                      *far = vx_strf("%s/far", root), *target = vx_strf("%s/outside", base);
    cr_assert_eq(vx_write_file_atomic(file, "", 0, 0644, NULL), VX_OK);
    cr_assert_eq(symlink("a/b", in), 0);
    cr_assert_eq(symlink("../outside", out), 0);
    cr_assert_eq(symlink("../../outside", up), 0);
    cr_assert_eq(symlink(target, far), 0);
}

static void clean(void) {
    vx_remove_tree(base, NULL);
}

TestSuite(daemon_place, .init = make, .fini = clean);

enum { OK = VX_OK };

/* asked, and what find and new make of it; "" for the reason of a success. */
static const struct {
    const char *asked, *find, *new;
} table[] = {
    {"a", "", ""},
    {"a/b/", "", ""},
    {"inward", "", ""},
    {"./a//b", "", ""},
    {"a/missing", "no_folder", ""},
    {"missing/deep/er", "no_folder", ""},
    {"inward/missing", "no_folder", ""},
    {"..", "outside_root", "outside_root"},
    {"../root2", "outside_root", "outside_root"},
    {"a/../../root2", "outside_root", "outside_root"},
    {"missing/../../../outside", "no_folder", "outside_root"},
    {"outward", "outside_root", "outside_root"},
    {"outward/deep", "outside_root", "outside_root"},
    {"outward/missing", "outside_root", "outside_root"},
    {"a/up/missing/more", "outside_root", "outside_root"},
    {"far/deep", "outside_root", "outside_root"},
    {"/etc", "outside_root", "outside_root"},
    {"file", "not_a_folder", "not_a_folder"},
    {"file/deep", "not_a_folder", "not_a_folder"},
};

static void expect(int rc, const struct vx_err *err, const char *reason, const char *path,
                   const char *asked) {
    if (reason[0]) {
        cr_expect(rc < 0, "%s was taken", asked);
        cr_expect_str_eq(err->reason, reason, "%s: %s", asked, err->reason);
        return;
    }
    vx_auto_free char *want = vx_strf("%s/%s", root, asked);
    cr_expect_eq(rc, OK, "%s: %s", asked, err->text);
    cr_expect_str_eq(path, want);
}

Test(daemon_place, nothing_leads_out_of_the_root) {
    for (size_t i = 0; i < VX_COUNTOF(table); i++) {
        char path[PATH_MAX] = "";
        struct vx_err err = {0};
        int rc = vx_place_find(root, "data folder", table[i].asked, path, sizeof path, &err);
        expect(rc, &err, table[i].find, path, table[i].asked);
        err = (struct vx_err){0};
        rc = vx_place_new(root, "data folder", table[i].asked, path, sizeof path, &err);
        expect(rc, &err, table[i].new, path, table[i].asked);
    }
    vx_auto_free char *missing = vx_strf("%s/missing", root);
    cr_expect(!vx_path_exists(missing), "a folder was made");
}

Test(daemon_place, absolute_beneath_the_root_counts_as_relative) {
    char path[PATH_MAX] = "";
    struct vx_err err = {0};
    vx_auto_free char *in = vx_strf("%s/a", root), *beside = vx_strf("%s2", root),
                      *out = vx_strf("%s/../outside", root), *slashed = vx_strf("%s/", root);
    cr_expect_eq(vx_place_find(root, "data folder", in, path, sizeof path, &err), OK);
    cr_expect_str_eq(path, in);
    cr_expect_eq(vx_place_find(slashed, "data folder", in, path, sizeof path, &err), OK);
    cr_expect_eq(vx_place_find(root, "data folder", beside, path, sizeof path, &err), VX_E_PERM);
    cr_expect_eq(vx_place_find(root, "data folder", out, path, sizeof path, &err), VX_E_PERM);
    cr_expect_eq(vx_place_new(root, "data folder", out, path, sizeof path, &err), VX_E_PERM);
    cr_expect_eq(vx_place_find(root, "data folder", "a", path, 8, &err), VX_E_LIMIT);
    cr_expect(vx_place_find("/nowhere", "data folder", "a", path, sizeof path, &err) < 0);
    cr_expect(strstr(err.text, "data folder /nowhere"), "%s", err.text);
}
