/* The key changes with everything that changes voxels, and with nothing else. */
#include "cache/key.h"

#include "base/err.h"
#include "plan/plans.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct subject {
    struct vx_plans plans;
    struct vx_plan_config config;
    struct vx_dataset_desc dataset;
};

static struct subject plain(void) {
    struct subject s;
    memset(&s, 0, sizeof s);
    snprintf(s.plans.dataset_name, sizeof s.plans.dataset_name, "Dataset004_Hippocampus");
    for (int a = 0; a < 3; a++) {
        s.plans.transpose_forward[a] = s.plans.transpose_backward[a] = a;
        s.config.spacing[a] = 1.0;
        s.config.patch_size[a] = 40;
    }
    s.plans.n_channels = s.config.n_channels = 2;
    s.config.dims = 3;
    s.config.norm[0] = VX_NORM_CT;
    s.config.norm[1] = VX_NORM_ZSCORE;
    for (int c = 0; c < 2; c++) {
        s.plans.intensity[c] = (struct vx_intensity){
            .mean = 0.1, .std = 1.0 / 3, .percentile_00_5 = -4, .percentile_99_5 = 8};
    }
    s.config.order_data = 3;
    s.config.order_seg = 1;
    s.dataset.n_labels = 3;
    for (int i = 0; i < 3; i++) {
        s.dataset.labels[i].value = i;
    }
    s.dataset.ignore_label = -1;
    return s;
}

static void key_of(const struct subject *s, char hex[VX_SHA256_HEX]) {
    struct vx_err e = {0};
    struct vx_cache_key key;
    cr_assert_eq(vx_cache_key(&s->plans, &s->config, &s->dataset, &key, &e), VX_OK, "%s", e.text);
    memcpy(hex, key.hex, sizeof key.hex);
    vx_cache_key_release(&key);
}

/* Frozen: a change of this text makes everybody's stores be built again, so it wants a new
 * VX_CACHE_FORMAT. */
Test(cache_key, canonical_text) {
    struct vx_err e = {0};
    struct vx_cache_key key;
    struct subject s = plain();
    cr_assert_eq(vx_cache_key(&s.plans, &s.config, &s.dataset, &key, &e), VX_OK);
    cr_assert_str_eq(
        key.text,
        "{\"dims\":3,\"format\":1,\"ignore\":-1,\"labels\":[0,1,2],\"normalisation\":[{\"clip_"
        "high\":8.0,"
        "\"clip_low\":-4.0,\"masked\":false,\"mean\":0.10000000000000001,\"scheme\":"
        "\"CTNormalization\","
        "\"std\":0.33333333333333331},{\"masked\":false,\"scheme\":\"ZScoreNormalization\"}],"
        "\"resample_data\":[3,0],\"resample_seg\":[1,0],\"spacing\":[1.0,1.0,1.0],\"transpose\":[0,"
        "1,2]}");
    char hex[VX_SHA256_HEX];
    vx_sha256_hex(key.text, strlen(key.text), hex);
    cr_assert_str_eq(key.hex, hex);
    vx_cache_key_release(&key);
}

Test(cache_key, changes_with_what_changes_voxels) {
    char was[VX_SHA256_HEX], now[VX_SHA256_HEX];
    struct subject base = plain(), s;
    key_of(&base, was);
#define changes(change)                                                                            \
    s = base;                                                                                      \
    change;                                                                                        \
    key_of(&s, now);                                                                               \
    cr_assert_str_neq(now, was, "%s", #change)
    changes(s.config.spacing[1] = nextafter(1.0, 2.0));
    changes(s.plans.transpose_forward[0] = 1; s.plans.transpose_forward[1] = 0);
    changes(s.config.norm[1] = VX_NORM_NONE);
    changes(s.config.use_mask_for_norm[1] = true);
    changes(s.plans.intensity[0].mean = 0.2);
    changes(s.plans.intensity[0].std = 0.2);
    changes(s.plans.intensity[0].percentile_00_5 = 0.2);
    changes(s.plans.intensity[0].percentile_99_5 = 0.2);
    changes(s.config.order_data = 1);
    changes(s.config.order_data_z = 1);
    changes(s.config.order_seg = 0);
    changes(s.config.order_seg_z = 1);
    changes(s.config.dims = 2);
    changes(s.config.n_channels = 1);
    changes(s.dataset.n_labels = 2);
    changes(s.dataset.ignore_label = 3);
#undef changes
}

Test(cache_key, stays_with_everything_else) {
    char was[VX_SHA256_HEX], now[VX_SHA256_HEX];
    struct subject base = plain(), s = base;
    key_of(&base, was);
    s.config.batch_size = 9;
    s.config.patch_size[0] = 64;
    s.config.n_stages = 4;
    s.config.features[0] = 99;
    s.config.batch_dice = true;
    s.config.order_prob = 1;
    s.plans.intensity[1].mean = 17; /* z-score uses the case's own numbers */
    snprintf(s.dataset.labels[1].name, sizeof s.dataset.labels[1].name, "Anterior");
    snprintf(s.config.name, sizeof s.config.name, "other");
    key_of(&s, now);
    cr_assert_str_eq(now, was);
}

Test(cache_key, numbers_must_be_finite) {
    struct vx_err e = {0};
    struct vx_cache_key key;
    struct subject s = plain();
    s.plans.intensity[0].mean = NAN;
    cr_assert_eq(vx_cache_key(&s.plans, &s.config, &s.dataset, &key, &e), VX_E_INVALID);
    s = plain();
    s.config.spacing[0] = INFINITY;
    cr_assert_eq(vx_cache_key(&s.plans, &s.config, &s.dataset, &key, &e), VX_E_INVALID);
}
