/* Why workers died, and what a session keeps of its changes. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/session/death.h"
#include "daemon/session/live.h"
#include "loader/recipe.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const char *reason_of_signal(int signal, bool oom) {
    struct vx_proc_end end = {.exit_status = -1, .signal = signal};
    return vx_death_reason(&end, "", oom);
}

static const char *reason_of_exit(int status, const char *error) {
    struct vx_proc_end end = {.exit_status = status};
    return vx_death_reason(&end, error, false);
}

Test(daemon_death, reasons_and_who_is_to_blame) {
    cr_assert_str_eq(reason_of_signal(SIGKILL, false), "killed");
    cr_assert_str_eq(reason_of_signal(SIGKILL, true), "oom_killed");
    cr_assert_str_eq(reason_of_signal(SIGTERM, true), "killed");
    cr_assert_str_eq(reason_of_signal(SIGBUS, false), "bus_error");
    cr_assert_str_eq(reason_of_signal(SIGSEGV, false), "crashed");
    cr_assert_str_eq(reason_of_signal(SIGABRT, false), "crashed");
    cr_assert_str_eq(reason_of_exit(1, vx_status_word(VX_E_CORRUPT)), "corrupt");
    cr_assert_str_eq(reason_of_exit(1, vx_status_word(VX_E_NOMEM)), "failed");
    cr_assert_str_eq(reason_of_exit(2, ""), "exited");
    static const char *const others[] = {"bus_error", "crashed", "corrupt", "failed", "exited"};
    cr_assert_eq(VX_COUNTOF(others) + 2, VX_DEATH_REASONS);
    for (size_t i = 0; i < VX_COUNTOF(others); i++) {
        cr_assert(vx_death_by_work(others[i], ""), "%s", others[i]);
    }
    cr_assert_not(vx_death_by_work("killed", ""));
    cr_assert_not(vx_death_by_work("oom_killed", ""));
    cr_assert_not(vx_death_by_work("failed", vx_status_word(VX_E_NOMEM)));
}

Test(daemon_death, a_device_that_failed_or_a_program_that_did) {
    static const struct {
        const char *reason;
        int native;
        bool device;
    } ways[] = {
        {"device_lost", 0, true},    {"device_lost", 46, true},   {"device_lost", 214, true},
        {"device_lost", 999, true},  {"no_gpu", 0, true},         {"device_lost", 700, false},
        {"device_lost", 719, false}, {"device_memory", 2, false}, {"", 214, false},
    };
    for (size_t i = 0; i < VX_COUNTOF(ways); i++) {
        struct vx_err said = {.code = VX_E_DEVICE, .native = ways[i].native};
        snprintf(said.reason, sizeof said.reason, "%s", ways[i].reason);
        cr_assert_eq(vx_death_by_device(&said), ways[i].device, "%s %d", ways[i].reason,
                     ways[i].native);
    }
}

/* A mapped file that is cut short under its reader: what the kernel does is a bus error. */
Test(daemon_death, a_mapping_without_its_file) {
    char path[] = "/tmp/voxeld-bus-XXXXXX";
    vx_auto_close int fd = mkstemp(path);
    cr_assert(fd >= 0 && ftruncate(fd, 8192) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGBUS, SIG_DFL);
        volatile char *at = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED || ftruncate(fd, 0) != 0) {
            _exit(1);
        }
        _exit(at[4096]);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    unlink(path);
    cr_assert(WIFSIGNALED(status));
    cr_assert_str_eq(reason_of_signal(WTERMSIG(status), false), "bus_error");
}

#define SECOND 1000000000ull

static void kills(const char *root, int n) {
    vx_auto_free char *dir = vx_strf("%s/proc", root), *path = vx_strf("%s/proc/vmstat", root);
    vx_auto_free char *text = vx_strf("pgfault 12\noom_kill %d\n", n);
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(path, text, strlen(text), 0644, NULL), VX_OK);
}

