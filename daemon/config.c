/* Configuration: one table of keys, three sources applied from the weakest to the strongest. See
 * config.h. */
#include "daemon/config.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <ini.h>

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_FILE "/etc/voxeld/voxeld.conf"

enum kind { TEXT, NUMBER, BYTES, SWITCH };

struct key {
    const char *name;   /* of the option, with '-'; the file writes '_' */
    const char *env[2]; /* later entries are weaker */
    enum kind kind;
    size_t offset;
    int64_t lo, hi; /* of numbers, inclusive */
};

#define AT(field) offsetof(struct vx_config, field)
static const struct key keys[] = {
    {"state", {"STATE_DIRECTORY"}, TEXT, AT(state), 0, 0},
    {"data", {"nnUNet_raw"}, TEXT, AT(data), 0, 0},
    {"preprocessed", {"nnUNet_preprocessed"}, TEXT, AT(preprocessed), 0, 0},
    {"results", {"nnUNet_results"}, TEXT, AT(results), 0, 0},
    {"stage", {NULL}, TEXT, AT(stage), 0, 0},
    {"listen", {"VOXELD_LISTEN"}, TEXT, AT(listen), 0, 0},
    {"unix", {"VOXELD_UNIX"}, TEXT, AT(unix_path), 0, 0},
    {"port-file", {NULL}, TEXT, AT(port_file), 0, 0},
    {"module-dir", {"VOXELD_MODULE_DIR"}, TEXT, AT(module_dir), 0, 0},
    {"devices", {NULL}, TEXT, AT(devices), 0, 0},
    {"device-retry", {NULL}, NUMBER, AT(device_retry), 0, 86400},
    {"cores", {NULL}, NUMBER, AT(cores), 0, 1024},
    {"cpu-jobs", {NULL}, NUMBER, AT(cpu_jobs), 0, 16},
    {"cpu-threads", {NULL}, NUMBER, AT(cpu_threads), 0, 1024},
    {"loader-workers", {"nnUNet_n_proc_DA"}, NUMBER, AT(loader_workers), 0, 256},
    {"prepare-processes", {"nnUNet_def_n_proc"}, NUMBER, AT(prepare_processes), 0, 256},
    {"memory-limit", {NULL}, BYTES, AT(memory_limit), 0, INT64_MAX},
    {"keep-files-open", {"nnUNet_keep_files_open"}, SWITCH, AT(keep_files_open), -1, 1},
    {"nvml", {NULL}, TEXT, AT(nvml), 0, 0},
    {"dcgm-names", {NULL}, SWITCH, AT(dcgm_names), -1, 1},
};

const char *vx_config_usage(void) {
    return "  --config FILE             read FILE instead of " DEFAULT_FILE "\n"
           "  --state DIR               where jobs, the database and the token live (required by "
           "serve)\n"
           "  --data ROOT               folder of DatasetXXX_Name folders (nnUNet_raw)\n"
           "  --preprocessed DIR        prepared data (nnUNet_preprocessed; default "
           "STATE/preprocessed)\n"
           "  --results DIR             published results (nnUNet_results; default STATE/results)\n"
           "  --stage DIR               fast local folder that prepared data may be copied to\n"
           "  --listen HOST:PORT        address of the HTTP interface (default 127.0.0.1:8790; "
           "port 0: any free)\n"
           "  --unix PATH               also listen on this Unix socket\n"
           "  --port-file FILE          write the bound port to FILE\n"
           "  --module-dir DIR          where device modules (voxeld_cuda.so) lie\n"
           "  --devices LIST            what trains: cpu, cpu:N, cuda, cuda:N; auto: every GPU, "
           "else "
           "the CPU\n"
           "  --device-retry SECONDS    pause before a GPU that failed is tried again, doubled "
           "with "
           "each failure (0: 300)\n"
           "  --cores N                 cores to plan trainings for (0: those that this process "
           "may "
           "use)\n"
           "  --cpu-jobs N              trainings on the CPU side by side (0: one)\n"
           "  --cpu-threads N           threads of a training step on the CPU (0: all schedulable "
           "cores)\n"
           "  --loader-workers N        augmentation processes per training (nnUNet_n_proc_DA; 0: "
           "automatic)\n"
           "  --prepare-processes N     cases prepared side by side (nnUNet_def_n_proc; 0: "
           "automatic)\n"
           "  --memory-limit BYTES      memory one child process may have, K, M and G allowed (0: "
           "half of all)\n"
           "  --keep-files-open MODE    auto, true or false (nnUNet_keep_files_open)\n"
           "  --nvml FILE               NVIDIA's management library (default: the driver's)\n"
           "  --dcgm-names MODE         also the names of NVIDIA's exporter in /metrics (default "
           "false)\n"
           "  --help                    this list\n";
}

static int set_text(struct vx_config *c, const struct key *k, const char *value) {
    char **field = (char **)((char *)c + k->offset);
    char *copy = strdup(value);
    if (!copy) {
        return VX_E_NOMEM;
    }
    free(*field);
    *field = copy;
    return VX_OK;
}

