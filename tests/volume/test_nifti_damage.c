/* NIfTI files that are cut off, lie or have flipped bits: refused with a reason, or read right;
 * never more memory than the file can fill, never a crash. */
#include "base/own.h"
#include "raw_file.h"

#include <math.h>
#include <sys/resource.h>

TestSuite(volume_nifti_damage, .init = make_folder, .fini = remove_folder);

Test(volume_nifti_damage, refuses_lying_headers) {
    struct raw r;
    for (int gz = 0; gz < 2; gz++) {
        const char *name = gz ? "l.nii.gz" : "l.nii";
        raw_init(&r, 64, 64, false);
        for (size_t i = 42; i < 48; i += 2) {
            put_i16(&r, i, 32767); /* 2.8e14 bytes claimed */
        }
        cr_assert_refused(raw_write(&r, name), "nifti_truncated");
        raw_init(&r, 4, 16, false);
        put_i16(&r, 44, 4); /* one row more than there is */
        cr_assert_refused(raw_write(&r, name), "nifti_truncated");
        raw_init(&r, 4, 16, false);
        put_f32(&r, 108, 1e30f);
        cr_assert_refused(raw_write(&r, name), "nifti_header");
        put_f32(&r, 108, NAN);
        cr_assert_refused(raw_write(&r, name), "nifti_header");
        put_f32(&r, 108, -352);
        cr_assert_refused(raw_write(&r, name), "nifti_header");
        raw_init(&r, 4, 16, false);
        put_f32(&r, 80, 0);
        cr_assert_refused(raw_write(&r, name), "nifti_header");
        put_f32(&r, 80, INFINITY);
        cr_assert_refused(raw_write(&r, name), "nifti_header");
        raw_init(&r, 32, 64, false); /* complex64 */
        cr_assert_refused(raw_write(&r, name), "nifti_datatype");
        raw_init(&r, 4, 16, false);
        put_i16(&r, 40, 5);
        put_i16(&r, 50, 3);
        cr_assert_refused(raw_write(&r, name), "nifti_unsupported");
        raw_init(&r, 4, 16, false);
        memcpy(r.bytes + 344, "ni1", 4);
        cr_assert_refused(raw_write(&r, name), "nifti_unsupported");
        raw_init(&r, 4, 16, false);
        put_i32(&r, 0, 540);
        memcpy(r.bytes + 344, "\0\0\0", 4);
        cr_assert_refused(raw_write(&r, name), "nifti_unsupported");
    }
    cr_assert_refused(in_folder("absent.mha"), "nifti_name");
}

Test(volume_nifti_damage, refuses_every_truncation) {
    struct raw r;
    raw_init(&r, 4, 16, false);
    for (size_t i = 352; i < r.len; i++) {
        r.bytes[i] = (unsigned char)(i * 7919u >> 3);
    }
    for (int gz = 0; gz < 2; gz++) {
        const char *name = gz ? "t.nii.gz" : "t.nii";
        char *whole;
        size_t len;
        cr_assert_eq(vx_read_file(raw_write(&r, name), 1 << 20, &whole, &len, NULL), VX_OK);
        for (size_t n = 0; n < len; n++) {
            cr_assert_eq(vx_write_file_atomic(in_folder(name), whole, n, 0600, NULL), VX_OK);
            char reason[64];
            cr_assert_neq(read_reason(in_folder(name), reason, sizeof reason), VX_OK,
                          "%s cut to %zu of %zu bytes was read", name, n, len);
        }
        free(whole);
    }
}

/* Some bits of a deflate stream carry nothing; where one of those flips, the voxels must be the
 * same. */
Test(volume_nifti_damage, flipped_bits_in_gzip_never_change_voxels) {
    struct raw r;
    raw_init(&r, 4, 16, false);
    for (size_t i = 0; i < 24; i++) {
        put_typed(&r, 4, i, (int)(i * i));
    }
    char *whole;
    size_t len, refused = 0;
    cr_assert_eq(vx_read_file(raw_write(&r, "f.nii.gz"), 1 << 20, &whole, &len, NULL), VX_OK);
    for (size_t bit = 80; bit < 8 * len; bit++) { /* behind gzip's own header */
        whole[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_eq(vx_write_file_atomic(in_folder("f.nii.gz"), whole, len, 0600, NULL), VX_OK);
        vx_auto_volume struct vx_volume v = {0};
        if (vx_nifti_read_image(in_folder("f.nii.gz"), NULL, &v, NULL) != VX_OK) {
            refused++;
        }
        for (int i = 0; v.data && i < 24; i++) {
            cr_assert_eq(v.data[i], (float)(i * i), "bit %zu", bit);
        }
        whole[bit / 8] ^= (char)(1 << bit % 8);
    }
    cr_assert(refused > 8 * (len - 10) * 9 / 10);
    free(whole);
}

/* Every byte of the header in turn gets values that are extreme as sign, size or exponent. What is
 * still read has as many voxels as the file can hold. */
Test(volume_nifti_damage, survives_any_header_byte) {
    static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < 352; at++) {
        for (size_t k = 0; k < VX_COUNTOF(values); k++) {
            struct raw r;
            raw_init(&r, 4, 16, at & 1);
            r.bytes[at] = values[k];
            vx_auto_volume struct vx_volume v = {0};
            vx_auto_labelmap struct vx_labelmap m = {0};
            struct vx_err err = {0};
            const char *path = in_folder("h.nii");
            FILE *f = fopen(path, "we");
            cr_assert(f && fwrite(r.bytes, 1, r.len, f) == r.len && fclose(f) == 0);
            int rc = vx_nifti_read_image(path, NULL, &v, &err);
            cr_assert(rc == VX_OK || (rc == err.code && err.reason[0] && err.text[0]));
            cr_assert(rc != VX_OK ||
                      vx_shape_count(v.shape) * v.channels <= (int64_t)(r.len - 352));
            vx_nifti_read_labels(path, NULL, &m, NULL);
        }
    }
}

/* A header that claims more than this process may have must be refused before memory is asked for.
 */
Test(volume_nifti_damage, lying_gzip_allocates_nothing) {
    struct raw r;
    raw_init(&r, 64, 64, false);
    for (size_t i = 42; i < 48; i += 2) {
        put_i16(&r, i, 2000); /* 64 GB as float64 */
    }
    cr_assert_refused(raw_write(&r, "big.nii.gz"), "nifti_truncated");
    struct rusage use;
    cr_assert_eq(getrusage(RUSAGE_SELF, &use), 0);
    cr_assert(use.ru_maxrss < 512 * 1024, "%ld KiB", use.ru_maxrss);
}
