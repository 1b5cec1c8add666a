/* NIfTI reading and writing: the collection of odd files, every type and byte order, files that
 * lie, round trips. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "oddities.h"
#include "raw_file.h"
#include "support/skip.h"
#include "volume/nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

TestSuite(volume_nifti, .init = make_folder, .fini = remove_folder);

Test(volume_nifti, reads_oddities_as_nibabel_does) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no test volumes");
    }
    for (size_t k = 0; k < VX_COUNTOF(readable_oddities); k++) {
        const struct readable_oddity *o = &readable_oddities[k];
        char path[1024];
        snprintf(path, sizeof path, "%s/nifti-oddities/%s", data, o->name);
        struct vx_err err = {0};
        vx_auto_volume struct vx_volume v = {0};
        cr_assert_eq(vx_nifti_read_image(path, NULL, &v, &err), VX_OK, "%s", err.text);
        cr_assert_eq(v.channels, o->channels, "%s", o->name);
        int64_t nans = 0, n = v.channels * vx_shape_count(v.shape);
        double sum = 0, weighted = 0;
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(v.shape[i], o->shape[i], "%s axis %d", o->name, i);
            cr_assert_float_eq(v.geo.spacing[i], o->spacing[i], 1e-6, "%s axis %d", o->name, i);
        }
        for (int64_t i = 0; i < n; i++) {
            nans += isnan(v.data[i]);
            double x = isnan(v.data[i]) ? 0 : v.data[i];
            sum += x;
            weighted += x * (double)(i % 97 + 1);
        }
        cr_assert_eq(nans, o->nans, "%s", o->name);
        cr_assert_float_eq(sum, o->sum, fabs(o->sum) * 1e-9, "%s: %.12g", o->name, sum);
        cr_assert_float_eq(weighted, o->weighted, fabs(o->weighted) * 1e-9, "%s: %.12g", o->name,
                           weighted);
        double m[3][4];
        vx_geometry_affine(&v.geo, m);
        for (int i = 0; o->has_affine && i < 12; i++) {
            cr_assert_float_eq(m[i / 4][i % 4], o->affine[i / 4][i % 4], 1e-4, "%s", o->name);
        }
    }
}

Test(volume_nifti, refuses_broken_oddities_with_a_reason) {
    const char *data = vx_test_data();
    if (!data) {
        vx_skip("data", "no test volumes");
    }
    cr_assert_eq(VX_COUNTOF(readable_oddities) + VX_COUNTOF(refused_oddities), 32);
    for (size_t k = 0; k < VX_COUNTOF(refused_oddities); k++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/nifti-oddities/%s", data, refused_oddities[k].name);
        cr_assert_refused(path, refused_oddities[k].reason);
    }
}

static bool is_signed(int datatype) {
    return datatype != 2 && datatype != 512 && datatype != 768 && datatype != 1280;
}

Test(volume_nifti, reads_every_type_in_both_byte_orders) {
    static const struct {
        int code, size;
    } types[] = {
#define X(code, type) {code, (int)sizeof(type)},
        TYPES(X)
#undef X
    };
    for (size_t t = 0; t < VX_COUNTOF(types); t++) {
        for (int k = 0; k < 4; k++) { /* byte order x compression */
            struct raw r;
            raw_init(&r, types[t].code, 8 * types[t].size, k & 1);
            for (size_t i = 0; i < 24; i++) {
                put_typed(&r, types[t].code, i, (int)i * 5 - (is_signed(types[t].code) ? 40 : 0));
            }
            const char *path = raw_write(&r, k & 2 ? "a.nii.gz" : "a.nii");
            struct vx_err err = {0};
            vx_auto_volume struct vx_volume v = {0};
            cr_assert_eq(vx_nifti_read_image(path, NULL, &v, &err), VX_OK, "%s", err.text);
            vx_auto_labelmap struct vx_labelmap m = {0};
            cr_assert_eq(vx_nifti_read_labels(path, NULL, &m, &err), VX_OK, "%s", err.text);
            cr_assert(v.shape[0] == 4 && v.shape[1] == 3 && v.shape[2] == 2 && v.channels == 1);
            cr_assert(v.geo.spacing[0] == 2.5 && v.geo.spacing[1] == 1.5 &&
                      v.geo.spacing[2] == 0.5);
            for (int i = 0; i < 24; i++) {
                int want = i * 5 - (is_signed(types[t].code) ? 40 : 0);
                cr_assert_eq(v.data[i], (float)want, "type %d", types[t].code);
                cr_assert_eq(m.data[i], want, "type %d", types[t].code);
            }
        }
    }
}

