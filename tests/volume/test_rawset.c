/* Listing raw data sets, and geometry as JSON. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "support/skip.h"
#include "volume/rawset.h"
#include "volume/volume.h"

#include <criterion/criterion.h>
#include <string.h>

static char folder[256];

static void make_folder(void) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/vx-rawset-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void) {
    vx_remove_tree(folder, NULL);
}

TestSuite(volume_rawset, .init = make_folder, .fini = remove_folder);

static void touch(const char *name) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    cr_assert_eq(vx_mkdirs(path, 0700, NULL), VX_OK);
    *slash = '/';
    cr_assert_eq(vx_write_file_atomic(path, "", 0, 0600, NULL), VX_OK);
}

static bool has_problem(const struct vx_rawset *s, const char *code, const char *name) {
    for (size_t i = 0; i < s->n_problems; i++) {
        if (strcmp(s->problems[i].code, code) == 0 && strcmp(s->problems[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

Test(volume_rawset, images_may_lie_in_the_folder_itself) {
    touch("b_0000.nii.gz");
    touch("a_0000.nii.gz");
    touch("a_0001.nii.gz");
    touch("b_0002.nii.gz");
    struct vx_rawset_options o = {
        .dir = folder, .file_ending = ".nii.gz", .n_channels = 2, .images = "", .labels = ""};
    vx_auto_rawset struct vx_rawset s = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_rawset_list(&o, &s, &err), VX_OK, "%s", err.text);
    char path[600];
    snprintf(path, sizeof path, "%s/a_0001.nii.gz", folder);
    cr_assert_eq(s.n_cases, 2);
    cr_assert_str_eq(s.cases[0].images[1], path);
    cr_assert_eq(s.n_problems, 2);
    cr_assert(has_problem(&s, "missing_channel", "b") && has_problem(&s, "extra_channel", "b"));
}

Test(volume_rawset, lists_cases_and_problems) {
    static const char *const files[] = {
        "imagesTr/b_0000.nii.gz",      "imagesTr/b_0001.nii.gz", "imagesTr/a_0000.nii.gz",
        "imagesTr/a_0001.nii.gz",      "imagesTr/c_0001.nii.gz", "imagesTr/a_0000_0000.nii.gz",
        "imagesTr/a_0000_0001.nii.gz", "imagesTr/d.nii.gz",      "imagesTr/b_0007.nii.gz",
        "imagesTr/.b_0000.nii.gz",     "imagesTr/readme.txt",    "labelsTr/a.nii.gz",
        "labelsTr/a_0000.nii.gz",      "labelsTr/b.nii.gz",      "labelsTr/zz.nii.gz",
    };
    for (size_t i = 0; i < VX_COUNTOF(files); i++) {
        touch(files[i]);
    }
    struct vx_rawset_options o = {.dir = folder, .file_ending = ".nii.gz", .n_channels = 2};
    vx_auto_rawset struct vx_rawset s = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_rawset_list(&o, &s, &err), VX_OK, "%s", err.text);
    static const char *const names[] = {"a", "a_0000", "b", "c"};
    cr_assert_eq(s.n_cases, 4);
    for (int i = 0; i < 4; i++) {
        cr_assert_str_eq(s.cases[i].name, names[i]);
    }
    char path[600];
    snprintf(path, sizeof path, "%s/imagesTr/a_0000_0001.nii.gz", folder);
    cr_assert_str_eq(s.cases[1].images[1], path);
    snprintf(path, sizeof path, "%s/labelsTr/b.nii.gz", folder);
    cr_assert_str_eq(s.cases[2].label, path);
    cr_assert(!s.cases[3].images[0] && s.cases[3].images[1] && !s.cases[3].label);
    cr_assert_eq(s.n_problems, 5);
    cr_assert(has_problem(&s, "missing_channel", "c") && has_problem(&s, "missing_label", "c"));
    cr_assert(has_problem(&s, "bad_name", "d") && has_problem(&s, "extra_channel", "b"));
    cr_assert(has_problem(&s, "orphan_label", "zz"));
}

Test(volume_rawset, lists_without_labels) {
    touch("imagesTs/x_0000.nii");
    struct vx_rawset_options o = {
        .dir = folder, .file_ending = ".nii", .n_channels = 1, .images = "imagesTs", .labels = ""};
    vx_auto_rawset struct vx_rawset s = {0};
    cr_assert_eq(vx_rawset_list(&o, &s, NULL), VX_OK);
    cr_assert(s.n_cases == 1 && s.n_problems == 0 && !s.cases[0].label);
}

Test(volume_rawset, follows_an_explicit_mapping) {
    touch("img/one.nii.gz");
    touch("lab/one.nii.gz");
    vx_auto_json json_t *mapping = json_pack(
        "{s:{s:[s],s:s},s:{s:[s],s:s},s:{s:[s],s:s},s:{s:[]}}", "p", "images", "img/one.nii.gz",
        "label", "lab/one.nii.gz", "q", "images", "img/two.nii.gz", "label", "lab/one.nii.gz", "r",
        "images", "$HOME/x.nii.gz", "label", "lab/one.mha", "s", "images");
    cr_assert_not_null(mapping);
    struct vx_rawset_options o = {
        .dir = folder, .file_ending = ".nii.gz", .n_channels = 1, .mapping = mapping};
    vx_auto_rawset struct vx_rawset s = {0};
    cr_assert_eq(vx_rawset_list(&o, &s, NULL), VX_OK);
    cr_assert_eq(s.n_cases, 4);
    char path[600];
    snprintf(path, sizeof path, "%s/img/one.nii.gz", folder);
    cr_assert_str_eq(s.cases[0].images[0], path);
    cr_assert(!s.cases[1].images[0] && s.cases[1].label);
    cr_assert(has_problem(&s, "missing_channel", "q") && has_problem(&s, "bad_mapping", "r"));
    cr_assert(has_problem(&s, "missing_channel", "s") && has_problem(&s, "bad_mapping", "s"));
}

Test(volume_rawset, refuses_what_it_cannot_list) {
    struct vx_err err = {0};
    struct vx_rawset s = {0};
    struct vx_rawset_options o = {.dir = folder, .file_ending = ".mha", .n_channels = 1};
    cr_assert_eq(vx_rawset_list(&o, &s, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "file_ending_unsupported");
    o.file_ending = ".nii.gz";
    cr_assert_eq(vx_rawset_list(&o, &s, &err), VX_E_NOT_FOUND); /* no imagesTr */
    o.n_channels = 0;
    cr_assert_eq(vx_rawset_list(&o, &s, &err), VX_E_LIMIT);
}

