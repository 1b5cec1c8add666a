/* The loader's pool as it is: the supervisor, worker processes, a thousand cases.
 *
 *   pool            every batch of a job the same whatever happens to the pool; start, descriptors,
 * memory pool oom        a worker killed by the kernel for lack of memory (exit status 77 where no
 * memory group can be made)
 *
 * The last line is a JSON object with what was measured. Exit status 1 where a figure is missed. */
#include "lab.h"

#include "base/budget.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/own.h"
#include "daemon/child_setup.h"
#include "daemon/verbs.h"
#include "oom.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define SECOND 1000000000ull

enum { CASES = 1000, BATCHES_PER_EPOCH = 50, EPOCHS = 20, LONG_EPOCHS = 200 };

static int failures;

static void expect(bool ok, const char *scene, const char *what) {
    if (!ok) {
        fprintf(stderr, "pool: %s: %s\n", scene, what);
        failures++;
    }
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void nap(uint64_t us) {
    usleep((useconds_t)us);
}

/* --- what befalls the pools --- */

static void kill_every(struct lab_session *s, uint64_t period_us, const int signals[3]) {
    uint32_t seed = 11, n_killed = 0;
    uint64_t next = vx_now_ns();
    while (!s->over) {
        int pids[64], n = lab_workers(pids);
        if (n > 0 && vx_now_ns() >= next) {
            kill(pids[next_random(&seed) % (uint32_t)n], signals[n_killed++ % 3]);
            next += period_us * 1000;
        }
        nap(5000);
    }
}

static void kill_every_second(struct lab_session *s) {
    kill_every(s, 1000000, (const int[3]){SIGKILL, SIGKILL, SIGKILL});
}

static void kill_often(struct lab_session *s) {
    kill_every(s, 120000, (const int[3]){SIGKILL, SIGBUS, SIGSEGV});
}

static void resize(struct lab_session *s) {
    uint32_t seed = 7;
    while (!s->over) {
        struct vx_session_knobs wish = {.workers = 1 + (int)(next_random(&seed) % s->workers_max),
                                        .window = (int)(next_random(&seed) % 14),
                                        .keep_files_open = (int)(next_random(&seed) % 2),
                                        .cache_mode = -1};
        vx_session_turn(&s->mailbox, &wish);
        nap(1000 + next_random(&seed) % 120000);
    }
}

/* --- memory and descriptors of the workers --- */

struct point {
    double seconds, kib;
};

static struct {
    struct point at[4096];
    int n, pid, files_most, workers_most;
} watched;

static double anon_kib(int pid) {
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    vx_auto_fclose FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %lu kB", &kib) != 1) {
    }
    return (double)kib;
}

static int open_files(int pid) {
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir)) {
        n++;
    }
    if (dir) {
        closedir(dir);
    }
    return n - 2; /* . and .. */
}

static void watch(struct lab_session *s) {
    uint64_t start = vx_now_ns();
    memset(&watched, 0, sizeof watched);
    while (!s->over) {
        int pids[64], n = lab_workers(pids);
        watched.workers_most = n > watched.workers_most ? n : watched.workers_most;
        watched.pid = watched.pid || n == 0 ? watched.pid : pids[0];
        for (int i = 0; i < n; i++) {
            int files = open_files(pids[i]);
            watched.files_most = files > watched.files_most ? files : watched.files_most;
        }
        double kib = watched.pid ? anon_kib(watched.pid) : 0;
        if (kib > 0 && watched.n < 4096) {
            watched.at[watched.n++] = (struct point){(double)(vx_now_ns() - start) * 1e-9, kib};
        }
        nap(20000);
    }
}

/* Least squares over the last third, in KiB a second. Until then what is bounded fills: the table
 * of opened cases holds 512 of the 1,000, and the heap around them settles. */
