/* See lab.h. */
#include "lab.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/resolve.h"
#include "daemon/roles/build.h"
#include "daemon/roles/examine.h"
#include "daemon/session/brief.h"
#include "daemon/verbs.h"
#include "spec/spec.h"

#include <dirent.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define SET "Dataset999_Phantom"
#define SPEC                                                                                       \
    "{\"type\":\"train\",\"dataset\":\"" SET "\",\"configuration\":\"3d_fullres\","                \
    "\"training\":{\"epochs\":1,\"iterations_per_epoch\":45,\"val_iterations_per_epoch\":5},"      \
    "\"plan\":{\"batch_size\":2,\"patch_size\":[16,16,16],\"features_per_stage\":[4,8]}}"

static void check(int rc, const struct vx_err *err, const char *what) {
    if (rc != VX_OK) {
        fprintf(stderr, "pool: %s: %s %s\n", what, err->text, err->where);
        exit(1);
    }
}

static void must(bool ok, const char *what) {
    struct vx_err err = {0};
    check(ok ? VX_OK : VX_E_INTERNAL, &err, what);
}

/* --- the data set --- */

static void write_phantoms(const char *data, int cases) {
    char n[16],
        *argv[] = {"phantom", "--out",    (char *)data, "--name", SET,      "--cases", n,
                   "--shape", "20,22,18", "--labels",   "2",      "--seed", "5",       NULL};
    snprintf(n, sizeof n, "%d", cases);
    must(vx_role_phantom((int)VX_COUNTOF(argv) - 1, argv) == 0, "phantoms");
}

/* The job's spec in canonical form; caller frees. */
static char *spec_text(void) {
    struct vx_job_spec spec;
    struct vx_json_problems problems = {0};
    vx_auto_json json_t *json = json_loads(SPEC, 0, NULL);
    must(vx_spec_parse(json, &spec, &problems) == VX_OK, problems.list[0].text);
    vx_auto_json json_t *canonical = vx_spec_to_json(&spec);
    return vx_json_canonical(canonical);
}

static void prepare(struct lab *lab, const char *raw, const struct vx_config *config,
                    struct vx_examination *x) {
    struct vx_err err = {0};
    struct vx_resolved resolved = {0};
    vx_auto_free char *spec = spec_text(), *plans = json_dumps(x->plans, 0),
                      *print = json_dumps(x->fingerprint, 0), *store = NULL;
    vx_auto_free char *job_dir = vx_strf("%s/pattern", lab->dir);
    struct vx_resolve_input in = {.spec = spec,
                                  .job_dir = job_dir,
                                  .raw_dir = raw,
                                  .plans = plans,
                                  .fingerprint = print,
                                  .config = config};
    check(vx_resolve(&in, &resolved, &err), &err, "planning");
    vx_auto_json json_t *job_plans = NULL;
    check(vx_json_load_file(resolved.plans_path, 64u << 20, &job_plans, &err), &err, "the plan");
    struct vx_build b = {raw, resolved.dataset_dir, job_plans, resolved.configuration, 0, NULL};
    check(vx_build_store(&b, &store, &err), &err, "preparing");
    vx_resolved_release(&resolved);
}

static void make_set(struct lab *lab, int cases) {
    struct vx_err err = {0};
    struct vx_examination x = {0};
    vx_auto_free char *data = vx_strf("%s/data", lab->dir), *raw = vx_strf("%s/" SET, data),
                      *preprocessed = vx_strf("%s/preprocessed", lab->dir),
                      *results = vx_strf("%s/results", lab->dir);
    struct vx_config config = {
        .data = data, .preprocessed = preprocessed, .results = results, .cpu_threads = 1};
    write_phantoms(data, cases);
    check(vx_examine(raw, 0, false, NULL, &x, &err), &err, "checking");
    must(x.valid, x.message);
    prepare(lab, raw, &config, &x);
    vx_examination_release(&x);
}

/* Twenty thousand small files, each synced: in memory where there is room, or most of the time is
 * the disk's. */
static const char *folder_for_many_files(void) {
    struct statvfs fs;
    const char *tmp = getenv("TMPDIR");
    bool room = statvfs("/dev/shm", &fs) == 0 && fs.f_bavail * fs.f_frsize > 512u << 20 &&
                access("/dev/shm", W_OK) == 0;
    return tmp ? tmp : room ? "/dev/shm" : "/tmp";
}

static char made[256]; /* the lab of this process; removed also where a scene fails */
static pid_t owner;

static void remove_made(void) {
    if (made[0] && getpid() == owner) {
        vx_remove_tree(made, NULL);
    }
}

void lab_open(struct lab *lab, int cases) {
    snprintf(lab->dir, sizeof lab->dir, "%s/voxeld-pool-XXXXXX", folder_for_many_files());
    must(mkdtemp(lab->dir) != NULL, lab->dir);
    snprintf(made, sizeof made, "%s", lab->dir);
    owner = getpid();
    atexit(remove_made);
    fflush(stdout);
    pid_t pid = fork(); /* verbs talk on stdout, and are made for a process of their own */
    if (pid == 0) {
        must(freopen("/dev/null", "we", stdout) != NULL, "/dev/null");
        make_set(lab, cases);
        _exit(0);
    }
    int status = -1;
    must(waitpid(pid, &status, 0) == pid && status == 0, "the data set");
    lab->brief_path = vx_strf("%s/pattern/session.json", lab->dir);
}

