/* The pickle writer against the bytes that Python's own pickler and pickletools give. */
#include "checkpoint/pickle_write.h"

#include "base/err.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void expect_bytes(struct vx_pickle *p, const char *want, size_t n) {
    struct vx_err e = {0};
    vx_auto_free char *got = NULL;
    size_t len = 0;
    cr_assert_eq(vx_pickle_finish(p, &got, &len, &e), VX_OK, "%s", e.text);
    cr_assert_eq(len, n);
    cr_assert_eq(memcmp(got, want, n), 0);
}
#define expect(p, text) expect_bytes(p, text, sizeof(text) - 1)

Test(checkpoint_pickle, numbers_in_their_shortest_form) {
    static const int64_t x[] = {0,  255,       256,       65535,     65536,
                                -1, INT32_MIN, INT32_MAX, 1LL << 31, INT64_MIN};
    struct vx_pickle p = VX_PICKLE_INIT;
    vx_pickle_ints(&p, x, VX_COUNTOF(x));
    expect(&p, "\x80\x02(K\x00K\xffM\x00\x01M\xff\xffJ\x00\x00\x01\x00J\xff\xff\xff\xff"
               "J\x00\x00\x00\x80J\xff\xff\xff\x7f\x8a\x08\x00\x00\x00\x80\x00\x00\x00\x00"
               "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80t.");
    vx_pickle_real(&p, -1.5);
    expect(&p, "\x80\x02G\xbf\xf8\x00\x00\x00\x00\x00\x00.");
}

Test(checkpoint_pickle, json_keeps_its_order) {
    struct vx_pickle p = VX_PICKLE_INIT;
    vx_auto_json json_t *doc = json_loads("{\"b\": [1, true, null], \"a\": \"\\u00e9\"}", 0, NULL);
    vx_pickle_json(&p, doc);
    expect(&p, "\x80\x02}(X\x01\x00\x00\x00"
               "b](K\x01\x88NeX\x01\x00\x00\x00"
               "aX\x02\x00\x00\x00\xc3\xa9u.");
}

Test(checkpoint_pickle, a_class_is_named_once) {
    struct vx_pickle p = VX_PICKLE_INIT;
    vx_pickle_tuple(&p);
    vx_pickle_ordered_dict(&p);
    vx_pickle_end(&p);
    vx_pickle_ordered_dict(&p);
    vx_pickle_end(&p);
    vx_pickle_device(&p, "cpu");
    vx_pickle_end(&p);
    expect(&p, "\x80\x02("
               "ccollections\nOrderedDict\nq\x00)R(u"
               "h\x00)R(u"
               "ctorch\ndevice\nX\x03\x00\x00\x00"
               "cpu\x85Rt.");
}

Test(checkpoint_pickle, a_tensor_as_torch_rebuilds_it) {
    struct vx_pickle p = VX_PICKLE_INIT;
    vx_pickle_tensor(&p, 12, 2, (const int64_t[]){3, 4});
    expect(&p, "\x80\x02"
               "ctorch._utils\n_rebuild_tensor_v2\nq\x00("
               "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nq\x01X\x02\x00\x00\x00"
               "12X\x03\x00\x00\x00"
               "cpuK\x0ctQK\x00(K\x03K\x04t(K\x04K\x01t\x89"
               "ccollections\nOrderedDict\nq\x02)R(utR.");
}

Test(checkpoint_pickle, misuse_is_found_at_the_end) {
    struct vx_err e = {0};
    struct vx_pickle p = VX_PICKLE_INIT;
    char *got = NULL;
    size_t len = 0;
    cr_assert_eq(vx_pickle_finish(&p, &got, &len, &e), VX_E_INVALID);
    vx_pickle_list(&p);
    cr_assert_eq(vx_pickle_finish(&p, &got, &len, &e), VX_E_INVALID);
    vx_pickle_none(&p);
    vx_pickle_end(&p);
    cr_assert_eq(vx_pickle_finish(&p, &got, &len, &e), VX_E_INVALID);
    for (int i = 0; i <= VX_PICKLE_MAX_OPEN; i++) {
        vx_pickle_list(&p);
    }
    cr_assert_eq(vx_pickle_finish(&p, &got, &len, &e), VX_E_INVALID);
    cr_assert_null(got);
}
