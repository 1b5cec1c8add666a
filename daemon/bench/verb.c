/* voxeld bench loader DATASET [options]: what the loader can do on this machine, and how many
 * workers a device with a given step would need (bench/loader.h). DATASET is a folder, or the name
 * of one beneath --data; what is not prepared yet is prepared first. JSON lines on stdout, the last
 * of them the result; the sentence for people goes to stderr. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/bench/loader.h"
#include "daemon/bench/settings.h"
#include "daemon/roles/alone.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define MAX_CRASHES 3

static const char usage[] =
    "usage: voxeld bench loader DATASET --state DIR [options]\n"
    "  --step-ms MS              step of the pretended device; without it as fast as it goes\n"
    "  --seconds S               measured, of each run (10)\n"
    "  --runs LIST               of synthetic,as_is,memory,cold (synthetic,memory,cold)\n"
    "  --workers N, --prefetch N instead of what voxeld chooses\n"
    "  --configuration NAME, --plans NAME, --fold N, --batch N, --patch Z,Y,X\n"
    "  --sample-ms MS            pretend augmentation: so long for a sample\n"
    "  --sample-cpu MS           of it on a core, the rest asleep\n"
    "  --costs FILE              what each sample cost, in milliseconds, one a line\n";

static atomic_bool stop;
static struct vx_session_mailbox mailbox = {.eventfd = -1};

static void on_term(int signum) {
    (void)signum;
    atomic_store(&stop, true);
    if (mailbox.eventfd >= 0) {
        vx_session_ask(&mailbox, VX_SESSION_CANCEL);
    }
}

/* Where an option's value goes in the job: a member of an object, or of the job itself. */
static const struct {
    const char *option;
    const char *object; /* NULL: the job */
    const char *key;
    enum { NUMBER, TEXT, NUMBERS, WORDS } kind;
} options[] = {
    {"--step-ms", "benchmark", "step_ms", NUMBER},
    {"--seconds", "benchmark", "seconds", NUMBER},
    {"--runs", "benchmark", "runs", WORDS},
    {"--sample-ms", "benchmark", "sample_ms", NUMBER},
    {"--sample-cpu", "benchmark", "sample_cpu_ms", NUMBER},
    {"--workers", "loader", "workers", NUMBER},
    {"--prefetch", "loader", "prefetch", NUMBER},
    {"--batch", "plan", "batch_size", NUMBER},
    {"--patch", "plan", "patch_size", NUMBERS},
    {"--configuration", NULL, "configuration", TEXT},
    {"--plans", NULL, "plans", TEXT},
    {"--fold", NULL, "fold", NUMBER},
};

/* Integers where the text is one: the spec is strict about them. NULL: no number. */
static json_t *number(const char *text) {
    char *end;
    long long n = strtoll(text, &end, 10);
    if (*text && !*end) {
        return json_integer(n);
    }
    double x = strtod(text, &end);
    return *text && !*end ? json_real(x) : NULL;
}

static json_t *list(const char *text, bool words) {
    vx_auto_free char *copy = strdup(text);
    json_t *array = json_array();
    for (char *rest = copy, *part; rest && (part = strsep(&rest, ","));) {
        json_array_append_new(array, words ? json_string(part) : number(part));
    }
    return array;
}

static bool set(json_t *job, size_t i, const char *text) {
    json_t *o = job, *value = options[i].kind == NUMBER ? number(text)
                              : options[i].kind == TEXT ? json_string(text)
                                                        : list(text, options[i].kind == WORDS);
    if (options[i].object) {
        o = json_object_get(job, options[i].object);
        if (!o) {
            o = json_object();
            json_object_set_new(job, options[i].object, o);
        }
    }
    return value && json_object_set_new(o, options[i].key, value) == 0;
}

struct run {
    struct vx_alone job;
    struct vx_brief *brief;
    json_t *json; /* the job as the options make it */
    const char *costs;
    int crashes;
};

/* Options that are the benchmark's own go into the job, the others stay in args for the
 * configuration: args[0 .. *n - 1]. */
static bool take_options(struct run *r, int argc, char **argv, char **args, int *n) {
    for (int i = 0; i < argc; i++) {
        size_t k = 0;
        while (k < VX_COUNTOF(options) && strcmp(argv[i], options[k].option) != 0) {
            k++;
        }
        bool costs = strcmp(argv[i], "--costs") == 0;
        if (k == VX_COUNTOF(options) && !costs) {
            args[(*n)++] = argv[i];
            continue;
        }
        if (++i == argc || (!costs && !set(r->json, k, argv[i]))) {
            fprintf(stderr, "voxeld bench: %s is not a value for %s\n",
                    i < argc ? argv[i] : "nothing", argv[i - 1]);
            return false;
        }
        r->costs = costs ? argv[i] : r->costs;
    }
    return true;
}

/* "/data/Dataset004_Hippocampus" is the data set of that name in /data, which goes into args. text
 * is changed; *ret_root is owned by the caller, NULL where text is a name only. */
static bool take_dataset(struct run *r, char *text, char **args, int *n, char **ret_root) {
    size_t len = strlen(text);
    while (len > 1 && text[len - 1] == '/') {
        text[--len] = '\0';
    }
    char *slash = strrchr(text, '/');
    json_object_set_new(r->json, "dataset", json_string(slash ? slash + 1 : text));
    if (!slash) {
        return true;
    }
    *slash = '\0';
    static char data[] = "--data";
    *ret_root = realpath(slash == text ? "/" : text, NULL);
    args[(*n)++] = data;
    args[(*n)++] = *ret_root;
    return *ret_root != NULL;
}

/* --- what the sessions tell --- */

