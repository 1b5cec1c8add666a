/* nnU-Net's rules for initial patches, rotation limits, dummy 2d and mirror axes: published golden
 * values. */
#include "augment/policy.h"
#include "base/err.h"

#include <criterion/criterion.h>
#include <math.h>

static struct vx_aug_policy policy(uint32_t dims, int32_t d, int32_t h, int32_t w) {
    struct vx_aug_policy p;
    int32_t patch[3] = {d, h, w};
    cr_assert_eq(vx_aug_policy_default(dims, 1, patch, &p), VX_OK);
    cr_assert(vx_aug_policy_valid(&p));
    return p;
}

static void check_initial(struct vx_aug_policy p, int32_t d, int32_t h, int32_t w) {
    cr_assert(p.initial[0] == d && p.initial[1] == h && p.initial[2] == w, "%d %d %d not %d %d %d",
              p.initial[0], p.initial[1], p.initial[2], d, h, w);
}

Test(augment_policy, initial_patches) {
    check_initial(policy(3, 128, 128, 128), 205, 205, 205);
    check_initial(policy(3, 40, 56, 40), 73, 80, 64);
    check_initial(policy(3, 80, 192, 160), 194, 289, 210);
    check_initial(policy(3, 64, 192, 160), 178, 289, 200);
    check_initial(policy(3, 40, 224, 224), 40, 263, 263);
    check_initial(policy(3, 20, 320, 256), 20, 376, 376);
    check_initial(policy(2, 1, 512, 512), 1, 602, 602);
    check_initial(policy(2, 1, 56, 40), 1, 65, 65);
    check_initial(policy(2, 1, 320, 256), 1, 376, 376);
    check_initial(policy(2, 1, 320, 192), 1, 422, 225);
}

Test(augment_policy, rotation_dummy_and_mirror_axes) {
    struct vx_aug_policy p = policy(3, 40, 56, 40);
    cr_assert_float_eq(p.rotation_limit, M_PI / 6, 1e-6);
    cr_assert(!p.dummy_2d && p.mirror_axes == 7);
    p = policy(3, 20, 320, 256);
    cr_assert(p.dummy_2d);
    cr_assert_float_eq(p.rotation_limit, M_PI, 1e-6);
    p = policy(3, 40, 120, 40); /* exactly 3: not dummy */
    cr_assert(!p.dummy_2d);
    p = policy(2, 1, 56, 40);
    cr_assert_float_eq(p.rotation_limit, M_PI, 1e-6);
    cr_assert_eq(p.mirror_axes, 6);
    p = policy(2, 1, 320, 192);
    cr_assert_float_eq(p.rotation_limit, M_PI / 12, 1e-6);
}

Test(augment_policy, refuses_what_cannot_be) {
    struct vx_aug_policy p;
    int32_t flat[3] = {2, 8, 8}, none[3] = {4, 0, 8}, fine[3] = {8, 8, 8};
    cr_assert_eq(vx_aug_policy_default(2, 1, flat, &p), VX_E_INVALID);
    cr_assert_eq(vx_aug_policy_default(3, 1, none, &p), VX_E_INVALID);
    cr_assert_eq(vx_aug_policy_default(3, 0, fine, &p), VX_E_INVALID);
    cr_assert_eq(vx_aug_policy_default(3, VX_AUG_MAX_CHANNELS + 1, fine, &p), VX_E_INVALID);
    cr_assert_eq(vx_aug_policy_default(4, 1, fine, &p), VX_E_INVALID);
    cr_assert_eq(vx_aug_policy_default(3, 1, fine, &p), VX_OK);
    struct vx_aug_policy bad = p;
    bad.p_noise = NAN;
    cr_assert_not(vx_aug_policy_valid(&bad));
    bad = p;
    bad.zoom_hi = 2;
    cr_assert_not(vx_aug_policy_valid(&bad));
    bad = p;
    bad.initial[1] = 7;
    cr_assert_not(vx_aug_policy_valid(&bad));
    bad = p;
    bad.version++;
    cr_assert_not(vx_aug_policy_valid(&bad));
    cr_assert_eq(vx_aug_policy_none(3, 2, fine, &p), VX_OK);
    cr_assert(vx_aug_policy_valid(&p));
}
