/* The synthetic data set: the same bytes for the same options, readable, learnable, labelled as
 * synthetic. */
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/roles/phantom.h"
#include "daemon/verbs.h"
#include "volume/nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static char *temp_dir(const char *name) {
    const char *tmp = getenv("TMPDIR");
    char *dir = vx_strf("%s/vx-phantom-%s-%d", tmp ? tmp : "/tmp", name, (int)getpid());
    cr_assert_eq(vx_remove_tree(dir, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    return dir;
}

static struct vx_phantom_options defaults(const char *root) {
    return (struct vx_phantom_options){.root = root,
                                       .name = "Dataset999_Phantom",
                                       .n_cases = 3,
                                       .n_channels = 2,
                                       .n_labels = 3,
                                       .shape = {24, 30, 28},
                                       .spacing = {2, 1, 0.5},
                                       .vary_percent = 10,
                                       .seed = 4};
}

static void read_case(const char *root, int index, int channel, struct vx_volume *image,
                      struct vx_labelmap *labels) {
    struct vx_err e = {0};
    vx_auto_free char *a =
        vx_strf("%s/Dataset999_Phantom/imagesTr/phantom_%04d_%04d.nii.gz", root, index, channel);
    vx_auto_free char *b =
        vx_strf("%s/Dataset999_Phantom/labelsTr/phantom_%04d.nii.gz", root, index);
    cr_assert_eq(vx_nifti_read_image(a, NULL, image, &e), VX_OK, "%s", e.text);
    cr_assert_eq(vx_nifti_read_labels(b, NULL, labels, &e), VX_OK, "%s", e.text);
}

struct class_stats {
    double n, sum, squares;
};

static void measure(const struct vx_volume *image, const struct vx_labelmap *labels,
                    struct class_stats *s, int n_labels) {
    memset(s, 0, (size_t)(n_labels + 1) * sizeof *s);
    for (int64_t i = 0; i < vx_shape_count(labels->shape); i++) {
        double v = image->data[i];
        cr_assert(isfinite(v));
        cr_assert(labels->data[i] >= 0 && labels->data[i] <= n_labels);
        if (labels->data[i] > 0 || v != 0) {
            struct class_stats *c = &s[labels->data[i]];
            c->n++;
            c->sum += v;
            c->squares += v * v;
        }
    }
}

/* Faces between voxels of different foreground labels. */
static int contacts(const struct vx_labelmap *m) {
    int64_t step[3] = {m->shape[1] * m->shape[2], m->shape[2], 1};
    int n = 0;
    for (int64_t i = 0; i < vx_shape_count(m->shape); i++) {
        for (int a = 0; a < 3; a++) {
            bool last = i / step[a] % m->shape[a] == m->shape[a] - 1;
            int here = m->data[i], next = last ? 0 : m->data[i + step[a]];
            n += here > 0 && next > 0 && here != next;
        }
    }
    return n;
}

Test(phantom, cases_are_learnable) {
    struct vx_err e = {0};
    char *root = temp_dir("learn");
    struct vx_phantom_options o = defaults(root);
    cr_assert_eq(vx_phantom_write(&o, &e), VX_OK, "%s", e.text);
    bool shapes_differ = false;
    int64_t first[3] = {0, 0, 0};
    for (int i = 0; i < o.n_cases; i++) {
        vx_auto_volume struct vx_volume image = {0};
        vx_auto_labelmap struct vx_labelmap labels = {0};
        struct class_stats s[4];
        read_case(root, i, 0, &image, &labels);
        for (int a = 0; a < 3; a++) {
            cr_assert(image.shape[a] == labels.shape[a]);
            cr_assert_lt(llabs(image.shape[a] - o.shape[a]), 4);
            cr_assert_eq(image.geo.spacing[a], o.spacing[a]);
            shapes_differ = shapes_differ || (i > 0 && image.shape[a] != first[a]);
            first[a] = i == 0 ? image.shape[a] : first[a];
        }
        measure(&image, &labels, s, o.n_labels);
        double total = (double)vx_shape_count(image.shape);
        for (int l = 0; l <= o.n_labels; l++) {
            double mean = s[l].sum / s[l].n, sd = sqrt(s[l].squares / s[l].n - mean * mean);
            cr_assert_gt(s[l].n, total / 300, "label %d has %g of %g voxels", l, s[l].n, total);
            cr_assert_lt(sd, 0.12 * mean, "label %d: %g +- %g", l, mean, sd);
            if (l > 0) {
                cr_assert_gt(mean, s[l - 1].sum / s[l - 1].n + 20,
                             "label %d is not brighter than its neighbour", l);
            }
        }
        cr_assert_gt(contacts(&labels), 10);
    }
    cr_assert(shapes_differ);
    vx_remove_tree(root, NULL);
    free(root);
}

static void digest(const char *root, int index, char hex[VX_SHA256_HEX]) {
    vx_auto_volume struct vx_volume image = {0};
    vx_auto_labelmap struct vx_labelmap labels = {0};
    read_case(root, index, 1, &image, &labels);
    vx_sha256_hex(image.data, (size_t)vx_shape_count(image.shape) * sizeof *image.data, hex);
}

Test(phantom, same_options_same_voxels) {
    struct vx_err e = {0};
    char *roots[3] = {temp_dir("a"), temp_dir("b"), temp_dir("c")};
    char hex[3][VX_SHA256_HEX], other[VX_SHA256_HEX];
    for (int i = 0; i < 3; i++) {
        struct vx_phantom_options o = defaults(roots[i]);
        o.seed += i == 2;
        o.n_cases = 2 + i; /* how many there are does not change one */
        cr_assert_eq(vx_phantom_write(&o, &e), VX_OK, "%s", e.text);
        digest(roots[i], 1, hex[i]);
    }
    digest(roots[0], 0, other);
    cr_assert_str_eq(hex[0], hex[1]);
    cr_assert_str_neq(hex[0], hex[2]);
    cr_assert_str_neq(hex[0], other);
    for (int i = 0; i < 3; i++) {
        vx_remove_tree(roots[i], NULL);
        free(roots[i]);
    }
}

Test(phantom, ct_and_dataset_json) {
    struct vx_err e = {0};
    char *root = temp_dir("ct");
    struct vx_phantom_options o = defaults(root);
    o.ct = true;
    o.vary_percent = 0;
    cr_assert_eq(vx_phantom_write(&o, &e), VX_OK, "%s", e.text);
    vx_auto_volume struct vx_volume image = {0};
    vx_auto_labelmap struct vx_labelmap labels = {0};
    read_case(root, 0, 0, &image, &labels);
    cr_assert(image.shape[0] == 24 && image.shape[1] == 30 && image.shape[2] == 28);
    cr_assert_eq(image.data[0], -1000.0f, "air in the corner");
    for (int64_t i = 0; i < vx_shape_count(image.shape); i++) {
        cr_assert_eq(image.data[i], roundf(image.data[i]));
    }
    vx_auto_free char *path = vx_strf("%s/Dataset999_Phantom/dataset.json", root);
    vx_auto_json json_t *doc = NULL;
    cr_assert_eq(vx_json_load_file(path, 1 << 20, &doc, &e), VX_OK);
    cr_assert(strstr(json_string_value(json_object_get(doc, "description")), "SYNTHETIC"));
    cr_assert_eq(json_integer_value(json_object_get(doc, "numTraining")), 3);
    cr_assert_eq(json_object_size(json_object_get(doc, "labels")), 4);
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(doc, "channel_names"), "1")),
                     "CT");
    cr_assert_eq(vx_phantom_write(&o, &e), VX_E_EXISTS);
    vx_remove_tree(root, NULL);
    free(root);
}

