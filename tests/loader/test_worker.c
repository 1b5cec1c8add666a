/* Worker processes on a ring: the same bytes for any number of them, through kills, rewinds, and
 * changes of the pool. */
#include "base/hash.h"
#include "cache/held.h"
#include "cache/stage.h"
#include "loader/made_up_store.h"
#include "loader/maker.h"
#include "loader/sampler.h"
#include "loader/worker.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOXELS = 12 * 14 * 10, SAMPLES = 72, MAX_WORKERS = 8 };

static const struct vx_sample_schedule schedule = {2, 10, 2, 3};

struct pool {
    struct made_store store;
    struct vx_recipe *recipe;
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
    pid_t pid[MAX_WORKERS];
    const char *stage_dir; /* for workers spawned from now on */
    int held_fd;
};

/* What a sample is: its bytes and where they came from. */
struct print {
    char hex[VX_SHA256_HEX];
};

static void print_of(const float *image, const int16_t *label, uint32_t case_index,
                     const int32_t lo[3], struct print *ret) {
    static char all[STORE_CHANNELS * VOXELS * 4 + VOXELS * 2 + 16];
    memcpy(all, image, STORE_CHANNELS * VOXELS * 4);
    memcpy(all + STORE_CHANNELS * VOXELS * 4, label, VOXELS * 2);
    memcpy(all + STORE_CHANNELS * VOXELS * 4 + VOXELS * 2, &case_index, 4);
    memcpy(all + STORE_CHANNELS * VOXELS * 4 + VOXELS * 2 + 4, lo, 12);
    vx_sha256_hex(all, sizeof all, ret->hex);
}

static void spawn(struct pool *p, uint16_t id) {
    vx_control_set_worker(&p->control, id, 0, VX_WANT_RUN);
    p->pid[id] = fork();
    cr_assert_geq(p->pid[id], 0);
    if (p->pid[id] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct vx_worker_config c = {.id = id,
                                     .control = &p->control,
                                     .timeline = &p->timeline,
                                     .ring = &p->ring,
                                     .recipe = p->recipe,
                                     .cache_dir = p->store.dir,
                                     .stage_dir = p->stage_dir,
                                     .held_fd = p->held_fd};
        struct vx_err err = {0};
        int rc = vx_worker_run(&c, NULL, &err);
        _exit(rc == VX_OK ? 0 : rc == VX_E_CORRUPT ? 3 : 2);
    }
}