void lab_close(struct lab *lab) {
    free(lab->brief_path);
    remove_made();
    made[0] = '\0';
}

/* --- sessions --- */

int lab_workers(int pids[64]) {
    DIR *proc = opendir("/proc");
    int n = 0;
    for (struct dirent *e; proc && n < 64 && (e = readdir(proc));) {
        char path[300], text[512];
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/cmdline", e->d_name);
        vx_auto_fclose FILE *f =
            e->d_name[0] >= '1' && e->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[len] = '\0';
        const char *verb = text + strlen(text) + 1;
        if (len < strlen(text) + 8 || strcmp(verb, "augment") != 0) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        vx_auto_fclose FILE *stat = fopen(path, "re");
        if (stat && fscanf(stat, "%*d (%*[^)]) %*c %d", &parent) == 1 && parent == getpid()) {
            pids[n++] = atoi(e->d_name);
        }
    }
    if (proc) {
        closedir(proc);
    }
    return n;
}

static bool on_crashed(void *ctx, const json_t *evidence, bool had_new_checkpoint) {
    struct lab_session *s = ctx;
    const char *reason = json_string_value(json_object_get(evidence, "reason"));
    (void)had_new_checkpoint;
    printf("pool: %s: the consumer was lost: %s\n", s->name, reason);
    return ++s->crashes < 3;
}

static void on_worker_lost(void *ctx, const json_t *evidence) {
    struct lab_session *s = ctx;
    const char *reason = json_string_value(json_object_get(evidence, "reason"));
    s->lost++;
    s->lost_by_oom += strcmp(reason, "oom_killed") == 0;
    s->lost_by_bus += strcmp(reason, "bus_error") == 0;
    s->lost_by_crash += strcmp(reason, "crashed") == 0;
}

static void on_quarantined(void *ctx, const json_t *row, bool fresh) {
    (void)row;
    ((struct lab_session *)ctx)->quarantined += fresh;
}

static void on_knobs(void *ctx, const struct vx_session_knobs *now, const json_t *change) {
    (void)now;
    ((struct lab_session *)ctx)->changes += change != NULL;
}

static void *meddler(void *arg) {
    struct lab_session *s = arg;
    s->meddle(s);
    return NULL;
}

/* The pattern's brief with what this session wants; returns its path. */
static char *write_brief(const struct lab *lab, const struct lab_session *s,
                         struct vx_brief **ret) {
    struct vx_err err = {0};
    char *path = vx_strf("%s/%s/session.json", lab->dir, s->name);
    check(vx_brief_read(lab->brief_path, ret, &err), &err, "the pattern");
    struct vx_brief *b = *ret;
    free(b->dir);
    b->dir = vx_strf("%s/%s", lab->dir, s->name);
    b->schedule.epochs = s->epochs;
    b->workers = s->workers;
    b->workers_max = s->workers_max;
    b->slots = 2 * s->workers_max + 2 < 8 ? 8 : 2 * s->workers_max + 2;
    b->window = 0;
    b->keep_files_open = s->keep_files_open;
    /* from files: the kernel would take what holds the store in memory before any worker */
    free(b->cache);
    b->cache = vx_strf("%s", s->keep_files_open ? "keep" : "open");
    check(vx_mkdirs(b->dir, 0755, &err), &err, "the job's folder");
    check(vx_brief_write(path, b, &err), &err, "the brief");
    return path;
}

void lab_run(const struct lab *lab, struct lab_session *s) {
    struct vx_err err = {0};
    struct vx_brief *b = NULL;
    enum vx_session_end end = VX_SESSION_FAILED;
    vx_auto_json json_t *result = NULL;
    vx_auto_free char *path = write_brief(lab, s, &b),
                      *trace = vx_strf("%s/" CONSUMER_TRACE, b->dir);
    char pace[16];
    pthread_t thread;
    snprintf(pace, sizeof pace, "%u", s->pace_us);
    setenv(CONSUMER_PACE, pace, 1);
    check(vx_session_mailbox_init(&s->mailbox, &err), &err, "the mailbox");
    struct vx_session_options options = {.brief = b,
                                         .brief_path = path,
                                         .mailbox = &s->mailbox,
                                         .events = {.ctx = s,
                                                    .crashed = on_crashed,
                                                    .worker_lost = on_worker_lost,
                                                    .quarantined = on_quarantined,
                                                    .knobs = on_knobs}};
    s->start_ns = vx_now_ns();
    if (s->meddle) {
        must(pthread_create(&thread, NULL, meddler, s) == 0, "a thread");
    }
    int rc = vx_session_run(&options, &end, &result, &err);
    s->end_ns = vx_now_ns();
    s->over = true;
    if (s->meddle) {
        pthread_join(thread, NULL);
    }
    printf("pool: %s: %.1f s, %u lost, %u changes\n", s->name,
           (double)(s->end_ns - s->start_ns) * 1e-9, s->lost, s->changes);
    check(rc, &err, s->name);
    must(end == VX_SESSION_SUCCEEDED, s->name);
    s->first_batch_ns = (uint64_t)json_integer_value(json_object_get(result, "first_batch_ns"));
    check(vx_read_file(trace, 64u << 20, &s->trace, NULL, &err), &err, "the trace");
    vx_session_mailbox_release(&s->mailbox);
    vx_brief_free(b);
}

void lab_release(struct lab_session *s) {
    free(s->trace);
    s->trace = NULL;
}