Test(volume_rawset, lists_hippocampus) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no test volumes");
    }
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/Dataset004_Hippocampus", data);
    struct vx_rawset_options o = {.dir = dir, .file_ending = ".nii.gz", .n_channels = 1};
    vx_auto_rawset struct vx_rawset s = {0};
    cr_assert_eq(vx_rawset_list(&o, &s, NULL), VX_OK);
    cr_assert_eq(s.n_cases, 200);
    cr_assert_eq(s.n_problems, 0);
}

Test(volume_geometry, json_round_trip) {
    struct vx_geometry g, back;
    vx_geometry_init(&g, (const double[3]){3.27, 0.1, 1.0 / 3});
    g.quatern[1] = 0.123456789f;
    g.qoffset[2] = -1e-20f;
    g.srow[1][3] = 1e20f;
    g.sform_code = 4;
    vx_auto_json json_t *j = vx_geometry_to_json(&g);
    cr_assert_not_null(j);
    vx_auto_free char *text = vx_json_canonical(j);
    vx_auto_json json_t *again = NULL;
    cr_assert_eq(vx_json_parse(text, strlen(text), 10000, 8, &again, NULL), VX_OK);
    struct vx_err err = {0};
    cr_assert_eq(vx_geometry_from_json(again, &back, &err), VX_OK, "%s", err.text);
    cr_assert_eq(memcmp(&g, &back, sizeof g), 0);
    json_object_set_new(again, "quatern", json_integer(3));
    cr_assert_eq(vx_geometry_from_json(again, &back, &err), VX_E_INVALID);
    cr_assert_not_null(strstr(err.text, "quatern"));
}

Test(volume_geometry, affine_follows_sform_then_qform_then_spacing) {
    struct vx_geometry g;
    double m[3][4];
    vx_geometry_init(&g, (const double[3]){3, 2, 1});
    vx_geometry_affine(&g, m);
    cr_assert(m[0][0] == 1 && m[1][1] == 2 && m[2][2] == 3 && m[0][1] == 0 && m[2][3] == 0);
    g.qform_code = 1;
    g.quatern[2] = 1; /* half a turn around z */
    g.qoffset[0] = 9;
    vx_geometry_affine(&g, m);
    cr_assert_float_eq(m[0][0], -1, 1e-6);
    cr_assert_float_eq(m[1][1], -2, 1e-6);
    cr_assert_float_eq(m[2][2], 3, 1e-6);
    cr_assert_float_eq(m[0][3], 9, 1e-6);
    g.sform_code = 1;
    g.srow[2][0] = 5;
    vx_geometry_affine(&g, m);
    cr_assert(m[2][0] == 5 && m[0][0] == 0);
}

Test(volume_geometry, impossible_volumes_are_refused) {
    struct vx_volume v = {0};
    cr_assert_eq(vx_volume_init(&v, 1, (const int64_t[3]){1 << 30, 1 << 30, 1 << 30}, NULL, NULL),
                 VX_E_LIMIT);
    cr_assert_eq(vx_volume_init(&v, 0, (const int64_t[3]){1, 1, 1}, NULL, NULL), VX_E_LIMIT);
    cr_assert_eq(vx_volume_init(&v, 1, (const int64_t[3]){1, -1, 1}, NULL, NULL), VX_E_LIMIT);
}
