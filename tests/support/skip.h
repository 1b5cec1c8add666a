/* Skipping a test, so that scripts/test can hold the number of skips against tests/expected-skips.
 */
#ifndef VX_TESTS_SUPPORT_SKIP_H
#define VX_TESTS_SUPPORT_SKIP_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* need: one word of tests/expected-skips, e.g. "data"; the message says what is missing. */
#define vx_skip(need, ...)                                                                         \
    do {                                                                                           \
        vx_skip_note(need, __FILE__);                                                              \
        cr_skip_test(__VA_ARGS__);                                                                 \
    } while (0)

static inline void vx_skip_note(const char *need, const char *file) {
    const char *path = getenv("VX_SKIP_LOG");
    FILE *f = path ? fopen(path, "ae") : NULL;
    if (f) {
        fprintf(f, "%s %s\n", need, file);
        fclose(f);
    }
}

/* Folder of the real test volumes ($VOXELD_TEST_DATA, default ../shared/data); NULL where it is
 * absent. */
static inline const char *vx_test_data(void) {
    const char *dir = getenv("VOXELD_TEST_DATA");
    if (!dir) {
        dir = "../shared/data";
    }
    FILE *f = NULL;
    char path[1024];
    snprintf(path, sizeof path, "%s/Dataset004_Hippocampus/dataset.json", dir);
    f = fopen(path, "re");
    if (!f) {
        return NULL;
    }
    fclose(f);
    return dir;
}

#endif
