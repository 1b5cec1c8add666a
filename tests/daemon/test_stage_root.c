/* Where a job may stage to, as far as the words of its folder tell. */
#include "base/err.h"
#include "daemon/config.h"
#include "daemon/keeper/stage_root.h"

#include <criterion/criterion.h>
#include <string.h>

Test(daemon_stage_root, only_folders_named_beneath_the_configured_one_are_admitted) {
    static const struct {
        const char *root, *asked;
        bool fits;
    } rows[] = {
        {"/fast", "/fast", true},       {"/fast", "/fast/", true},   {"/fast", "/fast/lab/a", true},
        {"/fast///", "/fast/a", true},  {"/fast", "/faster", false}, {"/fast", "/fas", false},
        {"/fast/a", "/fast", false},    {"/fast", "/etc", false},    {"/", "/etc", true},
        {"/fast", "/slow/fast", false}, {NULL, "/fast", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct vx_config c = {.stage = (char *)rows[i].root};
        struct vx_err e = {0};
        int rc = vx_stage_admit(rows[i].asked, &c, &e);
        cr_assert_eq(rc, rows[i].fits ? VX_OK : VX_E_INVALID, "%s", rows[i].asked);
        if (!rows[i].fits) {
            cr_assert_str_eq(e.reason, "stage_not_allowed");
            cr_assert_str_eq(e.where, "/loader/cache/stage");
            cr_assert(strstr(e.text, rows[i].root ? rows[i].root : "--stage"), "%s", e.text);
        }
    }
}
