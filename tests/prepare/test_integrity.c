/* The integrity report: each kind of damage is named, and hides nothing else. */
#include "prepare/integrity.h"

#include "prepare/extract.h"
#include "prepare/fixture.h"
#include "support/skip.h"

static const int64_t shape[3] = {6, 7, 8};
static const double spacing[3] = {1, 1, 2};

/* Adds a good case that the caller may damage first. */
static void add(const char *dir, const char *name,
                void (*damage)(struct vx_volume *, struct vx_labelmap *)) {
    vx_auto_volume struct vx_volume image;
    vx_auto_labelmap struct vx_labelmap label;
    fixture_case(shape, spacing, 2, &image, &label);
    if (damage) {
        damage(&image, &label);
    }
    fixture_write(dir, name, &image, &label);
}

static void nan_voxel(struct vx_volume *image, struct vx_labelmap *label) {
    (void)label;
    image->data[6 * 7 * 8 + 1 * 56 + 2 * 8 + 3] = NAN;
}

static void wrong_label(struct vx_volume *image, struct vx_labelmap *label) {
    (void)image;
    label->data[10] = 9;
    label->data[11] = 7;
}

static void no_foreground(struct vx_volume *image, struct vx_labelmap *label) {
    (void)image;
    memset(label->data, 0, 6 * 7 * 8 * sizeof *label->data);
}

static void short_label(struct vx_volume *image, struct vx_labelmap *label) {
    (void)image;
    label->shape[0] = 5;
}

static void other_spacing(struct vx_volume *image, struct vx_labelmap *label) {
    (void)image;
    const double other[3] = {1, 1, 2.5};
    vx_geometry_init(&label->geo, other);
}

static void other_origin(struct vx_volume *image, struct vx_labelmap *label) {
    (void)image;
    label->geo.qform_code = 1;
    label->geo.qoffset[0] = 30;
}

/* The findings of a case, checked alone. */
static struct vx_findings look(const struct vx_rawset *set, size_t i, bool *usable) {
    struct vx_dataset_desc d = fixture_dataset(2, 3, 1);
    struct vx_findings f = {0};
    struct vx_err e = {0};
    struct vx_case_print p = {0};
    expect_ok(vx_integrity_case(&d, &set->cases[i], 1000, &f, &p, usable, &e));
    cr_assert_eq(p.n_channels, *usable ? 2 : 0);
    vx_case_print_release(&p);
    return f;
}

static void expect_only(const struct vx_findings *f, const char *code, bool warning,
                        const char *file, const char *text) {
    cr_assert_eq(f->n, 1, "%zu findings", f->n);
    cr_assert_str_eq(f->list[0].code, code);
    cr_assert_eq(f->list[0].warning, warning);
    cr_assert(strstr(f->list[0].file, file), "%s", f->list[0].file);
    cr_assert(strstr(f->list[0].text, text), "%s", f->list[0].text);
    cr_assert_eq(vx_findings_ok(f), warning);
}

Test(prepare_integrity, names_each_damage) {
    static const struct {
        void (*damage)(struct vx_volume *, struct vx_labelmap *);
        const char *code, *file, *text;
        bool warning;
    } kinds[] = {
        {nan_voxel, "not_finite", "c_0000.nii.gz", "channel 1 at z 1, y 2, x 3", false},
        {wrong_label, "unexpected_label", "labelsTr/c.nii.gz", "2 voxels have the values 9, 7",
         false},
        {short_label, "shape_mismatch", "labelsTr/c.nii.gz", "5 x 7 x 8", false},
        {other_spacing, "spacing_mismatch", "labelsTr/c.nii.gz", "1 x 1 x 2.5", false},
        {no_foreground, "no_foreground", "labelsTr/c.nii.gz", "no voxel", true},
        {other_origin, "affine_mismatch", "labelsTr/c.nii.gz", "origin", true},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        char *dir = fixture_dir("damage");
        vx_auto_rawset struct vx_rawset set = {0};
        bool usable;
        add(dir, "c", kinds[k].damage);
        fixture_list(dir, 2, &set);
        vx_auto_findings struct vx_findings f = look(&set, 0, &usable);
        expect_only(&f, kinds[k].code, kinds[k].warning, kinds[k].file, kinds[k].text);
        cr_assert_eq(usable, kinds[k].warning);
        cr_assert_str_eq(f.list[0].case_name, "c");
        fixture_remove(dir);
    }
}