static int role(const char *root, const char *name, const char *option, const char *value) {
    char *argv[] = {"phantom",    "--out",        (char *)root,  "--name",
                    (char *)name, (char *)option, (char *)value, NULL};
    return vx_role_phantom(option ? 7 : 5, argv);
}

Test(phantom, command_line) {
    char *root = temp_dir("cli");
    cr_assert(freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr));
    cr_assert_eq(role(root, "Phantom", NULL, NULL), 2);
    cr_assert_eq(role(root, "Dataset1_X", NULL, NULL), 2);
    cr_assert_eq(role(root, "Dataset001_X/../y", NULL, NULL), 2);
    const char *const bad[][2] = {
        {"--cases", "0"},   {"--cases", "x"},         {"--shape", "3,4,5"}, {"--shape", "40,40"},
        {"--labels", "65"}, {"--spacing", "1,0,1"},   {"--channels", "17"}, {"--vary", "60"},
        {"--what", "1"},    {"--shape", "40,40,40,4"}};
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        cr_assert_eq(role(root, "Dataset001_X", bad[i][0], bad[i][1]), 2, "%s %s", bad[i][0],
                     bad[i][1]);
    }
    cr_assert_eq(role(root, "Dataset001_X", "--cases", "2"), 0);
    vx_auto_free char *label = vx_strf("%s/Dataset001_X/labelsTr/phantom_0001.nii.gz", root);
    cr_assert(vx_path_exists(label));
    cr_assert_eq(role(root, "Dataset001_X", "--cases", "2"), 1);
    vx_remove_tree(root, NULL);
    free(root);
}