static int parse_switch(const char *value, int64_t *ret) {
    static const struct {
        const char *word;
        int64_t value;
    } words[] = {{"auto", -1}, {"true", 1},  {"yes", 1}, {"on", 1},  {"1", 1},
                 {"t", 1},     {"false", 0}, {"no", 0},  {"off", 0}, {"0", 0}};
    for (size_t i = 0; i < VX_COUNTOF(words); i++) {
        if (strcasecmp(words[i].word, value) == 0) {
            *ret = words[i].value;
            return VX_OK;
        }
    }
    return VX_E_INVALID;
}

static int parse_number(const char *value, bool suffix, int64_t *ret) {
    char *end = NULL;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || n < 0) {
        return VX_E_INVALID;
    }
    int shift = 0;
    if (suffix && *end) {
        const char *at = strchr("KMGT", *end);
        if (!at) {
            return VX_E_INVALID;
        }
        shift = 10 * (int)(at - "KMGT" + 1);
        end++;
    }
    if (*end || n > (INT64_MAX >> shift)) {
        return VX_E_INVALID;
    }
    *ret = (int64_t)n << shift;
    return VX_OK;
}

static int set_value(struct vx_config *c, const struct key *k, const char *value,
                     const char *source, struct vx_err *err) {
    if (!*value) {
        return vx_fail(err, VX_E_INVALID, "config_invalid", "%s: the value is empty", source);
    }
    if (k->kind == TEXT) {
        return set_text(c, k, value) == VX_OK ? VX_OK
                                              : vx_fail(err, VX_E_NOMEM, NULL, "%s", source);
    }
    int64_t n = 0;
    int rc =
        k->kind == SWITCH ? parse_switch(value, &n) : parse_number(value, k->kind == BYTES, &n);
    if (rc != VX_OK || n < k->lo || n > k->hi) {
        if (k->kind == SWITCH) {
            return vx_fail(err, VX_E_INVALID, "config_invalid",
                           "%s: \"%s\" is not auto, true or false", source, value);
        }
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "%s: \"%s\" is not a number from %lld to %lld%s", source, value,
                       (long long)k->lo, (long long)k->hi,
                       k->kind == BYTES ? " (K, M, G, T allowed)" : "");
    }
    memcpy((char *)c + k->offset, &n, sizeof n);
    return VX_OK;
}

struct ini_reading {
    struct vx_config *config;
    struct vx_err *err;
    int rc;
};

/* inih's convention: 0 marks the line as wrong; ini_parse then returns the number of the first such
 * line. */
static int on_ini(void *user, const char *section, const char *name, const char *value) {
    struct ini_reading *r = user;
    if (r->rc != VX_OK) {
        return 0;
    }
    if (strcmp(section, "voxeld") != 0) {
        r->rc = vx_fail(r->err, VX_E_INVALID, "config_invalid",
                        "%s: section [%s] is unknown; only [voxeld] is", name, section);
        return 0;
    }
    for (size_t i = 0; i < VX_COUNTOF(keys); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s", keys[i].name);
        for (char *p = key; *p; p++) {
            *p = *p == '-' ? '_' : *p;
        }
        if (strcmp(key, name) == 0) {
            r->rc = set_value(r->config, &keys[i], value, name, r->err);
            return r->rc == VX_OK;
        }
    }
    r->rc = vx_fail(r->err, VX_E_INVALID, "config_invalid", "%s: unknown key", name);
    return 0;
}

static int read_ini(struct vx_config *c, const char *path, bool required, struct vx_err *err) {
    if (!required && !vx_path_exists(path)) {
        return VX_OK;
    }
    struct ini_reading r = {c, err, VX_OK};
    int line = ini_parse(path, on_ini, &r);
    if (line < 0) {
        return vx_fail_errno(err, errno, path, "cannot read the configuration file %s", path);
    }
    if (r.rc != VX_OK) {
        vx_err_prefix(err, "%s:%d", path, line);
        return r.rc;
    }
    if (line > 0) {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "%s:%d: not a line of the form key = value", path, line);
    }
    return VX_OK;
}

static int read_env(struct vx_config *c, vx_env_fn env, struct vx_err *err) {
    for (size_t i = 0; i < VX_COUNTOF(keys); i++) {
        for (size_t e = VX_COUNTOF(keys[i].env); e-- > 0;) {
            const char *value = keys[i].env[e] ? env(keys[i].env[e]) : NULL;
            if (!value || !*value) {
                continue;
            }
            int rc = set_value(c, &keys[i], value, keys[i].env[e], err);
            if (rc != VX_OK) {
                return rc;
            }
        }
    }
    return VX_OK;
}

enum { OPT_CONFIG = 1000, OPT_HELP };

/* One pass over the command line; with `only_file` nothing but --config and --help is taken, so
 * that the file can be read before the options that are stronger than it. */