Test(prepare_integrity, good_case_has_no_findings) {
    char *dir = fixture_dir("good");
    vx_auto_rawset struct vx_rawset set = {0};
    bool usable;
    add(dir, "c", NULL);
    fixture_list(dir, 2, &set);
    vx_auto_findings struct vx_findings f = look(&set, 0, &usable);
    cr_assert_eq(f.n, 0);
    cr_assert(usable);
    cr_assert_geq(vx_integrity_memory(&set.cases[0], 2), 6 * 7 * 8 * 11);
    fixture_remove(dir);
}

Test(prepare_integrity, unreadable_files_are_findings) {
    char *dir = fixture_dir("broken");
    vx_auto_rawset struct vx_rawset set = {0};
    bool usable;
    add(dir, "c", NULL);
    vx_auto_free char *path = vx_strf("%s/imagesTr/c_0001.nii.gz", dir), *data = NULL;
    size_t len;
    cr_assert_eq(vx_read_file(path, 1 << 20, &data, &len, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(path, data, len / 2, 0644, NULL), VX_OK);
    fixture_list(dir, 2, &set);
    vx_auto_findings struct vx_findings f = look(&set, 0, &usable);
    expect_only(&f, "unreadable", false, "c_0001.nii.gz", "nifti_");
    cr_assert_not(usable);
    cr_assert_eq(vx_write_file_atomic(path, "", 0, 0644, NULL), VX_OK);
    vx_auto_findings struct vx_findings empty = look(&set, 0, &usable);
    expect_only(&empty, "unreadable", false, "c_0001.nii.gz", "");
    fixture_remove(dir);
}

Test(prepare_integrity, labels_that_are_no_integers) {
    char *dir = fixture_dir("float");
    vx_auto_rawset struct vx_rawset set = {0};
    bool usable;
    struct vx_err e = {0};
    add(dir, "c", NULL);
    vx_auto_volume struct vx_volume halves;
    struct vx_geometry geo;
    vx_geometry_init(&geo, spacing);
    cr_assert_eq(vx_volume_init(&halves, 1, shape, &geo, NULL), VX_OK);
    halves.data[100] = 0.5f;
    vx_auto_free char *path = vx_strf("%s/labelsTr/c.nii.gz", dir);
    expect_ok(vx_nifti_write_image(path, &halves, &e));
    fixture_list(dir, 2, &set);
    vx_auto_findings struct vx_findings f = look(&set, 0, &usable);
    expect_only(&f, "unexpected_label", false, "labelsTr/c.nii.gz", "0.5");
    fixture_remove(dir);
}

Test(prepare_integrity, channels_on_the_fourth_axis) {
    char *dir = fixture_dir("frames");
    vx_auto_rawset struct vx_rawset set = {0};
    vx_auto_volume struct vx_volume image;
    vx_auto_labelmap struct vx_labelmap label;
    vx_auto_findings struct vx_findings f = {0};
    struct vx_dataset_desc d = fixture_dataset(1, 3, 1);
    struct vx_err e = {0};
    bool usable;
    fixture_case(shape, spacing, 2, &image, &label);
    vx_auto_free char *path = vx_strf("%s/imagesTr/c_0000.nii.gz", dir);
    vx_auto_free char *labels = vx_strf("%s/labelsTr/c.nii.gz", dir);
    expect_ok(vx_nifti_write_image(path, &image, &e));
    expect_ok(vx_nifti_write_labels(labels, &label, &e));
    fixture_list(dir, 1, &set);
    expect_ok(vx_integrity_case(&d, &set.cases[0], 10, &f, NULL, &usable, &e));
    cr_assert_not(usable);
    expect_only(&f, "channel_mismatch", false, "c_0000.nii.gz", "holds 2 channels");
    fixture_remove(dir);
}

Test(prepare_integrity, set_reports_names_and_counts) {
    char *dir = fixture_dir("set");
    vx_auto_rawset struct vx_rawset set = {0};
    struct vx_err e = {0};
    struct vx_dataset_desc d = fixture_dataset(2, 3, 5);
    add(dir, "a", NULL);
    add(dir, "b", NULL);
    add(dir, "c", nan_voxel);
    vx_auto_free char *channel = vx_strf("%s/imagesTr/a_0001.nii.gz", dir);
    vx_auto_free char *label = vx_strf("%s/labelsTr/b.nii.gz", dir);
    vx_auto_free char *orphan = vx_strf("%s/labelsTr/z.nii.gz", dir);
    cr_assert_eq(rename(label, orphan), 0);
    cr_assert_eq(unlink(channel), 0);
    fixture_list(dir, 2, &set);
    vx_auto_findings struct vx_findings f = {0};
    expect_ok(vx_integrity_set(&d, &set, &f, &e));
    bool usable[3];
    for (size_t i = 0; i < set.n_cases; i++) {
        expect_ok(vx_integrity_case(&d, &set.cases[i], 10, &f, NULL, &usable[i], &e));
        cr_assert_not(usable[i]);
    }
    static const char *const want[] = {"missing_channel", "missing_label", "orphan_label",
                                       "case_count", "not_finite"};
    for (size_t w = 0; w < sizeof want / sizeof want[0]; w++) {
        size_t found = 0;
        for (size_t i = 0; i < f.n; i++) {
            found += strcmp(f.list[i].code, want[w]) == 0;
        }
        cr_assert_eq(found, 1, "%s: %zu", want[w], found);
    }
    cr_assert_eq(f.n, 5);
    fixture_remove(dir);
}

Test(prepare_integrity, report_goes_through_json) {
    struct vx_finding list[2] = {
        {false, "a", "imagesTr/a.nii.gz", "voxels", "not_finite", "1 voxel is NaN"},
        {true, "b", "", "labels", "no_foreground", "caf\xe9"} /* Latin-1, not UTF-8 */};
    struct vx_findings f = {2, list};
    vx_auto_json json_t *json = vx_findings_to_json(&f, 7);
    cr_assert_not_null(json);
    cr_assert(json_is_false(json_object_get(json, "ok")));
    cr_assert_eq(json_integer_value(json_object_get(json, "cases")), 7);
    cr_assert_eq(json_integer_value(json_object_get(json, "errors")), 1);
    cr_assert_eq(json_integer_value(json_object_get(json, "warnings")), 1);
    vx_auto_findings struct vx_findings back = {0};
    cr_assert_eq(vx_findings_from_json(json, &back, NULL), VX_OK);
    cr_assert_eq(back.n, 2);
    cr_assert_str_eq(back.list[0].text, list[0].text);
    cr_assert_str_eq(back.list[1].text, "caf?");
    cr_assert(back.list[1].warning);
}

Test(prepare_integrity, real_cases_are_good) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no real volumes: set VOXELD_TEST_DATA");
    }
    static const char *const names[] = {"Dataset004_Hippocampus", "Dataset101_SarcomaCT",
                                        "Dataset102_SarcomaCTMR"};
    for (size_t n = 0; n < 3; n++) {
        vx_auto_free char *dir = vx_strf("%s/%s", data, names[n]);
        struct vx_err e = {0};
        struct vx_dataset_desc d;
        vx_auto_rawset struct vx_rawset set = {0};
        vx_auto_findings struct vx_findings f = {0};
        bool usable;
        expect_ok(vx_dataset_load(dir, &d, &e));
        fixture_list(dir, d.n_channels, &set);
        expect_ok(vx_integrity_set(&d, &set, &f, &e));
        expect_ok(vx_integrity_case(&d, &set.cases[0], 10, &f, NULL, &usable, &e));
        cr_assert(usable, "%s", f.n ? f.list[0].text : "");
        cr_assert(vx_findings_ok(&f), "%s", f.n ? f.list[0].text : "");
    }
}
