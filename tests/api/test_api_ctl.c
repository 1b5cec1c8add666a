/* voxelctl as people run it: over the Unix socket of a state folder, and over TCP with a token. */
#include "api/support.h"

#include "db/tuning.h"

#include <string.h>
#include <sys/wait.h>

/* Output (both streams) of a shell command into out; its exit status. */
static int run(char *out, size_t size, const char *command) {
    vx_auto_free char *both = vx_strf("%s 2>&1", command);
    FILE *p = popen(both, "r");
    cr_assert_not_null(p);
    size_t n = fread(out, 1, size - 1, p);
    out[n] = '\0';
    int status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define CTL(...)                                                                                   \
    __extension__({                                                                                \
        vx_auto_free char *command_ = vx_strf(VX_CTL " " __VA_ARGS__);                             \
        run(out, sizeof out, command_);                                                            \
    })

Test(api_ctl, verbs_over_the_unix_socket) {
    struct server *s = server_start(NULL);
    char out[8192];
    cr_assert_eq(CTL("--state %s list", s->dir), 0, "%s", out);
    cr_assert_str_eq(out, "");
    vx_auto_free char *spec = vx_strf("%s/job.json", s->dir);
    cr_assert_eq(vx_write_file_atomic(spec, SPEC, strlen(SPEC), 0600, NULL), VX_OK);
    cr_assert_eq(CTL("--state %s submit %s", s->dir, spec), 0, "%s", out);
    cr_assert(strstr(out, "1  queued"), "%s", out);
    cr_assert_eq(CTL("--state %s --json submit - <%s", s->dir, spec), 0, "%s", out);
    vx_auto_json json_t *job = json_loads(out, 0, NULL);
    cr_assert_eq(json_integer_value(json_object_get(job, "id")), 2);
    cr_assert_eq(CTL("--state %s show 1", s->dir), 0);
    cr_assert(strstr(out, "\"spec\""));
    cr_assert_eq(CTL("--state %s datasets", s->dir), 0);
    cr_assert(strstr(out, "Dataset004_Hippocampus") && strstr(out, "ready"), "%s", out);
    cr_assert_eq(CTL("--state %s cancel 1", s->dir), 0);
    cr_assert(strstr(out, "cancelled"), "%s", out);
    cr_assert_eq(CTL("--state %s watch 1", s->dir), 1, "it did not succeed");
    cr_assert(strstr(out, "cancelled: cancelled on request"), "%s", out);
    move_job(s, 2, (const char *const[]){"preparing", "succeeded", NULL});
    cr_assert_eq(CTL("--state %s watch 2", s->dir), 0, "%s", out);
    cr_assert(strstr(out, "100%"), "%s", out);
    server_free(s);
}

Test(api_ctl, tcp_needs_the_token) {
    struct server *s = server_start(NULL);
    char out[8192];
    vx_auto_free char *token = vx_strf("%s/token", s->dir);
    cr_assert_eq(CTL("--url http://127.0.0.1:%d list", s->port), 1);
    cr_assert(strstr(out, "401 unauthorized"), "%s", out);
    cr_assert_eq(vx_write_file_atomic(token, TOKEN "\n", strlen(TOKEN) + 1, 0600, NULL), VX_OK);
    cr_assert_eq(CTL("--state %s --url http://127.0.0.1:%d/ datasets", s->dir, s->port), 0, "%s",
                 out);
    cr_assert(strstr(out, "Dataset004"), "%s", out);
    server_free(s);
}

Test(api_ctl, refusals_are_explained) {
    struct server *s = server_start(NULL);
    char out[8192];
    vx_auto_free char *spec = vx_strf("%s/job.json", s->dir);
    static const char bad[] =
        "{\"type\":\"train\",\"dataset\":\"Dataset004_Hippocampus\",\"fold\":999,\"x\":1}";
    cr_assert_eq(vx_write_file_atomic(spec, bad, sizeof bad - 1, 0600, NULL), VX_OK);
    cr_assert_eq(CTL("--state %s submit %s", s->dir, spec), 1);
    cr_assert(strstr(out, "422 invalid_request") && strstr(out, "/fold: ") && strstr(out, "/x: "),
              "%s", out);
    cr_assert_eq(CTL("--state %s submit /nonexistent", s->dir), 1);
    cr_assert(strstr(out, "/nonexistent"), "%s", out);
    cr_assert_eq(CTL("--state %s show 77", s->dir), 1);
    cr_assert(strstr(out, "404 job_not_found"), "%s", out);
    cr_assert_eq(CTL("--state %s frobnicate", s->dir), 2);
    cr_assert_eq(CTL("--state %s show", s->dir), 2);
    cr_assert_eq(CTL("--state /nonexistent list"), 1);
    server_free(s);
}

static int tuned_op(struct vx_db *db, void *arg, struct vx_err *err) {
    (void)arg;
    struct vx_tuning t = {.job_id = 1,
                          .ts_ms = 1000,
                          .who = "tuner",
                          .knob = "workers",
                          .from_value = "1",
                          .to_value = "2",
                          .why = "augment_bound",
                          .outcome = "kept",
                          .predicted = -0.5,
                          .measured = -0.434,
                          .noise = 0.01};
    return vx_db_tuning_add(db, &t, NULL, err);
}

Test(api_ctl, why_it_waits_and_the_knobs) {
    struct server *s = server_start(NULL);
    char out[8192];
    submit(s);
    submit(s);
    cr_assert_eq(CTL("--state %s turn 1 workers=3", s->dir), 1, "it does not run yet");
    cr_assert(strstr(out, "409 job_not_running"), "%s", out);
    move_job(s, 1, (const char *const[]){"preparing", "ready", "running", NULL});
    cr_assert_eq(vx_store_call(s->store, tuned_op, NULL, NULL), VX_OK);

    cr_assert_eq(CTL("--state %s why 1", s->dir), 0, "%s", out);
    cr_assert_str_eq(out, "severe   augment_bound (40 % of the time)\n"
                          "         augment\n"
                          "         more workers (saves about 35 % of a step)\n");
    vx_auto_free char *chinese = vx_strf("LC_ALL=zh_CN.UTF-8 " VX_CTL " --state %s why 1", s->dir);
    cr_assert_eq(run(out, sizeof out, chinese), 0);
    cr_assert(strstr(out, "增强"), "%s", out);
    cr_assert_eq(CTL("--state %s why 2", s->dir), 0);
    cr_assert_str_eq(out, "job 2 is queued: nothing is measured\n");

    cr_assert_eq(CTL("--state %s tuning 1", s->dir), 0);
    cr_assert(strstr(out, "1, 2") && strstr(out, "-50.0 %") && strstr(out, "-43.4 %") &&
                  strstr(out, "kept"),
              "%s", out);

    cr_assert_eq(CTL("--state %s turn 1 workers=3", s->dir), 0, "%s", out);
    cr_assert(strstr(out, "workers            3\n"), "%s", out);
    cr_assert_eq(CTL("--state %s turn 1 workers=9", s->dir), 1);
    cr_assert(strstr(out, "422 beyond_budget: workers can be at most 4 here"), "%s", out);
    cr_assert_eq(CTL("--state %s turn 1 cache=tape", s->dir), 1);
    cr_assert(strstr(out, "/cache: must be auto, open, keep, warm, stage or memory"), "%s", out);
    cr_assert_eq(CTL("--state %s turn 1 workers", s->dir), 1);
    cr_assert(strstr(out, "is not KNOB=VALUE"), "%s", out);
    cr_assert_eq(CTL("--state %s --json revert 1 1", s->dir), 0, "%s", out);
    vx_auto_json json_t *loader = json_loads(out, 0, NULL);
    cr_assert_eq(json_integer_value(json_object_get(loader, "workers")), 1, "%s", out);
    cr_assert_eq(CTL("--state %s revert 1 7", s->dir), 1);
    cr_assert(strstr(out, "404 tuning_not_found"), "%s", out);
    server_free(s);
}