Test(daemon_death, the_kernels_count_tells_its_kills_from_others) {
    char root[] = "/tmp/voxeld-oom-XXXXXX";
    struct vx_oom_watch w;
    cr_assert_not_null(mkdtemp(root));
    vx_oom_watch_start(&w, root, SECOND);
    cr_assert(!w.known && !vx_oom_killed(&w, root), "a kernel that does not say");
    kills(root, 7);
    vx_oom_watch_start(&w, root, SECOND);
    cr_assert_not(vx_oom_killed(&w, root), "7 were before our time");
    kills(root, 9);
    cr_assert(vx_oom_killed(&w, root));
    vx_oom_watch_roll(&w, root, 2 * SECOND);
    cr_assert(vx_oom_killed(&w, root), "two of ours");
    cr_assert_not(vx_oom_killed(&w, root), "and no third");
    kills(root, 10); /* of something else: nobody asks */
    vx_oom_watch_roll(&w, root, 4 * SECOND);
    vx_oom_watch_roll(&w, root, 5 * SECOND);
    cr_assert_eq(w.explained, 9, "not let go yet");
    vx_oom_watch_roll(&w, root, 7 * SECOND);
    cr_assert_not(vx_oom_killed(&w, root), "a kill -9 long after it is not the kernel's");
    vx_remove_tree(root, NULL);
}

static struct vx_recipe *recipe(void) {
    static const char *const names[] = {"a", "b", "c"};
    static const uint32_t train[] = {0, 1, 2};
    struct vx_recipe_params p = {.dataset = "Dataset001_X",
                                 .cache_key = "k",
                                 .seed = 1,
                                 .cases = names,
                                 .n_cases = 3,
                                 .train = train,
                                 .n_train = 3,
                                 .dims = 3,
                                 .channels = 1,
                                 .batch = 2,
                                 .patch = {8, 8, 8}};
    struct vx_recipe *r = NULL;
    cr_assert_eq(vx_recipe_create(&p, &r, NULL), VX_OK);
    return r;
}

Test(daemon_live, changes_are_kept) {
    char dir[] = "/tmp/voxeld-live-XXXXXX";
    struct vx_live live, again;
    struct vx_recipe *r = recipe();
    const struct vx_recipe_view *v = vx_recipe_view(r);
    struct vx_exclusion x = {.case_index = 1, .from_k = {30, 4}, .from_j = {0, 1}};
    struct vx_exclusions all;
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(vx_live_read(dir, &live, NULL), VX_OK, "nothing there is nothing changed");
    cr_assert(json_object_size(live.knobs) == 0 && json_array_size(live.quarantines) == 0);
    json_object_set_new(live.knobs, "workers", json_integer(3));
    json_array_append_new(live.quarantines, vx_live_row(&x, v));
    cr_assert_eq(vx_live_write(dir, &live, NULL), VX_OK);
    cr_assert_eq(vx_live_read(dir, &again, NULL), VX_OK);
    cr_assert_eq(json_integer_value(json_object_get(again.knobs, "workers")), 3);
    /* a checkpoint's rows: one known already, one that is not, one of another data set */
    vx_auto_json json_t *more = json_pack(
        "[{s:s,s:i}, {s:s,s:i,s:i}, {s:s,s:i}, {s:s,s:i}]", "case", "b", "from_k", 99, "case", "c",
        "from_k", 7, "val_from_k", 2, "case", "nobody", "from_k", 1, "case", "a", "from_k", -1);
    vx_live_merge(again.quarantines, more);
    vx_live_exclusions(again.quarantines, v, &all);
    cr_assert_eq(all.n, 2, "%u", all.n);
    cr_assert_eq(memcmp(&all.list[0], &x, sizeof x), 0, "the file's row wins");
    cr_assert(all.list[1].case_index == 2 && all.list[1].from_k[0] == 7 &&
              all.list[1].from_k[1] == 2);
    vx_auto_free char *path = vx_strf("%s/session_live.json", dir);
    struct vx_err err = {0};
    vx_live_release(&again);
    cr_assert_eq(vx_write_file_atomic(path, "{\"format\":1}", 12, 0644, NULL), VX_OK);
    cr_assert_eq(vx_live_read(dir, &again, &err), VX_E_CORRUPT);
    cr_assert(json_is_object(again.knobs) && json_is_array(again.quarantines));
    vx_live_release(&again);
    vx_live_release(&live);
    vx_recipe_free(r);
    vx_remove_tree(dir, NULL);
}

Test(daemon_live, knobs_by_name) {
    struct vx_knobs k = {0};
    for (int i = 0; vx_live_knobs[i]; i++) {
        *vx_live_knob(&k, vx_live_knobs[i]) = (uint32_t)i + 1;
    }
    cr_assert(k.workers_wanted == 1 && k.window == 2 && k.keep_files_open == 3 &&
              k.cache_mode == 4);
    cr_assert_null(vx_live_knob(&k, "nice"));
}
