/* The order of samples against walking through a job batch by batch. */
#include "session/schedule.h"

#include <criterion/criterion.h>

static void walk(struct vx_sample_schedule s) {
    uint64_t q = 0, train_k = 0, val_k = 0;
    for (uint32_t epoch = 0; epoch < s.epochs; epoch++) {
        for (uint32_t i = 0; i < s.train_iterations + s.val_iterations; i++) {
            bool train = i < s.train_iterations;
            uint64_t k = train ? train_k++ : val_k++;
            uint32_t stream = train ? VX_STREAM_TRAIN : VX_STREAM_VAL;
            cr_assert_eq(vx_sample_q(&s, stream, k), q);
            for (uint32_t j = 0; j < s.batch; j++, q++) {
                struct vx_sample_ref r = vx_sample_at(&s, q);
                cr_assert_eq(r.stream, stream);
                cr_assert_eq(r.k, k);
                cr_assert_eq(r.j, j);
                cr_assert_eq(r.epoch, epoch);
            }
        }
    }
    cr_assert_eq(vx_sample_end(&s), q);
}

Test(session_schedule, matches_a_walk_through_the_job) {
    walk((struct vx_sample_schedule){2, 5, 3, 4});
    walk((struct vx_sample_schedule){1, 1, 0, 3});
    walk((struct vx_sample_schedule){9, 7, 1, 2});
    walk((struct vx_sample_schedule){3, 250, 50, 2});
}

Test(session_schedule, long_jobs_pass_32_bits) {
    struct vx_sample_schedule s = {366, 250, 50, 100000};
    cr_assert_eq(vx_sample_end(&s), 366ull * 300 * 100000);
    struct vx_sample_ref r = vx_sample_at(&s, vx_sample_end(&s) - 1);
    cr_assert_eq(r.stream, VX_STREAM_VAL);
    cr_assert_eq(r.k, 50ull * 100000 - 1);
    cr_assert_eq(r.j, 365);
}