static double slope(void) {
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = watched.n / 3 * 2; i < watched.n; i++) {
        double x = watched.at[i].seconds, y = watched.at[i].kib;
        n++;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    double d = n * sxx - sx * sx;
    return n > 2 && d > 0 ? (n * sxy - sx * sy) / d : 0;
}

/* --- the scenes --- */

static size_t lines(const char *text) {
    size_t n = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) {
        n++;
    }
    return n;
}

static void limit_files(rlim_t n, struct rlimit *ret_before) {
    getrlimit(RLIMIT_NOFILE, ret_before);
    struct rlimit limit = {n, ret_before->rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* The same batches as reference, which may be the shorter run. */
static void compare(const struct lab_session *s, const char *reference) {
    size_t n = strlen(reference);
    expect(lines(s->trace) == s->epochs * BATCHES_PER_EPOCH, s->name, "batches are missing");
    expect(strncmp(s->trace, reference, n) == 0, s->name,
           "the batches are not those of one worker");
}

struct figures {
    double first_batch_s, slope_kib_s, slope_kib, rss_kib, long_s;
    int files, files_limit;
    uint32_t kills, often, turns, small_limit_lost;
};

static double first_batch_seconds(const struct lab_session *s) {
    return (double)(s->first_batch_ns - s->start_ns) * 1e-9;
}

static void disturbed(const struct lab *lab, const char *reference, struct figures *f) {
    struct lab_session kills = {.name = "a kill a second",
                                .workers = 3,
                                .workers_max = 5,
                                .epochs = EPOCHS,
                                .pace_us = 6000,
                                .meddle = kill_every_second};
    lab_run(lab, &kills);
    compare(&kills, reference);
    f->kills = kills.lost;
    expect(kills.lost >= 5, kills.name, "too few kills to show anything");
    expect(kills.quarantined == 0, kills.name, "a kill from outside is no case's fault");
    lab_release(&kills);
    struct lab_session often = {.name = "kills all the time",
                                .workers = 5,
                                .workers_max = 5,
                                .epochs = EPOCHS,
                                .pace_us = 2000,
                                .meddle = kill_often};
    lab_run(lab, &often);
    compare(&often, reference);
    f->often = often.lost;
    expect(often.lost >= 12 && often.quarantined == 0, often.name,
           "too few kills to show anything");
    expect(often.lost_by_bus >= 4 && often.lost_by_crash >= 4 && often.lost_by_oom == 0, often.name,
           "the signals are not told apart");
    lab_release(&often);
    struct lab_session turned = {.name = "resized",
                                 .workers = 2,
                                 .workers_max = 5,
                                 .epochs = EPOCHS,
                                 .pace_us = 3000,
                                 .meddle = resize};
    lab_run(lab, &turned);
    compare(&turned, reference);
    f->turns = turned.changes;
    expect(turned.changes >= 20 && turned.lost == 0, turned.name,
           "too few changes, or a worker was lost");
    lab_release(&turned);
}

static void limited(const struct lab *lab, const char *reference, struct figures *f) {
    struct rlimit before;
    struct lab_session few = {.name = "64 descriptors",
                              .workers = 5,
                              .workers_max = 5,
                              .epochs = 4,
                              .keep_files_open = 1,
                              .meddle = watch};
    limit_files(64, &before);
    lab_run(lab, &few);
    expect(strncmp(few.trace, reference, strlen(few.trace)) == 0, few.name, "other batches");
    expect(watched.files_most <= 64 && few.lost == 0, few.name,
           "beyond the limit, or a worker was lost");
    f->small_limit_lost = few.lost;
    lab_release(&few);
    struct lab_session crowd = {.name = "64 descriptors, 20 workers",
                                .workers = 20,
                                .workers_max = 20,
                                .epochs = 4,
                                .pace_us = 5000, /* long enough to be looked at */
                                .meddle = watch};
    lab_run(lab, &crowd);
    expect(strncmp(crowd.trace, reference, strlen(crowd.trace)) == 0, crowd.name, "other batches");
    expect(crowd.lost == 0, crowd.name, "a worker was lost");
    expect(watched.workers_most > 2 && watched.workers_most < 20, crowd.name, "not at the limit");
    lab_release(&crowd);
    struct lab_session many = {.name = "10,000 batches",
                               .workers = 2,
                               .workers_max = 2,
                               .epochs = LONG_EPOCHS,
                               .keep_files_open = 1,
                               .meddle = watch};
    limit_files(1024, &before);
    lab_run(lab, &many);
    setrlimit(RLIMIT_NOFILE, &before);
    compare(&many, reference);
    f->files = watched.files_most;
    f->files_limit = 1024;
    f->first_batch_s = first_batch_seconds(&many);
    f->long_s = (double)(many.end_ns - many.start_ns) * 1e-9;
    f->slope_kib_s = slope();
    f->slope_kib = f->slope_kib_s * f->long_s;
    f->rss_kib = watched.n ? watched.at[watched.n - 1].kib : 0;
    expect(f->files > 200 && f->files <= 1024 - 100, many.name, "descriptors");
    expect(f->slope_kib < 100, many.name, "a worker's memory grows");
    lab_release(&many);
}

static int same_batches(void) {
    struct lab lab;
    struct figures f = {0};
    uint64_t start = vx_now_ns();
    lab_open(&lab, CASES);
    double prepared = (double)(vx_now_ns() - start) * 1e-9;
    struct lab_session one = {
        .name = "one worker", .workers = 1, .workers_max = 1, .epochs = EPOCHS};
    lab_run(&lab, &one);
    double first = first_batch_seconds(&one); /* of the quickest start: others may use the cores */
    expect(lines(one.trace) == EPOCHS * BATCHES_PER_EPOCH, one.name, "batches are missing");
    static const uint32_t counts[] = {2, 5};
    for (int i = 0; i < 2; i++) {
        struct lab_session more = {.name = i ? "five workers" : "two workers",
                                   .workers = counts[i],
                                   .workers_max = counts[i],
                                   .epochs = EPOCHS};
        lab_run(&lab, &more);
        compare(&more, one.trace);
        first = fmin(first, first_batch_seconds(&more));
        lab_release(&more);
    }
    disturbed(&lab, one.trace, &f);
    limited(&lab, one.trace, &f);
    first = fmin(first, f.first_batch_s);
    expect(first <= 1, "start", "the first batch came after more than a second");
    printf("{\"name\": \"pool\", \"cases\": %d, \"batches\": %d, \"prepared_seconds\": %.1f, "
           "\"first_batch_seconds\": %.3f, "
           "\"kills_one_a_second\": %u, \"kills\": %u, \"knobs_turned\": %u, \"long_batches\": %d, "
           "\"long_seconds\": %.1f, "
           "\"rss_anon_kib\": %.0f, \"rss_slope_kib_per_10000_batches\": %.1f, \"descriptors\": "
           "%d, \"descriptor_limit\": %d, "
           "\"failures\": %d}\n",
           CASES, EPOCHS * BATCHES_PER_EPOCH, prepared, first, f.kills, f.often, f.turns,
           LONG_EPOCHS * BATCHES_PER_EPOCH, f.long_s, f.rss_kib, f.slope_kib, f.files,
           f.files_limit, failures);
    lab_release(&one);
    lab_close(&lab);
    return failures ? 1 : 0;
}

int main(int argc, char **argv) {
    vx_child_setup_apply();
    signal(SIGPIPE, SIG_IGN);
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "augment") == 0) {
        return vx_role_augment(argc - 1, argv + 1);
    }
    if (strcmp(verb, "keeper") == 0) {
        return vx_role_keeper(argc - 1, argv + 1);
    }
    if (strcmp(verb, "step") == 0) {
        return consumer_main(argc - 1, argv + 1);
    }
    setenv("VOXELD_LOG", "err", 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return strcmp(verb, "oom") == 0 ? oom_scene() : same_batches();
}