Test(volume_nifti, scales_as_nibabel_does) {
    static const struct {
        float slope, inter, want; /* of stored value 7 */
    } rows[] = {{2, 1, 15}, {0, 5, 7}, {NAN, 5, 7}, {INFINITY, 5, 7}, {-0.5f, 0, -3.5f}, {1, 0, 7}};
    for (size_t k = 0; k < VX_COUNTOF(rows); k++) {
        struct raw r;
        raw_init(&r, 4, 16, k & 1);
        put_f32(&r, 112, rows[k].slope);
        put_f32(&r, 116, rows[k].inter);
        put_typed(&r, 4, 3, 7);
        vx_auto_volume struct vx_volume v = {0};
        cr_assert_eq(vx_nifti_read_image(raw_write(&r, "s.nii"), NULL, &v, NULL), VX_OK);
        cr_assert_eq(v.data[3], rows[k].want);
    }
    struct raw r;
    raw_init(&r, 4, 16, false);
    put_f32(&r, 112, 2);
    put_f32(&r, 116, NAN);
    cr_assert_refused(raw_write(&r, "s.nii"), "nifti_header");
}

Test(volume_nifti, holds_to_the_limit) {
    struct raw r;
    raw_init(&r, 2, 8, false);
    const char *path = raw_write(&r, "m.nii");
    struct vx_nifti_limits limits = {.max_bytes = 24 * 4 - 1};
    vx_auto_volume struct vx_volume v = {0};
    struct vx_err err = {0};
    cr_assert_eq(vx_nifti_read_image(path, &limits, &v, &err), VX_E_LIMIT);
    cr_assert_str_eq(err.reason, "volume_too_large");
    limits.max_bytes++;
    cr_assert_eq(vx_nifti_read_image(path, &limits, &v, &err), VX_OK);
}

