/* The judges over simulated machines with one thing wrong, drawn at random: a table of what was
 * said over what was true. */
#include "tune/confusion.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOWS = 60 };
/* Development used seeds below this. */
#define FIRST_SEED 500000

static int table[VX_VERDICTS][VX_VERDICTS + 1];

static void print_table(void) {
    fprintf(stderr, "%-22s", "true \\ said");
    for (int s = 0; s < VX_VERDICTS; s++) {
        fprintf(stderr, " %.9s", vx_verdict_word((enum vx_verdict_code)s));
    }
    fprintf(stderr, "\n");
    for (int k = 0; k < n_drawn_kinds; k++) {
        int t = drawn_kinds[k];
        fprintf(stderr, "%-22s", vx_verdict_word((enum vx_verdict_code)t));
        for (int s = 0; s < VX_VERDICTS; s++) {
            fprintf(stderr, " %9d", table[t][s]);
        }
        fprintf(stderr, "\n");
    }
}

Test(tune_confusion, verdicts_over_simulated_machines) {
    const char *from = getenv("VX_CONFUSION_SEED"); /* for development: another part of the world */
    uint64_t first = from ? strtoull(from, NULL, 10) : FIRST_SEED;
    int right = 0, all = 0, severe_of_healthy = 0;
    for (int k = 0; k < n_drawn_kinds; k++) {
        int n = 0;
        for (uint64_t seed = first; n < WINDOWS && seed < first + 40 * WINDOWS; seed++) {
            struct vx_tune_window w;
            struct vx_verdict v[VX_VERDICTS];
            if (!draw_window(drawn_kinds[k], seed, &w)) {
                continue;
            }
            int said = vx_tune_judge(&w, v);
            cr_assert_gt(said, 0);
            table[drawn_kinds[k]][v[0].code]++;
            right += v[0].code == drawn_kinds[k];
            severe_of_healthy +=
                drawn_kinds[k] == VX_VERDICT_GPU_BOUND && v[0].severity == VX_SEVERITY_SEVERE;
            if (from && v[0].code != drawn_kinds[k]) {
                fprintf(stderr, "seed %llu: %s is called %s\n", (unsigned long long)seed,
                        vx_verdict_word(drawn_kinds[k]), vx_verdict_word(v[0].code));
            }
            n++;
            all++;
        }
        cr_expect_geq(n, 20, "%s: only %d windows", vx_verdict_word(drawn_kinds[k]), n);
        cr_expect_geq(table[drawn_kinds[k]][drawn_kinds[k]], 0.85 * n, "%s: %d of %d",
                      vx_verdict_word(drawn_kinds[k]), table[drawn_kinds[k]][drawn_kinds[k]], n);
    }
    print_table();
    cr_expect_geq(right, 0.95 * all, "%d of %d are right", right, all);
    cr_expect_eq(severe_of_healthy, 0);
}
