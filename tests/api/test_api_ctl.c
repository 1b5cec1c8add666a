/* voxelctl as people run it: over the Unix socket of a state folder, and over TCP with a token. */
#include "api/support.h"

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