static void on_line(void *ctx, const json_t *line) {
    (void)ctx;
    vx_say(json_incref((json_t *)line));
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_checkpoint) {
    struct run *r = ctx;
    (void)had_new_checkpoint;
    vx_say(json_pack("{s:s, s:O}", "event", "crash", "evidence", evidence));
    return ++r->crashes < MAX_CRASHES;
}

static void on_worker_lost(void *ctx, const json_t *evidence) {
    (void)ctx;
    vx_say(json_pack("{s:s, s:O}", "event", "worker_lost", "evidence", evidence));
}

/* --- the run --- */

/* Two benchmarks in one folder would write over each other. *ret_fd is held. */
static int take_lock(const char *dir, int *ret_fd, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/bench.lock", dir);
    vx_auto_close int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        return vx_fail_errno(err, errno, dir, "cannot open the benchmark's lock");
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return vx_fail(err, VX_E_BUSY, "bench_running",
                       "another benchmark of this data set runs in %s", dir);
    }
    *ret_fd = vx_steal_fd(&fd);
    return VX_OK;
}

/* The costs of the run with real samples to where they were asked for; then nothing is left. */
static int keep_costs(struct run *r, struct vx_err *err) {
    static const char *const runs[] = {"memory", "as_is"};
    int rc = vx_fail(err, VX_E_NOT_FOUND, "no_costs", "--costs needs a run of memory or as_is");
    for (size_t i = 0; rc != VX_OK && i < VX_COUNTOF(runs); i++) {
        vx_auto_free char *from =
            vx_strf("%s/" VX_BENCH_DIR "/%s/" VX_BENCH_COSTS, r->job.job_dir, runs[i]);
        vx_auto_free char *text = NULL;
        size_t len = 0;
        if (from && vx_path_exists(from)) {
            rc = vx_read_file(from, 1u << 30, &text, &len, err);
            rc = rc == VX_OK ? vx_write_file_atomic(r->costs, text, len, 0644, err) : rc;
            break;
        }
    }
    vx_auto_free char *dir = vx_strf("%s/" VX_BENCH_DIR, r->job.job_dir);
    if (dir) {
        vx_remove_tree(dir, NULL);
    }
    return rc;
}

static int measure(struct run *r, json_t **ret, struct vx_err *err) {
    int rc = vx_brief_read(r->job.resolved.brief_path, &r->brief, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (r->costs) {
        json_object_set_new(r->brief->bench, "costs", json_true());
    }
    struct vx_session_options o = {
        .brief = r->brief,
        .brief_path = r->job.resolved.brief_path,
        .mailbox = &mailbox,
        .events = {.ctx = r, .line = on_line, .crashed = on_crashed, .worker_lost = on_worker_lost},
        .memory_limit = (uint64_t)r->job.config.memory_limit,
    };
    enum vx_session_end end;
    rc = vx_bench_run(&o, &end, ret, err);
    if (rc == VX_OK && end != VX_SESSION_SUCCEEDED) {
        rc = vx_fail(err, VX_E_CANCELLED, "stopped", "stopped");
    }
    return rc;
}

static int run(struct run *r, struct vx_err *err) {
    static const char *const apart[] = {"benchmark", "loader", NULL}; /* need no other plan */
    vx_auto_json json_t *result = NULL;
    vx_auto_close int lock = -1;
    int rc = vx_alone_spec(&r->job, r->json, "the options", VX_JOB_BENCHMARK, apart, err);
    rc = rc == VX_OK ? vx_mkdirs(r->job.job_dir, 0755, err) : rc;
    rc = rc == VX_OK ? take_lock(r->job.job_dir, &lock, err) : rc;
    rc = rc == VX_OK ? vx_alone_prepare(&r->job, &stop, err) : rc;
    rc = rc == VX_OK ? measure(r, &result, err) : rc;
    if (r->costs && r->brief) {
        int kept = keep_costs(r, rc == VX_OK ? err : NULL);
        rc = rc == VX_OK ? kept : rc;
    }
    if (rc == VX_OK && result) {
        fprintf(stderr, "%s\n", json_string_value(json_object_get(result, "sentence")));
        json_object_set_new(result, "event", json_string("result"));
        vx_say(vx_steal(result));
    }
    return rc;
}

static int configured(struct run *r) {
    struct vx_err err = {0};
    int rc = vx_session_mailbox_init(&mailbox, &err);
    signal(SIGTERM, on_term);
    signal(SIGINT, on_term);
    rc = rc == VX_OK ? run(r, &err) : rc;
    return rc == VX_OK ? 0 : vx_say_error("bench", &err);
}

int vx_role_bench(int argc, char **argv) {
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
    if (help || argc < 3 || strcmp(argv[1], "loader") != 0 || argv[2][0] == '-') {
        fprintf(help ? stdout : stderr, "%s%s", usage, vx_config_usage());
        return help ? 0 : 2;
    }
    struct run r = {.json = json_pack("{s:s}", "type", "benchmark")};
    vx_auto_free char **args = calloc((size_t)argc + 2, sizeof *args);
    vx_auto_free char *root = NULL;
    int n = 0, status = 2;
    if (args) {
        args[n++] = argv[0];
    }
    if (args && take_options(&r, argc - 3, argv + 3, args, &n)) {
        if (take_dataset(&r, argv[2], args, &n, &root)) {
            status = vx_alone_config(&r.job, n, args, usage);
            status = status == 0 ? configured(&r) : status;
        } else {
            fprintf(stderr, "voxeld bench: %s is no folder\n", argv[2]);
        }
    }
    vx_brief_free(r.brief);
    vx_alone_release(&r.job);
    json_decref(r.json);
    return status;
}