static void pool_open(struct pool *p, int workers) {
    const uint32_t size[3] = {12, 14, 10};
    struct vx_knobs knobs = {.workers_wanted = (uint32_t)workers, .keep_files_open = 1};
    struct vx_err err = {0};
    memset(p, 0, sizeof *p);
    made_store_open(&p->store);
    p->recipe = made_recipe(VX_AUG_MODE_DEFAULT, NULL, 0);
    cr_assert_eq(vx_control_create(&knobs, &p->control, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_timeline_create(&p->timeline, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_ring_create(STORE_CHANNELS, size, &schedule, 11, 0, &p->ring, &err), VX_OK,
                 "%s", err.text);
    for (int i = 0; i < workers; i++) {
        spawn(p, (uint16_t)i);
    }
}

static void pool_close(struct pool *p) {
    vx_session_gate(&p->control, &p->ring, VX_GATE_STOPPED);
    for (int i = 0; i < MAX_WORKERS; i++) {
        int status = 0;
        if (p->pid[i]) {
            cr_assert_eq(waitpid(p->pid[i], &status, 0), p->pid[i]);
            cr_assert_eq(status, 0, "worker %d ended with %d", i, status);
        }
    }
    cr_assert(vx_ring_quiet(&p->ring));
    vx_ring_close(&p->ring);
    vx_timeline_close(&p->timeline);
    vx_control_close(&p->control);
    vx_recipe_free(p->recipe);
    made_store_close(&p->store);
}

/* The job's samples as one maker makes them by this recipe, without a ring. */
static void expected_by(const struct pool *p, const struct vx_recipe *recipe,
                        struct print out[SAMPLES]) {
    static float image[STORE_CHANNELS * VOXELS];
    static int16_t label[VOXELS];
    struct vx_cache *cache = NULL;
    struct vx_maker *m = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_cache_open(p->store.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_maker_create(recipe, cache, &m, &err), VX_OK);
    for (uint64_t q = 0; q < SAMPLES; q++) {
        struct vx_sample_ref r = vx_sample_at(&schedule, q);
        struct vx_made made;
        uint32_t c;
        cr_assert_eq(
            vx_maker_make(m, r.stream, r.k, r.j, image, label, &c, &made, NULL, NULL, &err), VX_OK,
            "%s", err.text);
        print_of(image, label, c, made.place.lo, &out[q]);
    }
    vx_maker_free(m);
    vx_cache_free(cache);
}

static void expected(const struct pool *p, struct print out[SAMPLES]) {
    expected_by(p, p->recipe, out);
}

static void check_next(struct pool *p, uint64_t expected_q, const struct print *want) {
    uint64_t q;
    struct vx_sample s;
    struct print got;
    cr_assert_eq(vx_ring_take(&p->ring, 60000000000ull, &q, &s), VX_OK);
    cr_assert_eq(q, expected_q);
    struct vx_sample_ref r = vx_sample_at(&schedule, q);
    cr_assert(s.head->k == r.k && s.head->j == r.j && s.head->stream == r.stream);
    print_of(s.image, s.label, s.head->case_index, s.head->lo, &got);
    cr_assert_str_eq(got.hex, want[q].hex, "sample %d", (int)q);
    vx_ring_release(&p->ring, q);
}

static void check_pool_of(int workers) {
    struct pool p;
    static struct print want[SAMPLES];
    pool_open(&p, workers);
    expected(&p, want);
    for (uint64_t q = 0; q < SAMPLES; q++) {
        check_next(&p, q, want);
    }
    struct vx_worker_record r;
    uint64_t samples = 0;
    vx_session_gate(&p.control, &p.ring, VX_GATE_STOPPED);
    for (int i = 0; i < workers; i++) {
        int status;
        cr_assert_eq(waitpid(p.pid[i], &status, 0), p.pid[i]);
        cr_assert_eq(status, 0);
        cr_assert(vx_timeline_worker(&p.timeline, (uint32_t)i, &r));
        cr_assert_eq(r.state, VX_WORKER_LEFT);
        cr_assert_eq(r.pid, p.pid[i]);
        samples += r.samples;
        p.pid[i] = 0;
    }
    cr_assert_eq(samples, SAMPLES);
    pool_close(&p);
}

Test(loader_worker, one_worker_makes_the_samples) {
    check_pool_of(1);
}

Test(loader_worker, two_workers_make_the_same) {
    check_pool_of(2);
}

Test(loader_worker, eight_workers_make_the_same) {
    check_pool_of(8);
}

static void kill_and_replace(struct pool *p, uint16_t id) {
    int status;
    kill(p->pid[id], SIGKILL);
    cr_assert_eq(waitpid(p->pid[id], &status, 0), p->pid[id]);
    vx_ring_reclaim(&p->ring, id);
    spawn(p, id);
}

Test(loader_worker, kills_and_rewinds_change_no_byte) {
    struct pool p;
    static struct print want[SAMPLES];
    struct vx_rng rng = vx_rng_at(99, 0, 0, 0, 905);
    pool_open(&p, 3);
    expected(&p, want);
    uint64_t q = 0;
    int rewinds = 0, kills = 0;
    while (q < SAMPLES) {
        check_next(&p, q++, want);
        if (vx_rng_below(&rng, 4) == 0) {
            usleep(vx_rng_below(&rng, 4000)); /* somewhere in the middle of its work */
            kill_and_replace(&p, (uint16_t)vx_rng_below(&rng, 3));
            kills++;
        }
        if (rewinds < 6 && q > 12 && vx_rng_below(&rng, 6) == 0) {
            /* the trainer died: on from a batch before */
            uint64_t back = q - 2 * vx_rng_below(&rng, 6);
            back -= back % 2;
            vx_ring_set_gate(&p.ring, VX_GATE_PAUSED);
            while (vx_ring_rewind(&p.ring, back) == VX_E_BUSY) {
                usleep(200);
            }
            vx_ring_set_gate(&p.ring, VX_GATE_OPEN);
            q = back;
            rewinds++;
        }
    }
    cr_assert(kills > 5 && rewinds == 6, "%d kills, %d rewinds", kills, rewinds);
    pool_close(&p);
}

Test(loader_worker, leaves_when_told_and_others_go_on) {
    struct pool p;
    static struct print want[SAMPLES];
    pool_open(&p, 2);
    expected(&p, want);
    for (uint64_t q = 0; q < 10; q++) {
        check_next(&p, q, want);
    }
    vx_control_set_worker(&p.control, 0, p.pid[0], VX_WANT_LEAVE);
    vx_ring_kick(&p.ring);
    int status;
    cr_assert_eq(waitpid(p.pid[0], &status, 0), p.pid[0]);
    cr_assert_eq(status, 0);
    p.pid[0] = 0;
    cr_assert_eq(vx_ring_reclaim(&p.ring, 0), 0, "nothing was left claimed");
    for (uint64_t q = 10; q < SAMPLES; q++) {
        check_next(&p, q, want);
    }
    pool_close(&p);
}

/* What the supervisor does when a case is to be shown no more. */
static struct vx_quarantine take_out(struct pool *p, uint32_t case_index) {
    struct vx_exclusions x = {.n = 1};
    uint64_t from = 0;
    int rc;
    vx_ring_set_gate(&p->ring, VX_GATE_PAUSED);
    while ((rc = vx_ring_discard(&p->ring, case_index, &from)) == VX_E_BUSY) {
        usleep(200);
    }
    cr_assert_eq(rc, VX_OK);
    struct vx_sample_ref at = vx_sample_at(&schedule, from);
    struct vx_quarantine q = {.case_index = case_index};
    /* training batches come before an epoch's validation batches */
    q.from_k[VX_STREAM_TRAIN] = at.stream == VX_STREAM_TRAIN ? at.k : (at.epoch + 1) * 10ull;
    q.from_k[VX_STREAM_VAL] = at.stream == VX_STREAM_VAL ? at.k : at.epoch * 2ull;
    q.from_j[at.stream] = at.j;
    x.list[0].case_index = case_index;
    memcpy(x.list[0].from_k, q.from_k, sizeof q.from_k);
    memcpy(x.list[0].from_j, q.from_j, sizeof q.from_j);
    vx_control_set_exclusions(&p->control, &x);
    vx_ring_set_gate(&p->ring, VX_GATE_OPEN);
    return q;
}

Test(loader_worker, a_case_taken_out_while_they_work) {
    struct pool p;
    static struct print want[SAMPLES], with[SAMPLES];
    struct vx_recipe *recipe = NULL;
    int changed = 0;
    pool_open(&p, 3);
    expected(&p, want);
    for (uint64_t q = 0; q < 15; q++) {
        check_next(&p, q, want);
    }
    struct vx_quarantine out = take_out(&p, 1);
    cr_assert_eq(vx_recipe_with(p.recipe, &out, 1, &recipe, NULL), VX_OK);
    expected_by(&p, recipe, with);
    for (uint64_t q = 0; q < SAMPLES; q++) {
        changed += strcmp(want[q].hex, with[q].hex) != 0;
        cr_assert(q >= 15 || strcmp(want[q].hex, with[q].hex) == 0, "what was taken stays");
    }
    cr_assert(changed > 10, "%d", changed);
    for (uint64_t q = 15; q < SAMPLES; q++) {
        check_next(&p, q, with);
        cr_assert_neq(vx_ring_slot(&p.ring, q)->case_index, 1);
    }
    vx_recipe_free(recipe);
    pool_close(&p);
}

/* The record of worker 0, which names the case of the sample it is at, and the part of it that is
 * being read exactly while it reads; false before there is one. */
static bool look_at_record(const struct pool *p, struct vx_worker_record *ret) {
    uint32_t c = UINT32_MAX;
    if (!vx_timeline_worker(&p->timeline, 0, ret) || ret->state < VX_WORKER_WAITING) {
        return false;
    }
    struct vx_sample_ref at = vx_sample_at(&schedule, ret->q);
    cr_assert_eq(vx_sample_case(vx_recipe_view(p->recipe), at.stream, at.k, at.j, &c), VX_OK);
    cr_assert_eq(ret->case_index, c, "sample %d", (int)ret->q);
    cr_assert((ret->state == VX_WORKER_READING) == (ret->reading != VX_READING_NOTHING));
    return true;
}

/* A killed worker cannot say any more what it was at: its record does, from the moment at which the
 * case is known. The job is gone through again until it was seen at both kinds of work. */
Test(loader_worker, its_record_names_the_case_it_is_at) {
    struct pool p;
    struct vx_worker_record r = {0};
    int reading = 0, augmenting = 0;
    pool_open(&p, 1);
    for (int round = 0; round < 1000 && !(reading && augmenting); round++) {
        for (uint64_t q = 0; q < SAMPLES; q++) {
            uint64_t got;
            struct vx_sample s;
            int rc;
            while ((rc = vx_ring_take(&p.ring, 1000, &got, &s)) == VX_E_TIMEOUT) {
                if (look_at_record(&p, &r)) {
                    reading += r.state == VX_WORKER_READING;
                    augmenting += r.state == VX_WORKER_AUGMENTING;
                }
            }
            cr_assert_eq(rc, VX_OK);
            vx_ring_release(&p.ring, got);
        }
        vx_ring_set_gate(&p.ring, VX_GATE_PAUSED);
        cr_assert_eq(vx_ring_rewind(&p.ring, 0), VX_OK);
        vx_ring_set_gate(&p.ring, VX_GATE_OPEN);
    }
    cr_assert(reading && augmenting, "seen reading %d times, augmenting %d times", reading,
              augmenting);
    pool_close(&p);
}

/* Flips bytes in the middle of a case's files. */
static void damage(const char *dir) {
    char command[256];
    snprintf(command, sizeof command,
             "find '%s/cases' -path '*case_0[012]*' -path '*image*' -type f -size +3k", dir);
    FILE *files = popen(command, "re");
    char path[512];
    int n = 0;
    while (fgets(path, sizeof path, files)) {
        path[strcspn(path, "\n")] = 0;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        char junk[512];
        memset(junk, 0x5a, sizeof junk);
        for (off_t at = 64; at < lseek(fd, 0, SEEK_END) - 1024; at += 1024) {
            cr_assert_eq(pwrite(fd, junk, sizeof junk, at), (ssize_t)sizeof junk);
        }
        close(fd);
        n++;
    }
    pclose(files);
    cr_assert_gt(n, 0);
}

Test(loader_worker, a_damaged_case_ends_it_with_the_files_name) {
    struct pool p;
    pool_open(&p, 0);
    damage(p.store.dir);
    struct vx_worker_config c = {.id = 0,
                                 .control = &p.control,
                                 .timeline = &p.timeline,
                                 .ring = &p.ring,
                                 .recipe = p.recipe,
                                 .cache_dir = p.store.dir};
    struct vx_err err = {0};
    uint32_t bad = UINT32_MAX;
    cr_assert_eq(vx_worker_run(&c, &bad, &err), VX_E_CORRUPT, "%s", err.text);
    cr_assert_lt(bad, 3u);
    char name[16];
    snprintf(name, sizeof name, "case_%02u", bad);
    cr_assert(strstr(err.where, name) || strstr(err.text, name), "%s (%s)", err.text, err.where);
    cr_assert(vx_ring_quiet(&p.ring), "the claim was given back");
    struct vx_worker_record r;
    cr_assert(vx_timeline_worker(&p.timeline, 0, &r));
    cr_assert(r.state == VX_WORKER_FAILED && r.case_index == bad);
    cr_assert_eq(r.reading, VX_READING_IMAGE);
    pool_close(&p);
}

/* The part of the supervisor, in the worker's process: puts the files back as they were (from
 * "whole"), or does not, and answers. ctx: struct pool. */
static void mend(void *ctx, uint32_t case_index, const struct vx_err *err) {
    struct pool *p = ctx;
    char command[512];
    snprintf(command, sizeof command,
             "cd '%s' && rm -r cases/case_%02u~* && cp -a whole/case_%02u~* cases/", p->store.dir,
             case_index, case_index);
    if (err->code != VX_E_CORRUPT || system(command) != 0) {
        _exit(9);
    }
    vx_control_answer(&p->control, 0);
}

static void only_answer(void *ctx, uint32_t case_index, const struct vx_err *err) {
    struct pool *p = ctx;
    (void)case_index;
    (void)err;
    vx_control_answer(&p->control, 0);
}

static void never_answer(void *ctx, uint32_t case_index, const struct vx_err *err) {
    (void)ctx;
    (void)case_index;
    (void)err;
}

static void spawn_with(struct pool *p, void (*damaged)(void *, uint32_t, const struct vx_err *)) {
    p->pid[0] = fork();
    cr_assert_geq(p->pid[0], 0);
    if (p->pid[0] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct vx_worker_config c = {.id = 0,
                                     .control = &p->control,
                                     .timeline = &p->timeline,
                                     .ring = &p->ring,
                                     .recipe = p->recipe,
                                     .cache_dir = p->store.dir,
                                     .damaged = damaged,
                                     .ctx = p};
        struct vx_err err = {0};
        int rc = vx_worker_run(&c, NULL, &err);
        _exit(rc == VX_OK ? 0 : rc == VX_E_CORRUPT ? 3 : 2);
    }
}

/* Three damaged cases, mended one after another while the worker holds its sample: it does not end,
 * and no byte differs. */
Test(loader_worker, a_mended_case_is_read_again) {
    struct pool p;
    static struct print want[SAMPLES];
    char command[256];
    pool_open(&p, 0);
    expected(&p, want);
    snprintf(command, sizeof command, "cp -a '%s/cases' '%s/whole'", p.store.dir, p.store.dir);
    cr_assert_eq(system(command), 0);
    damage(p.store.dir);
    spawn_with(&p, mend);
    for (uint64_t q = 0; q < SAMPLES; q++) {
        check_next(&p, q, want);
    }
    cr_assert_eq(vx_control_answers(&p.control, 0), 3, "each damaged case was reported once");
    pool_close(&p);
}

Test(loader_worker, a_case_that_nobody_mends_ends_it) {
    struct pool p;
    int status;
    pool_open(&p, 0);
    damage(p.store.dir);
    spawn_with(&p, only_answer);
    cr_assert_eq(waitpid(p.pid[0], &status, 0), p.pid[0]);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3, "%d", status);
    cr_assert_eq(vx_control_answers(&p.control, 0), 1, "it asks once for a sample");
    p.pid[0] = 0;
    pool_close(&p);
}

Test(loader_worker, leaves_while_it_waits_for_a_repair) {
    struct pool p;
    struct vx_worker_record r = {0};
    pool_open(&p, 0);
    damage(p.store.dir);
    spawn_with(&p, never_answer);
    while (!vx_timeline_worker(&p.timeline, 0, &r) || r.case_index == UINT32_MAX ||
           r.state != VX_WORKER_WAITING) {
        usleep(1000);
    }
    pool_close(&p); /* checks that it ends well and claims nothing any more */
}

/* --- reading modes --- */

/* Three workers, and every way of reading in turns while they work: from files opened each time or
 * kept, from copies of which half are there, out of memory of which cases come and go. */
static void check_modes(struct pool *p, const struct print *want) {
    struct vx_cache *cache = NULL;
    struct vx_stage *stage = NULL;
    struct vx_held *held = NULL;
    struct vx_err err = {0};
    char fast[96];
    snprintf(fast, sizeof fast, "%s/fast", p->store.root);
    cr_assert_eq(vx_mkdirs(fast, 0755, &err), VX_OK);
    cr_assert_eq(vx_cache_open(p->store.dir, &cache, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_stage_open(fast, "D", cache, &stage, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_stage_own(stage, &err), VX_OK);
    for (size_t i = 0; i < STORE_CASES; i += 2) {
        cr_assert_eq(vx_stage_copy(stage, i, NULL, NULL, &err), VX_OK, "%s", err.text);
    }
    cr_assert_eq(vx_held_create(&p->held_fd, &err), VX_OK);
    cr_assert_eq(vx_held_fill(p->held_fd, cache, &held, &err), VX_OK, "%s", err.text);
    p->stage_dir = vx_stage_dir(stage);
    for (uint16_t i = 0; i < 3; i++) {
        spawn(p, i);
    }
    for (uint64_t q = 0; q < SAMPLES; q++) {
        struct vx_knobs k = {.workers_wanted = 3, .keep_files_open = q / 2 % 2};
        k.reading = (uint32_t)(q % VX_CACHE_MODES);
        k.cache_mode = q % 5 == 0 ? VX_CACHE_OPEN : k.reading;
        vx_control_set_knobs(&p->control, &k);
        if (q % 3 == 0) {
            cr_assert_eq(vx_held_load(held, q % STORE_CASES, &err), VX_OK);
        } else if (q % 7 == 0) {
            vx_held_drop(held, q % STORE_CASES);
        }
        check_next(p, q, want);
    }
    vx_held_close(held);
    vx_stage_close(stage);
    vx_cache_free(cache);
}

Test(loader_worker, no_way_of_reading_changes_a_byte) {
    struct pool p;
    static struct print want[SAMPLES];
    struct vx_worker_record r;
    uint64_t held = 0, decoded = 0, faults = 0;
    pool_open(&p, 0);
    expected(&p, want);
    check_modes(&p, want);
    vx_session_gate(&p.control, &p.ring, VX_GATE_STOPPED);
    for (uint16_t i = 0; i < 3; i++) {
        int status;
        cr_assert_eq(waitpid(p.pid[i], &status, 0), p.pid[i]);
        cr_assert_eq(status, 0);
        cr_assert(vx_timeline_worker(&p.timeline, i, &r));
        held += r.bytes_held;
        decoded += r.bytes_decoded;
        faults += r.stage_faults;
        p.pid[i] = 0;
    }
    cr_assert(held > 0 && decoded > 0 && faults == 0, "%d held, %d decoded, %d faults", (int)held,
              (int)decoded, (int)faults);
    close(p.held_fd);
    pool_close(&p);
}

Test(loader_worker, refuses_a_ring_of_other_shapes) {
    struct pool p;
    pool_open(&p, 0);
    vx_ring_close(&p.ring);
    const uint32_t size[3] = {12, 14, 11};
    cr_assert_eq(vx_ring_create(STORE_CHANNELS, size, &schedule, 11, 0, &p.ring, NULL), VX_OK);
    struct vx_worker_config c = {.control = &p.control,
                                 .timeline = &p.timeline,
                                 .ring = &p.ring,
                                 .recipe = p.recipe,
                                 .cache_dir = p.store.dir};
    struct vx_err err = {0};
    cr_assert_eq(vx_worker_run(&c, NULL, &err), VX_E_INVALID);
    pool_close(&p);
}

Test(loader_worker, refuses_the_data_of_another_plan) {
    struct pool p;
    pool_open(&p, 0);
    json_t *json = vx_recipe_to_json(p.recipe);
    char key[VX_SHA256_HEX];
    struct vx_recipe *recipe = NULL;
    struct vx_err err = {0};
    vx_sha256_hex("another", 7, key);
    json_object_set_new(json, "cache_key", json_string(key));
    cr_assert_eq(vx_recipe_from_json(json, &recipe, &err), VX_OK, "%s", err.text);
    struct vx_worker_config c = {.control = &p.control,
                                 .timeline = &p.timeline,
                                 .ring = &p.ring,
                                 .recipe = recipe,
                                 .cache_dir = p.store.dir};
    cr_assert_eq(vx_worker_run(&c, NULL, &err), VX_E_STATE);
    cr_assert_str_eq(err.reason, "cache_of_another_plan");
    cr_assert_str_eq(err.where, p.store.dir);
    json_decref(json);
    vx_recipe_free(recipe);
    pool_close(&p);
}
