/* Pool sizes and choices. */
#include "base/budget.h"
#include "loader/made_up_store.h"
#include "loader/maker.h"
#include "loader/pool.h"

Test(loader_pool, plan_respects_cores_wishes_and_memory) {
    struct vx_recipe *r = made_recipe(VX_AUG_MODE_DEFAULT, NULL, 0);
    struct vx_pool_plan p;
    struct vx_pool_limits limits = {.cores = 2, .trainer_threads = 2};
    vx_pool_plan(r, &limits, 0, &p);
    cr_assert(p.workers == 1 && p.workers_max == 2 && p.slots == 14);
    cr_assert_eq(p.ring_bytes, p.slots * p.slot_bytes);
    limits = (struct vx_pool_limits){.cores = 16};
    vx_pool_plan(r, &limits, 0, &p);
    cr_assert(p.workers == 16 && p.workers_max == 16 && p.slots == 70);
    vx_pool_plan(r, &limits, 24, &p);
    cr_assert(p.workers == 24 && p.workers_max == 24);
    vx_pool_plan(r, &limits, 1000, &p);
    cr_assert_eq(p.workers, 64);
    limits.memory_bytes = 5 * p.worker_bytes;
    vx_pool_plan(r, &limits, 0, &p);
    cr_assert(p.workers <= 4 && p.workers >= 3);
    cr_assert_leq(p.ring_bytes + p.workers_max * p.worker_bytes, limits.memory_bytes);
    limits.memory_bytes = 1;
    vx_pool_plan(r, &limits, 0, &p);
    cr_assert_eq(p.workers, 1, "one is always there");
    cr_assert_eq(p.worker_bytes, vx_maker_bytes(r));
    vx_recipe_free(r);
}

static const char *cpus_for(uint32_t cores, uint32_t threads, uint32_t workers, bool *ret_bound) {
    static char text[64];
    struct vx_cpus allowed, got;
    cr_assert(vx_cpus_parse("1-4,8-9,70", &allowed));
    *ret_bound = vx_pool_cpus(&allowed, cores, threads, workers, &got);
    return vx_cpus_format(&got, text, sizeof text);
}

Test(loader_pool, workers_keep_off_the_trainers_cpus_where_there_are_enough) {
    bool bound;
    cr_assert_str_eq(cpus_for(7, 2, 5, &bound), "3-4,8-9,70");
    cr_assert(bound);
    cr_assert_str_eq(cpus_for(7, 5, 1, &bound), "9,70");
    cr_assert(bound);
    cr_assert_str_eq(cpus_for(7, 5, 3, &bound), "1-4,8-9,70", "eight wanted, seven there");
    cr_assert_not(bound);
    cr_assert_str_eq(cpus_for(4, 2, 3, &bound), "1-4,8-9,70", "a quota of four");
    cr_assert_not(bound);
    cr_assert_str_eq(cpus_for(7, 0, 3, &bound), "1-4,8-9,70", "a trainer without threads");
    cr_assert_not(bound);
}

Test(loader_pool, balance_and_who_leaves) {
    struct vx_pool_worker w[4] = {
        {true, false, 10}, {false, false, 0}, {true, true, 30}, {true, false, 20}};
    cr_assert_eq(vx_pool_balance(w, 4, 4), 2);
    cr_assert_eq(vx_pool_balance(w, 4, 2), 0);
    cr_assert_eq(vx_pool_balance(w, 4, 0), -2);
    cr_assert_eq(vx_pool_free_entry(w, 4), 1);
    cr_assert_eq(vx_pool_free_entry(w, 1), -1);
    cr_assert_eq(vx_pool_pick_leaver(w, 4), 3);
    cr_assert_eq(vx_pool_pick_leaver(w + 1, 2), -1);
}
