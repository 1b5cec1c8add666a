/* Configuration: which source wins, and what each refuses. */
#include "base/err.h"
#include "base/io.h"
#include "daemon/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *no_env(const char *name) {
    (void)name;
    return NULL;
}

static const char *some_env(const char *name) {
    if (strcmp(name, "nnUNet_raw") == 0) {
        return "/env/raw";
    }
    if (strcmp(name, "nnUNet_n_proc_DA") == 0) {
        return "6";
    }
    return strcmp(name, "nnUNet_keep_files_open") == 0 ? "True" : NULL;
}

static int load(vx_env_fn env, struct vx_config *c, struct vx_err *err, char *const *args) {
    char *argv[16] = {"serve"};
    int argc = 1;
    for (; args && args[argc - 1]; argc++) {
        argv[argc] = args[argc - 1];
    }
    return vx_config_load(argc, argv, env, c, err);
}

static void write_ini(char *path, const char *text) {
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(vx_write_all(fd, text, strlen(text), NULL), VX_OK);
    close(fd);
}

Test(daemon_config, defaults) {
    struct vx_config c;
    cr_assert_eq(load(no_env, &c, NULL, (char *[]){"--config", "/dev/null", NULL}), VX_OK);
    cr_assert_str_eq(c.host, "127.0.0.1");
    cr_assert_eq(c.port, 8790);
    cr_assert_eq(c.keep_files_open, VX_FILES_OPEN_AUTO);
    cr_assert_eq(c.loader_workers, 0);
    cr_assert_null(c.state);
    vx_config_release(&c);
}

Test(daemon_config, devices_and_where_their_libraries_lie) {
    struct vx_config c;
    struct vx_err err = {0};
    cr_assert_eq(load(no_env, &c, &err,
                      (char *[]){"--config", "/dev/null", "--devices", "cuda:0, cpu", "--nvml",
                                 "/x/nvml.so", "--module-dir", "/x/modules", NULL}),
                 VX_OK, "%s", err.text);
    cr_assert_str_eq(c.devices, "cuda:0, cpu");
    cr_assert_str_eq(c.nvml, "/x/nvml.so");
    cr_assert_str_eq(getenv("VOXELD_MODULE_DIR"), "/x/modules", "what the registry reads");
    cr_assert_eq(c.device_retry, 0);
    vx_config_release(&c);
    cr_assert_eq(load(no_env, &c, &err,
                      (char *[]){"--config", "/dev/null", "--device-retry", "90000", NULL}),
                 VX_E_INVALID);
    cr_assert_not_null(strstr(err.text, "--device-retry"), "%s", err.text);
}

Test(daemon_config, command_line_over_environment_over_file) {
    char path[] = "/tmp/voxeld-config-XXXXXX";
    write_ini(path,
              "; comment\n[voxeld]\ndata = /file/raw\nloader_workers = 3\nkeep_files_open = no\n"
              "cpu_threads = 2\nmemory_limit = 3G\n");
    struct vx_config c;
    struct vx_err err = {0};
    cr_assert_eq(
        load(some_env, &c, &err, (char *[]){"--config", path, "--loader-workers", "9", NULL}),
        VX_OK, "%s", err.text);
    cr_assert_str_eq(c.data, "/env/raw"); /* environment over file */
    cr_assert_eq(c.loader_workers, 9);    /* command line over both */
    cr_assert_eq(c.keep_files_open, VX_FILES_OPEN_YES);
    cr_assert_eq(c.cpu_threads, 2); /* file over default */
    cr_assert_eq(c.memory_limit, (int64_t)3 << 30);
    vx_config_release(&c);
    unlink(path);
}

Test(daemon_config, names_what_is_wrong_in_the_file) {
    static const struct {
        const char *text, *expect;
    } cases[] = {
        {"[voxeld]\ndata = /x\nworkerz = 3\n", ":3: workerz: unknown key"},
        {"[voxeld]\nloader_workers = many\n",
         ":2: loader_workers: \"many\" is not a number from 0 to 256"},
        {"[other]\nloader_workers = 1\n", "section [other] is unknown"},
        {"[voxeld]\nno equals sign\n", ":2: not a line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[] = "/tmp/voxeld-config-XXXXXX";
        write_ini(path, cases[i].text);
        struct vx_config c;
        struct vx_err err = {0};
        cr_expect_eq(load(no_env, &c, &err, (char *[]){"--config", path, NULL}), VX_E_INVALID);
        cr_expect(strstr(err.text, cases[i].expect), "%s", err.text);
        cr_expect(strstr(err.text, path), "%s", err.text);
        unlink(path);
    }
}

Test(daemon_config, refuses_bad_options) {
    static char *const bad[][3] = {
        {"--listen", "localhost", NULL},
        {"--listen", "1.2.3.4:70000", NULL},
        {"--listen", ":8790", NULL},
        {"--cpu-threads", "-1", NULL},
        {"--cpu-threads", "2000", NULL},
        {"--memory-limit", "5X", NULL},
        {"--keep-files-open", "maybe", NULL},
        {"--unknown", "1", NULL},
        {"--data", "", NULL},
        {"stray", NULL, NULL},
        {"--state", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct vx_config c;
        struct vx_err err = {0};
        cr_expect_eq(load(no_env, &c, &err, bad[i]), VX_E_INVALID, "%s %s", bad[i][0], bad[i][1]);
        cr_expect_str_eq(err.reason, "config_invalid");
    }
}

Test(daemon_config, missing_file_is_an_error_only_when_asked_for) {
    struct vx_config c;
    struct vx_err err = {0};
    cr_assert_neq(load(no_env, &c, &err, (char *[]){"--config", "/nonexistent/voxeld.conf", NULL}),
                  VX_OK);
    cr_assert(strstr(err.text, "/nonexistent/voxeld.conf"), "%s", err.text);
}

Test(daemon_config, serve_needs_state_and_data) {
    struct vx_config c;
    struct vx_err err = {0};
    cr_assert_eq(load(no_env, &c, &err, (char *[]){"--config", "/dev/null", "--data", "/d", NULL}),
                 VX_OK);
    cr_assert_eq(vx_config_finish_serve(&c, &err), VX_E_INVALID);
    cr_assert(strstr(err.text, "--state"));
    vx_config_release(&c);
    cr_assert_eq(load(no_env, &c, &err,
                      (char *[]){"--config", "/dev/null", "--state", "s", "--data", "/d", NULL}),
                 VX_OK);
    cr_assert_eq(vx_config_finish_serve(&c, &err), VX_OK);
    cr_assert_eq(c.state[0], '/');
    cr_assert(strstr(c.preprocessed, "/s/preprocessed"), "%s", c.preprocessed);
    cr_assert(strstr(c.results, "/s/results"), "%s", c.results);
    vx_config_release(&c);
}

Test(daemon_config, ipv6_listener) {
    struct vx_config c;
    cr_assert_eq(
        load(no_env, &c, NULL, (char *[]){"--config", "/dev/null", "--listen", "[::1]:0", NULL}),
        VX_OK);
    cr_assert_str_eq(c.host, "::1");
    cr_assert_eq(c.port, 0);
    vx_config_release(&c);
}
