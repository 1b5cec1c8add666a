/* Verdicts in words. */
#include "tune/text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct vx_verdict bound(void) {
    return (struct vx_verdict){
        .code = VX_VERDICT_AUGMENT_BOUND,
        .from = 1,
        .to = 7,
        .n_figures = 2,
        .figure = {{"loader_wait_ratio", "ratio", 0.57}, {"workers", "1", 1}}};
}

Test(tune_text, english_and_chinese) {
    static const struct vx_tune_window w;
    struct vx_verdict v = bound();
    char text[512];
    vx_verdict_say(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "The device waits for samples 57 % of the time: a pool of 1 cannot "
                           "make them fast enough, and cores are idle.");
    vx_verdict_advise(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "More workers: 1 to 7.");
    vx_verdict_advise(&v, &w, VX_CHINESE, text, sizeof text);
    cr_expect_str_eq(text, "增加数据增强进程：1 → 7。");
}

Test(tune_text, figures_of_the_window) {
    struct vx_tune_window w = {.host = {.foreign_pid = 4711, .foreign_name = "stress-ng"}};
    struct vx_verdict v = {.code = VX_VERDICT_NEIGHBOUR_CONTENTION,
                           .n_figures = 3,
                           .figure = {{"loader_wait_ratio", "ratio", 0.062},
                                      {"foreign_cores", "cores", 1.96},
                                      {"foreign_uid", "1", 1000}}};
    char text[512];
    vx_verdict_say(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "The device waits for samples 6.2 % of the time because other programs "
                           "use 2.0 cores, above all stress-ng (process 4711, user 1000).");
}

Test(tune_text, what_is_not_known_is_a_question_mark) {
    static const struct vx_tune_window w;
    struct vx_verdict v = {
        .code = VX_VERDICT_NEIGHBOUR_CONTENTION,
        .n_figures = 2,
        .figure = {{"loader_wait_ratio", "ratio", 0.3}, {"foreign_cores", "cores", 1.5}}};
    char text[512];
    vx_verdict_say(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "The device waits for samples 30 % of the time because other programs "
                           "use 1.5 cores, above all ? (process ?, user ?).");
    v = (struct vx_verdict){.code = VX_VERDICT_MEMORY_PRESSURE, .from = 3, .to = 2};
    vx_verdict_say(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "Memory is nearly used up: ? of ? are left, and a worker needs ?.");
    vx_verdict_advise(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "Fewer workers before the kernel kills one: 3 to 2.");
}

/* Every verdict has words in both languages, and every place in them is filled: figures under the
 * names that the judges use are checked where the judges are (test_judge.c), here that nothing of
 * the pattern is left. */
Test(tune_text, all_verdicts_have_words) {
    static const struct vx_tune_window w;
    for (int c = 0; c < VX_VERDICTS; c++) {
        struct vx_verdict v = {.code = (enum vx_verdict_code)c};
        for (int language = 0; language < 2; language++) {
            char text[512];
            vx_verdict_say(&v, &w, (enum vx_language)language, text, sizeof text);
            cr_expect_gt(strlen(text), 20, "%s", vx_verdict_word(v.code));
            cr_expect_null(strpbrk(text, "{}"), "%s", text);
            vx_verdict_advise(&v, &w, (enum vx_language)language, text, sizeof text);
            cr_expect_gt(strlen(text), 0, "%s", vx_verdict_word(v.code));
            cr_expect_null(strpbrk(text, "{}"), "%s", text);
        }
    }
}

Test(tune_text, a_small_buffer_ends_at_a_character) {
    static const struct vx_tune_window w;
    struct vx_verdict v = bound();
    for (size_t size = 1; size < 40; size++) {
        char text[64];
        memset(text, 'x', sizeof text);
        vx_verdict_say(&v, &w, VX_CHINESE, text, size);
        size_t n = strlen(text);
        cr_assert_lt(n, size);
        /* whole characters of three bytes, or ASCII */
        size_t i = 0;
        while (i < n) {
            i += ((unsigned char)text[i] & 0x80u) ? 3 : 1;
        }
        cr_expect_eq(i, n, "size %zu", size);
    }
}

Test(tune_text, room_for_a_larger_batch) {
    static const struct vx_tune_window w;
    struct vx_verdict v = {.code = VX_VERDICT_GPU_BOUND};
    char text[320];
    vx_verdict_advise(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "Nothing needs to be done.");
    v.figure[v.n_figures++] = (struct vx_figure){"largest_batch", "1", 14};
    v.figure[v.n_figures++] = (struct vx_figure){"largest_batch_utilisation", "ratio", 0.984};
    vx_verdict_advise(&v, &w, VX_ENGLISH, text, sizeof text);
    cr_expect_str_eq(text, "Nothing needs to be done. The device's memory has room for a batch of "
                           "14, at which it would compute 98 % of the time; that changes the "
                           "results, so it is yours to choose.");
    vx_verdict_advise(&v, &w, VX_CHINESE, text, sizeof text);
    cr_expect_not_null(strstr(text, "最大批量为 14"), "%s", text);
    cr_expect_not_null(strstr(text, "98 %"), "%s", text);
}

Test(tune_text, accept_language) {
    cr_expect_eq(vx_language_of(NULL), VX_ENGLISH);
    cr_expect_eq(vx_language_of("zh-CN,zh;q=0.9,en;q=0.8"), VX_CHINESE);
    cr_expect_eq(vx_language_of("de, en;q=0.5, zh;q=0.1"), VX_ENGLISH);
    cr_expect_eq(vx_language_of("fr, zh-TW"), VX_CHINESE);
}