Test(volume_nifti, labels_must_be_integers_in_range) {
    struct raw r;
    raw_init(&r, 16, 32, false);
    put_f32(&r, 352 + 4 * 9, 2.5f);
    struct vx_err err = {0};
    struct vx_labelmap m = {0};
    cr_assert_eq(vx_nifti_read_labels(raw_write(&r, "l.nii"), NULL, &m, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "label_not_integer");
    cr_assert_not_null(strstr(err.text, "label 2.5 at voxel (x 1, y 1, z 1)"), "%s", err.text);
    put_f32(&r, 352 + 4 * 9, NAN);
    cr_assert_eq(vx_nifti_read_labels(raw_write(&r, "l.nii"), NULL, &m, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "label_not_integer");
    put_f32(&r, 352 + 4 * 9, 40000);
    cr_assert_eq(vx_nifti_read_labels(raw_write(&r, "l.nii"), NULL, &m, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "label_out_of_range");
    raw_init(&r, 2, 8, false);
    put_i16(&r, 40, 4);
    put_i16(&r, 46, 2);
    put_i16(&r, 48, 2);
    cr_assert_eq(vx_nifti_read_labels(raw_write(&r, "l.nii"), NULL, &m, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "nifti_frames");
}

Test(volume_nifti, two_dimensional_files_get_a_slice) {
    struct raw r;
    raw_init(&r, 2, 8, false);
    put_i16(&r, 40, 2);
    struct vx_nifti_info info;
    cr_assert_eq(vx_nifti_read_header(raw_write(&r, "d.nii"), &info, NULL), VX_OK);
    cr_assert(info.shape[0] == 1 && info.shape[1] == 3 && info.shape[2] == 2);
    cr_assert_float_eq(info.geo.spacing[0], 999 * 1.5, 1e-9);
    cr_assert_eq(info.geo.ndim, 2);
}

Test(volume_nifti, spacing_follows_the_unit) {
    struct raw r;
    raw_init(&r, 2, 8, true);
    r.bytes[123] = 3; /* microns */
    put_f32(&r, 80, -500);
    struct vx_nifti_info info;
    cr_assert_eq(vx_nifti_read_header(raw_write(&r, "u.nii"), &info, NULL), VX_OK);
    cr_assert_float_eq(info.geo.spacing[2], 0.5, 1e-12);
    cr_assert(info.big_endian && info.geo.pixdim[1] == -500);
}

static struct vx_geometry odd_geometry(void) {
    struct vx_geometry g;
    vx_geometry_init(&g, (const double[3]){2.5, 1.25, 0.75});
    g.pixdim[0] = -1;
    g.qform_code = 1;
    g.sform_code = 2;
    for (int i = 0; i < 3; i++) {
        g.quatern[i] = 0.1f * (float)(i + 1);
        g.qoffset[i] = -10.3f * (float)i;
        for (int k = 0; k < 4; k++) {
            g.srow[i][k] = 0.37f * (float)(i + 1) - (float)k;
        }
    }
    return g;
}

Test(volume_nifti, labels_round_trip) {
    struct vx_geometry g = odd_geometry();
    static const int largest[] = {254, 255, 3000};
    for (int k = 0; k < 6; k++) {
        vx_auto_labelmap struct vx_labelmap m = {0}, back = {0};
        cr_assert_eq(vx_labelmap_init(&m, (const int64_t[3]){4, 5, 60}, &g, NULL), VX_OK);
        for (int i = 0; i < 1200; i++) {
            m.data[i] = (int16_t)(i * 31 % (largest[k / 2] + 1));
        }
        m.data[7] = (int16_t)largest[k / 2];
        char path[512];
        snprintf(path, sizeof path, "%s", in_folder(k & 1 ? "r.nii.gz" : "r.nii"));
        struct vx_err err = {0};
        cr_assert_eq(vx_nifti_write_labels(path, &m, &err), VX_OK, "%s", err.text);
        cr_assert_eq(vx_nifti_read_labels(path, NULL, &back, &err), VX_OK, "%s", err.text);
        cr_assert_eq(memcmp(m.data, back.data, 1200 * sizeof(int16_t)), 0);
        cr_assert_eq(memcmp(&m.geo, &back.geo, sizeof g), 0);
        struct vx_nifti_info info;
        cr_assert_eq(vx_nifti_read_header(path, &info, NULL), VX_OK);
        cr_assert_eq(info.datatype, largest[k / 2] < 255 ? 2 : 512);
        struct stat st;
        cr_assert(stat(path, &st) == 0 && (k & 1 || st.st_size == 352 + 1200 * (k / 2 ? 2 : 1)));
    }
    vx_auto_labelmap struct vx_labelmap m = {0};
    cr_assert_eq(vx_labelmap_init(&m, (const int64_t[3]){1, 1, 2}, &g, NULL), VX_OK);
    m.data[1] = -1;
    cr_assert_eq(vx_nifti_write_labels(in_folder("n.nii.gz"), &m, NULL), VX_E_INVALID);
    cr_assert_not(vx_path_exists(in_folder("n.nii.gz")));
}

Test(volume_nifti, images_round_trip) {
    struct vx_geometry g = odd_geometry();
    for (int channels = 1; channels <= 2; channels++) {
        vx_auto_volume struct vx_volume v = {0}, back = {0};
        cr_assert_eq(vx_volume_init(&v, channels, (const int64_t[3]){2, 3, 5}, &g, NULL), VX_OK);
        for (int i = 0; i < 30 * channels; i++) {
            v.data[i] = (float)i * 0.3f - 2;
        }
        const char *path = in_folder("i.nii.gz");
        cr_assert_eq(vx_nifti_write_image(path, &v, NULL), VX_OK);
        cr_assert_eq(vx_nifti_read_image(path, NULL, &back, NULL), VX_OK);
        cr_assert_eq(back.channels, channels);
        cr_assert_eq(memcmp(v.data, back.data, 30 * sizeof(float) * (size_t)channels), 0);
        cr_assert_eq(memcmp(&v.geo, &back.geo, sizeof g), 0);
    }
}

Test(volume_nifti, failed_write_leaves_nothing) {
    vx_auto_volume struct vx_volume v = {0};
    cr_assert_eq(vx_volume_init(&v, 1, (const int64_t[3]){1, 1, 2}, NULL, NULL), VX_OK);
    cr_assert_eq(mkdir(in_folder("taken.nii.gz"), 0700), 0); /* rename onto a folder fails */
    struct vx_err err = {0};
    cr_assert_neq(vx_nifti_write_image(in_folder("taken.nii.gz"), &v, &err), VX_OK);
    char temp[600];
    snprintf(temp, sizeof temp, "%s.tmp.%d", in_folder("taken.nii.gz"), (int)getpid());
    cr_assert_not(vx_path_exists(temp));
    cr_assert_eq(vx_nifti_write_image(in_folder("none/x.nii"), &v, &err), VX_E_NOT_FOUND);
    cr_assert_eq(vx_nifti_write_image(in_folder("x.mha"), &v, &err), VX_E_UNSUPPORTED);
}

Test(volume_nifti, stacks_channels_and_compares_grids) {
    char a[512], b[512], c[512];
    snprintf(a, sizeof a, "%s", in_folder("c_0000.nii.gz"));
    snprintf(b, sizeof b, "%s", in_folder("c_0001.nii.gz"));
    snprintf(c, sizeof c, "%s", in_folder("c_0002.nii.gz"));
    struct vx_geometry g = odd_geometry();
    const char *paths[] = {a, b, c};
    vx_auto_volume struct vx_volume one = {0}, all = {0};
    cr_assert_eq(vx_volume_init(&one, 1, (const int64_t[3]){2, 3, 4}, &g, NULL), VX_OK);
    for (int k = 0; k < 3; k++) {
        one.geo.srow[0][3] = k == 2 ? 5.0f : g.srow[0][3];
        for (int i = 0; i < 24; i++) {
            one.data[i] = (float)(100 * k + i);
        }
        cr_assert_eq(vx_nifti_write_image(paths[k], &one, NULL), VX_OK);
    }
    bool aligned = false;
    struct vx_err err = {0};
    cr_assert_eq(vx_nifti_read_channels(paths, 2, NULL, &all, &aligned, &err), VX_OK, "%s",
                 err.text);
    cr_assert(aligned && all.channels == 2 && all.data[24 + 5] == 105);
    vx_volume_release(&all);
    cr_assert_eq(vx_nifti_read_channels(paths, 3, NULL, &all, &aligned, &err), VX_OK);
    cr_assert(!aligned && all.data[48 + 23] == 223);
    one.geo.pixdim[2] = 1.3f;
    cr_assert_eq(vx_nifti_write_image(b, &one, NULL), VX_OK);
    struct vx_volume none = {0};
    cr_assert_eq(vx_nifti_read_channels(paths, 2, NULL, &none, NULL, &err), VX_E_INVALID);
    cr_assert_str_eq(err.reason, "channel_mismatch");
    cr_assert_str_eq(err.where, b);
}
