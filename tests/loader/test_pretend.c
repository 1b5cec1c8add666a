/* Pretended samples take the time they are told to, and cost the core what they are told to. */
#include "loader/made_up_store.h"
#include "loader/maker.h"
#include "loader/pretend.h"

#include "augment/policy.h"
#include "base/clock.h"
#include "cache/cache.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

Test(loader_pretend, partly_on_a_core_partly_asleep) {
    const struct vx_pretence p = {.augment_ns = 40000000, .cpu_ns = 10000000};
    uint64_t start = vx_now_ns();
    double cpu = cpu_ms();
    vx_pretend_augment(&p);
    double wall = (double)(vx_now_ns() - start) * 1e-6;
    cpu = cpu_ms() - cpu;
    cr_assert(wall >= 40, "%.2f ms", wall);
    cr_assert(cpu >= 10 && cpu < 30, "%.2f ms", cpu); /* what a hypervisor takes counts as ours */
}

Test(loader_pretend, samples_are_read_and_not_augmented) {
    static float image[STORE_CHANNELS * 12 * 14 * 10];
    static int16_t label[12 * 14 * 10];
    const struct vx_pretence p = {.augment_ns = 5000000};
    struct made_store store = {0};
    struct vx_cache *cache = NULL;
    struct vx_maker *m = NULL;
    struct vx_err err = {0};
    made_store_open(&store);
    struct vx_recipe *recipe = made_recipe(VX_AUG_MODE_DEFAULT, NULL, 0);
    cr_assert_eq(vx_cache_open(store.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_maker_create(recipe, cache, &m, &err), VX_OK);
    vx_maker_pretend(m, &p);
    for (uint32_t k = 0; k < 10; k++) {
        struct vx_made made;
        uint32_t c;
        cr_assert_eq(vx_maker_make(m, 0, k, 0, image, label, &c, &made, NULL, NULL, &err), VX_OK,
                     "%s", err.text);
    }
    struct vx_maker_times t;
    vx_maker_times(m, &t);
    cr_assert_gt(t.bytes_read, 0);
    for (int i = 0; i < VX_T_COUNT; i++) {
        cr_assert(i == VX_T_SPATIAL ? t.augment_ns[i] >= 50000000 : t.augment_ns[i] == 0);
    }
    vx_maker_free(m);
    vx_cache_free(cache);
    vx_recipe_free(recipe);
    made_store_close(&store);
}

/* Bytes that are nobody else's and lie in memory. */
static double resident(void) {
    unsigned long long pages = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    cr_assert(f && fscanf(f, "%*u %llu %llu", &pages, &shared) == 2);
    fclose(f);
    return (double)(pages - shared) * (double)sysconf(_SC_PAGESIZE);
}

Test(loader_pretend, samples_leave_memory_behind) {
    const struct vx_pretence p = {.leak_bytes = 65536};
    double before = resident();
    for (int i = 0; i < 320; i++) {
        vx_pretend_leak(&p);
    }
    double grown = resident() - before;
    cr_assert(grown > 20e6 && grown < 40e6, "%.0f bytes", grown);
    vx_pretend_leak(&(struct vx_pretence){.leak_bytes = 0});
}