static int read_args(struct vx_config *c, int argc, char **argv, bool only_file,
                     const char **ret_file, struct vx_err *err) {
    struct option options[VX_COUNTOF(keys) + 3] = {0};
    for (size_t i = 0; i < VX_COUNTOF(keys); i++) {
        options[i] = (struct option){keys[i].name, required_argument, NULL, (int)i};
    }
    options[VX_COUNTOF(keys)] = (struct option){"config", required_argument, NULL, OPT_CONFIG};
    options[VX_COUNTOF(keys) + 1] = (struct option){"help", no_argument, NULL, OPT_HELP};
    optind = 0; /* glibc: restart, also after another scan */
    opterr = 0;
    int opt;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':') {
            return vx_fail(err, VX_E_INVALID, "config_invalid", "%s: %s; try --help",
                           argv[optind - 1], opt == ':' ? "a value is missing" : "unknown option");
        }
        if (opt == OPT_CONFIG) {
            *ret_file = optarg;
        } else if (opt == OPT_HELP || opt == 'h') {
            c->help = true;
        } else if (!only_file) {
            char source[80];
            snprintf(source, sizeof source, "--%s", keys[opt].name);
            int rc = set_value(c, &keys[opt], optarg, source, err);
            if (rc != VX_OK) {
                return rc;
            }
        }
    }
    if (optind < argc) {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "%s: nothing is expected here; try --help", argv[optind]);
    }
    return VX_OK;
}

/* "127.0.0.1:8790" or "[::1]:8790" into host and port. */
static int split_listen(struct vx_config *c, struct vx_err *err) {
    const char *text = c->listen, *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    int64_t port = -1;
    if (!colon || len == 0 || parse_number(colon + 1, false, &port) != VX_OK || port > 65535) {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "listen: \"%s\" is not HOST:PORT with a port up to 65535", text);
    }
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= sizeof c->host) {
        return vx_fail(err, VX_E_INVALID, "config_invalid", "listen: \"%s\": the host is too long",
                       text);
    }
    memcpy(c->host, text, len);
    c->host[len] = '\0';
    c->port = (int)port;
    return VX_OK;
}

int vx_config_load(int argc, char **argv, vx_env_fn env, struct vx_config *ret,
                   struct vx_err *err) {
    struct vx_config c = {.keep_files_open = VX_FILES_OPEN_AUTO};
    const char *file = NULL;
    c.listen = strdup("127.0.0.1:8790");
    int rc = c.listen ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "reading the configuration");
    if (rc == VX_OK) {
        rc = read_args(&c, argc, argv, true, &file, err);
    }
    if (rc == VX_OK) {
        rc = read_ini(&c, file ? file : DEFAULT_FILE, file != NULL, err);
    }
    if (rc == VX_OK) {
        rc = read_env(&c, env, err);
    }
    if (rc == VX_OK) {
        rc = read_args(&c, argc, argv, false, &file, err);
    }
    if (rc == VX_OK) {
        rc = split_listen(&c, err);
    }
    if (rc != VX_OK) {
        vx_config_release(&c);
        return rc;
    }
    if (c.module_dir) {
        setenv("VOXELD_MODULE_DIR", c.module_dir, 1); /* the registry of every child reads it */
    }
    *ret = c;
    return VX_OK;
}

/* Absolute, so that children and the database mean the same folder whatever their working
 * directory. */
static int make_absolute(char **path, struct vx_err *err) {
    if (!*path || **path == '/') {
        return VX_OK;
    }
    vx_auto_free char *cwd = getcwd(NULL, 0);
    char *full = cwd ? vx_strf("%s/%s", cwd, *path) : NULL;
    if (!full) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s: cannot make the path absolute", *path);
    }
    free(*path);
    *path = full;
    return VX_OK;
}

static int default_path(char **path, const char *state, const char *name, struct vx_err *err) {
    if (*path) {
        return VX_OK;
    }
    *path = vx_strf("%s/%s", state, name);
    return *path ? VX_OK : vx_fail(err, VX_E_NOMEM, NULL, "reading the configuration");
}

int vx_config_finish_serve(struct vx_config *c, struct vx_err *err) {
    if (!c->state) {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "--state DIR is missing: the folder for jobs and the token");
    }
    if (!c->data) {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "--data ROOT (or nnUNet_raw) is missing: the folder that holds "
                       "DatasetXXX_Name folders");
    }
    char **paths[] = {&c->state, &c->data,      &c->preprocessed, &c->results,
                      &c->stage, &c->unix_path, &c->port_file};
    int rc = make_absolute(&c->state, err);
    if (rc == VX_OK) {
        rc = default_path(&c->preprocessed, c->state, "preprocessed", err);
    }
    if (rc == VX_OK) {
        rc = default_path(&c->results, c->state, "results", err);
    }
    for (size_t i = 0; rc == VX_OK && i < VX_COUNTOF(paths); i++) {
        rc = make_absolute(paths[i], err);
    }
    return rc;
}

void vx_config_release(struct vx_config *c) {
    free(c->state);
    free(c->data);
    free(c->preprocessed);
    free(c->results);
    free(c->stage);
    free(c->listen);
    free(c->unix_path);
    free(c->port_file);
    free(c->module_dir);
    free(c->devices);
    free(c->nvml);
    memset(c, 0, sizeof *c);
}
