/* Reading from nearer places: memory that processes share, copies in another folder, the page
 * cache; switching among them while reading, and every way in which they fail. */
#include "cache/held.h"
#include "cache/stage.h"
#include "cache/warm.h"
#include "fixture.h"
#include "support/skip.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

struct near {
    char *dir, *store;
    struct fixture_case f[2];
    struct vx_cache *cache;
    struct vx_cache_case *c[2];
};

static void near_open(struct near *t, const char *name) {
    struct vx_err e = {0};
    t->dir = fixture_dir(name);
    t->f[0] = fixture_case("a", 2, 40, 41, 42, 1);
    t->f[1] = fixture_case("b", 1, 64, 70, 80, 2);
    t->store = fixture_store(t->dir, t->f, 2);
    expect_ok(vx_cache_open(t->store, &t->cache, &e));
    for (size_t i = 0; i < 2; i++) {
        expect_ok(vx_cache_case_open(t->cache, vx_cache_case_name(t->cache, i), &t->c[i], &e));
    }
}

static void near_close(struct near *t) {
    for (int i = 0; i < 2; i++) {
        vx_cache_case_free(t->c[i]);
        fixture_release(&t->f[i]);
    }
    vx_cache_free(t->cache);
    fixture_remove(t->dir, t->store);
}

/* One box of case i, image, labels and a location; false where any of it is not what was written.
 */
static bool right(const struct near *t, int i, const int64_t lo[3], const int64_t hi[3]) {
    static float image[200000];
    static int16_t seg[100000];
    const struct fixture_case *f = &t->f[i];
    const int64_t *n = f->data.info.shape;
    int64_t at = 0, voxels = (hi[0] - lo[0]) * (hi[1] - lo[1]) * (hi[2] - lo[2]);
    int32_t place[3];
    struct vx_err e = {0};
    expect_ok(vx_cache_read_box(t->c[i], VX_CACHE_IMAGE, lo, hi, image, NULL, &e));
    expect_ok(vx_cache_read_box(t->c[i], VX_CACHE_SEG, lo, hi, seg, NULL, &e));
    expect_ok(vx_cache_location(t->c[i], 1, 5, place, &e));
    bool same = memcmp(place, f->locations[f->classes[0].n_locations + 5], sizeof place) == 0;
    for (int64_t z = lo[0]; z < hi[0]; z++) {
        for (int64_t y = lo[1]; y < hi[1]; y++) {
            for (int64_t x = lo[2]; x < hi[2]; x++, at++) {
                bool in = z >= 0 && y >= 0 && x >= 0 && z < n[0] && y < n[1] && x < n[2];
                int64_t v = (z * n[1] + y) * n[2] + x;
                same = same && seg[at] == (in ? f->seg[v] : -1);
                for (int64_t ch = 0; ch < f->data.info.n_channels; ch++) {
                    float want = in ? f->image[ch * n[0] * n[1] * n[2] + v] : 0.0f;
                    same = same && image[ch * voxels + at] == want;
                }
            }
        }
    }
    return same;
}

static void check_boxes(const struct near *t, int boxes, uint64_t seed) {
    struct vx_rng r = vx_rng_at(seed, 0, 0, 0, 3);
    for (int k = 0; k < boxes; k++) {
        int64_t lo[3], hi[3];
        int i = (int)vx_rng_below(&r, 2);
        for (int a = 0; a < 3; a++) {
            lo[a] = (int64_t)vx_rng_below(&r, 60) - 10;
            hi[a] = lo[a] + 1 + vx_rng_below(&r, 40);
        }
        cr_assert(right(t, i, lo, hi), "case %d, box %d", i, k);
    }
}

/* --- memory --- */

Test(cache_near, held_cases_are_read_without_files) {
    struct vx_err e = {0};
    struct near t;
    struct vx_held *filler = NULL, *reader = NULL;
    int fd;
    near_open(&t, "held");
    expect_ok(vx_held_create(&fd, &e));
    cr_assert_eq(vx_held_map(fd, t.cache, &reader, &e), VX_E_STATE);
    cr_assert_str_eq(e.reason, "held_empty");
    expect_ok(vx_held_fill(fd, t.cache, &filler, &e));
    expect_ok(vx_held_map(fd, t.cache, &reader, &e));
    cr_assert_not(vx_held_has(reader, 0));
    expect_ok(vx_held_load(filler, 0, &e));
    cr_assert(vx_held_has(reader, 0) && !vx_held_has(reader, 1));
    vx_cache_read_held(t.cache, reader);
    check_boxes(&t, 40, 1); /* one case from memory, the other from its files */
    expect_ok(vx_held_load(filler, 1, &e));
    struct vx_cache_counters before = *vx_cache_counters(t.cache);
    check_boxes(&t, 40, 2);
    const struct vx_cache_counters *after = vx_cache_counters(t.cache);
    cr_assert_eq(after->bytes_read, before.bytes_read);
    cr_assert_eq(after->opens, before.opens);
    cr_assert_gt(after->bytes_held, before.bytes_held);
    struct stat st;
    fstat(fd, &st);
    uint64_t dense = 2 * 40 * 41 * 42 * 4 + 40 * 41 * 42 * 2 + 64 * 70 * 80 * 6;
    cr_assert_geq((uint64_t)st.st_blocks * 512, dense);
    vx_held_drop(filler, 0);
    vx_held_drop(filler, 1);
    fstat(fd, &st);
    cr_assert_leq(st.st_blocks * 512, 8192, "dropped cases take %d bytes", (int)st.st_blocks * 512);
    check_boxes(&t, 20, 3);
    vx_cache_read_held(t.cache, NULL);
    check_boxes(&t, 20, 4);
    vx_held_close(reader);
    vx_held_close(filler);
    close(fd);
    near_close(&t);
}

/* Another process takes the case away and brings it back all the time. */
Test(cache_near, a_case_that_leaves_while_it_is_read) {
    struct vx_err e = {0};
    struct near t;
    struct vx_held *filler = NULL, *reader = NULL;
    int fd;
    near_open(&t, "leaves");
    expect_ok(vx_held_create(&fd, &e));
    expect_ok(vx_held_fill(fd, t.cache, &filler, &e));
    expect_ok(vx_held_load(filler, 1, &e));
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const struct timespec nap = {0, 300000}; /* there and gone alike, also on one core */
        for (;;) {
            vx_held_drop(filler, 1);
            nanosleep(&nap, NULL);
            if (vx_held_load(filler, 1, NULL) != VX_OK) {
                _exit(1);
            }
            nanosleep(&nap, NULL);
        }
    }
    expect_ok(vx_held_map(fd, t.cache, &reader, &e));
    vx_cache_read_held(t.cache, reader);
    const int64_t lo[3] = {-2, 3, 4}, hi[3] = {40, 43, 44};
    uint64_t held = 0, filed = 0;
    for (int i = 0; i < 20000 && (i < 300 || held < 50 || filed < 50); i++) {
        struct vx_cache_counters before = *vx_cache_counters(t.cache);
        cr_assert(right(&t, 1, lo, hi), "read %d is torn", i);
        held += vx_cache_counters(t.cache)->bytes_read == before.bytes_read;
        filed += vx_cache_counters(t.cache)->bytes_read > before.bytes_read;
    }
    cr_assert(held >= 50 && filed >= 50, "%d out of memory, %d from files", (int)held, (int)filed);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    /* whatever it was at: another filler goes on, and readers are served throughout */
    struct vx_held *second = NULL;
    expect_ok(vx_held_fill(fd, t.cache, &second, &e));
    expect_ok(vx_held_load(second, 0, &e));
    expect_ok(vx_held_load(second, 1, &e));
    cr_assert(vx_held_has(reader, 0) && vx_held_has(reader, 1));
    check_boxes(&t, 20, 5);
    vx_held_close(second);
    vx_held_close(reader);
    vx_held_close(filler);
    close(fd);
    near_close(&t);
}

Test(cache_near, held_data_of_another_store_is_refused) {
    struct vx_err e = {0};
    struct near t, other;
    struct vx_held *filler = NULL, *reader = NULL;
    int fd;
    near_open(&t, "mine");
    near_open(&other, "theirs");
    /* the same names and shapes, another voxel: another case.json */
    vx_cache_case_free(other.c[0]);
    vx_cache_case_free(other.c[1]);
    vx_cache_free(other.cache);
    other.f[0].image[40 * 41 * 42 - 1] += 1;
    free(other.store);
    vx_remove_tree(other.dir, NULL);
    other.store = fixture_store(other.dir, other.f, 2);
    expect_ok(vx_cache_open(other.store, &other.cache, &e));
    expect_ok(vx_cache_case_open(other.cache, "a", &other.c[0], &e));
    expect_ok(vx_cache_case_open(other.cache, "b", &other.c[1], &e));
    expect_ok(vx_held_create(&fd, &e));
    expect_ok(vx_held_fill(fd, t.cache, &filler, &e));
    cr_assert_eq(vx_held_map(fd, other.cache, &reader, &e), VX_E_STATE);
    cr_assert_str_eq(e.reason, "held_other_store");
    cr_assert_eq(vx_held_fill(fd, other.cache, &reader, &e), VX_E_STATE);
    vx_held_close(filler);
    close(fd);
    near_close(&t);
    near_close(&other);
}

/* A file system of the given size below dir; false where this test may not mount. */
static bool mount_small(const char *dir, const char *options) {
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

Test(cache_near, no_memory_to_hold_a_case) {
    struct vx_err e = {0};
    struct near t;
    struct vx_held *filler = NULL;
    near_open(&t, "nomem");
    vx_auto_free char *small = vx_strf("%s/small", t.dir);
    vx_mkdirs(small, 0755, NULL);
    if (!mount_small(small, "size=1m")) {
        vx_skip("mount", "no right to mount a file system");
    }
    /* stands for a memfd whose pages the kernel refuses */
    vx_auto_free char *path = vx_strf("%s/memory", small);
    vx_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    expect_ok(vx_held_fill(fd, t.cache, &filler, &e));
    expect_ok(vx_held_load(filler, 0, &e)); /* 0.7 MB */
    cr_assert_eq(vx_held_load(filler, 1, &e), VX_E_NOMEM);
    cr_assert(strstr(e.text, "case b"), "%s", e.text);
    cr_assert(vx_held_has(filler, 0) && !vx_held_has(filler, 1));
    vx_cache_read_held(t.cache, filler);
    check_boxes(&t, 20, 6);
    vx_held_drop(filler, 0);
    vx_cache_read_held(t.cache, NULL);
    vx_held_close(filler);
    umount2(small, MNT_DETACH);
    near_close(&t);
}

/* --- copies --- */

static char *folder_of(const char *parent, const char *name) {
    vx_auto_free char *cases = vx_strf("%s/cases", parent);
    size_t len = strlen(name);
    DIR *d = opendir(cases);
    char *found = NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, name, len) == 0 && e->d_name[len] == '~') {
            found = vx_strf("%s/%s", cases, e->d_name);
        }
    }
    if (d) {
        closedir(d);
    }
    return found;
}

static void spoil(const char *folder, const char *shard, off_t at) {
    vx_auto_free char *path = vx_strf("%s/%s", folder, shard);
    char byte;
    vx_auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(pread(fd, &byte, 1, at), 1, "%s", path);
    byte ^= 4;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
}

struct staging {
    struct near near;
    char *root;
    struct vx_stage *stage;
};

static void staging_open(struct staging *s, const char *name) {
    struct vx_err e = {0};
    near_open(&s->near, name);
    s->root = vx_strf("%s/fast", s->near.dir);
    vx_mkdirs(s->root, 0755, NULL);
    expect_ok(vx_stage_open(s->root, "Dataset999_X", s->near.cache, &s->stage, &e));
}

static void staging_close(struct staging *s) {
    vx_stage_close(s->stage);
    free(s->root);
    near_close(&s->near);
}

Test(cache_near, staged_cases_are_read_from_the_copy) {
    struct vx_err e = {0};
    struct staging s;
    staging_open(&s, "stage");
    struct near *t = &s.near;
    expect_ok(vx_cache_read_staged(t->cache, vx_stage_dir(s.stage), &e));
    vx_cache_keep_open(t->cache, 16);
    check_boxes(t, 10, 1); /* nothing is copied yet; the originals are open now */
    cr_assert_not(vx_stage_has(s.stage, 0));
    expect_ok(vx_stage_own(s.stage, &e));
    expect_ok(vx_stage_copy(s.stage, 0, NULL, NULL, &e));
    expect_ok(vx_stage_copy(s.stage, 1, NULL, NULL, &e));
    cr_assert(vx_stage_has(s.stage, 0) && vx_stage_has(s.stage, 1));
    /* damage the originals in place: only the copies can be right */
    for (int i = 0; i < 2; i++) {
        vx_auto_free char *folder = folder_of(t->store, t->f[i].data.info.name);
        for (off_t at = 0; at < 3000; at += 7) {
            spoil(folder, "image/c/0/0/0/0", at);
        }
    }
    check_boxes(t, 30, 2);
    cr_assert_eq(vx_cache_counters(t->cache)->stage_faults, 0);
    /* and back, while it runs */
    expect_ok(vx_cache_read_staged(t->cache, NULL, &e));
    float v[8];
    const int64_t lo[3] = {30, 30, 30}, hi[3] = {32, 32, 32};
    cr_assert_eq(vx_cache_read_box(t->c[0], VX_CACHE_IMAGE, lo, hi, v, NULL, &e), VX_E_CORRUPT);
    staging_close(&s);
}

/* A damaged, a cut and a missing copy: the original is read, and the copy never looked at again. */
Test(cache_near, damaged_copies_fall_back_to_the_store) {
    struct vx_err e = {0};
    struct staging s;
    staging_open(&s, "fallback");
    struct near *t = &s.near;
    expect_ok(vx_stage_own(s.stage, &e));
    for (size_t i = 0; i < 2; i++) {
        expect_ok(vx_stage_copy(s.stage, i, NULL, NULL, &e));
    }
    vx_auto_free char *a = folder_of(vx_stage_dir(s.stage), "a");
    vx_auto_free char *b = folder_of(vx_stage_dir(s.stage), "b");
    vx_auto_free char *cut = vx_strf("%s/seg/c/0/0/0", b);
    vx_auto_free char *gone = vx_strf("%s/image/c/0/0/0/0", b);
    for (off_t at = 0; at < 3000; at += 7) {
        spoil(a, "image/c/0/0/0/0", at);
    }
    cr_assert_eq(truncate(cut, 100), 0);
    cr_assert_eq(unlink(gone), 0);
    cr_assert_not(vx_stage_has(s.stage, 1), "a cut copy counts as none");
    expect_ok(vx_cache_read_staged(t->cache, vx_stage_dir(s.stage), &e));
    check_boxes(t, 40, 1);
    cr_assert_eq(vx_cache_counters(t->cache)->stage_faults, 2);
    /* copying again mends it */
    expect_ok(vx_stage_copy(s.stage, 1, NULL, NULL, &e));
    cr_assert(vx_stage_has(s.stage, 1));
    staging_close(&s);
}

Test(cache_near, a_damaged_original_is_not_staged) {
    struct vx_err e = {0};
    struct staging s;
    staging_open(&s, "badsource");
    expect_ok(vx_stage_own(s.stage, &e));
    vx_auto_free char *folder = folder_of(s.near.store, "a");
    spoil(folder, "image/c/0/0/0/0", 500);
    cr_assert_eq(vx_stage_copy(s.stage, 0, NULL, NULL, &e), VX_E_CORRUPT);
    cr_assert_not(vx_stage_has(s.stage, 0));
    expect_ok(vx_stage_copy(s.stage, 1, NULL, NULL, &e));
    staging_close(&s);
}

Test(cache_near, a_disk_that_fills_while_staging) {
    struct vx_err e = {0};
    struct near t;
    struct vx_stage *stage = NULL;
    near_open(&t, "stagefull");
    vx_auto_free char *small = vx_strf("%s/small", t.dir);
    vx_mkdirs(small, 0755, NULL);
    if (!mount_small(small, "size=600k")) {
        vx_skip("mount", "no right to mount a file system");
    }
    expect_ok(vx_stage_open(small, "Dataset999_X", t.cache, &stage, &e));
    expect_ok(vx_stage_own(stage, &e));
    cr_assert_eq(vx_stage_copy(stage, 1, NULL, NULL, &e), VX_E_FULL, "%s", e.text);
    cr_assert(strstr(e.where, small), "%s", e.where);
    expect_ok(vx_stage_copy(stage, 0, NULL, NULL, &e)); /* nothing of the other was left */
    expect_ok(vx_cache_read_staged(t.cache, vx_stage_dir(stage), &e));
    check_boxes(&t, 20, 1);
    vx_stage_close(stage);
    umount2(small, MNT_DETACH);
    near_close(&t);
}

Test(cache_near, one_process_copies_and_all_use) {
    struct vx_err e = {0};
    struct staging s;
    struct vx_stage *second = NULL;
    staging_open(&s, "shared");
    expect_ok(vx_stage_own(s.stage, &e));
    expect_ok(vx_stage_copy(s.stage, 0, NULL, NULL, &e));
    expect_ok(vx_stage_open(s.root, "Dataset999_X", s.near.cache, &second, &e));
    cr_assert_str_eq(vx_stage_dir(second), vx_stage_dir(s.stage));
    cr_assert_eq(vx_stage_own(second, &e), VX_E_BUSY);
    cr_assert(vx_stage_has(second, 0));
    s.stage = vx_stage_close(s.stage);
    expect_ok(vx_stage_own(second, &e));
    /* neither age nor want removes what somebody uses */
    unsigned removed = 9;
    int64_t later = (int64_t)time(NULL) + 30 * 86400;
    expect_ok(vx_stage_tidy(s.root, (uint64_t)1 << 60, later, &removed, &e));
    cr_assert_eq(removed, 0);
    vx_stage_close(second);
    expect_ok(vx_stage_tidy(s.root, 0, (int64_t)time(NULL) + 6 * 86400, &removed, &e));
    cr_assert_eq(removed, 0);
    expect_ok(vx_stage_tidy(s.root, 0, later, &removed, &e));
    cr_assert_eq(removed, 1);
    /* and whoever comes now makes it anew */
    expect_ok(vx_stage_open(s.root, "Dataset999_X", s.near.cache, &s.stage, &e));
    cr_assert_not(vx_stage_has(s.stage, 0));
    vx_stage_close(s.stage);
    cr_assert_eq(vx_stage_open("/nonexistent", "D", s.near.cache, &s.stage, &e), VX_E_NOT_FOUND);
    s.stage = NULL;
    staging_close(&s);
}

/* Room is made from the set that was unused for longest, and no more than is wanted. */
Test(cache_near, room_is_made_from_the_oldest) {
    struct vx_err e = {0};
    struct near t;
    near_open(&t, "room");
    vx_auto_free char *small = vx_strf("%s/small", t.dir);
    vx_mkdirs(small, 0755, NULL);
    if (!mount_small(small, "size=8m")) {
        vx_skip("mount", "no right to mount a file system");
    }
    static const char *const names[] = {"Dataset001_New", "Dataset002_Old", "Dataset003_Mid"};
    static const int days[] = {1, 3, 2};
    int64_t now = (int64_t)time(NULL);
    for (int i = 0; i < 3; i++) {
        struct vx_stage *stage = NULL;
        expect_ok(vx_stage_open(small, names[i], t.cache, &stage, &e));
        expect_ok(vx_stage_own(stage, &e));
        expect_ok(vx_stage_copy(stage, 1, NULL, NULL, &e));
        vx_auto_free char *mark = vx_strf("%s/.users", vx_stage_dir(stage));
        vx_stage_close(stage);
        struct timespec times[2] = {{now - days[i] * 86400, 0}, {now - days[i] * 86400, 0}};
        cr_assert_eq(utimensat(AT_FDCWD, mark, times, 0), 0);
    }
    unsigned removed = 0;
    struct statvfs fs;
    cr_assert_eq(statvfs(small, &fs), 0);
    uint64_t room = fs.f_bavail * fs.f_frsize;
    expect_ok(vx_stage_tidy(small, room, now, &removed, &e));
    cr_assert_eq(removed, 0, "there was room");
    expect_ok(vx_stage_tidy(small, room + 100000, now, &removed, &e));
    cr_assert_eq(removed, 1);
    for (int i = 0; i < 3; i++) {
        vx_auto_free char *set = vx_strf("%s/voxeld-stage/%s/%s", small, names[i], FIXTURE_KEY);
        cr_assert_eq(vx_path_exists(set), days[i] != 3, "%s", names[i]);
    }
    umount2(small, MNT_DETACH);
    near_close(&t);
}

/* --- pace --- */

struct paced {
    uint64_t bytes;
    unsigned calls, stop_after;
};

static bool on_step(void *ctx, uint64_t bytes, uint64_t ns) {
    struct paced *p = ctx;
    (void)ns;
    p->bytes += bytes;
    return ++p->calls != p->stop_after;
}

Test(cache_near, warming_reads_every_byte_and_stops_when_told) {
    struct vx_err e = {0};
    struct near t;
    near_open(&t, "warm");
    struct paced p = {0};
    uint64_t files = 0, dense = 0;
    vx_cache_case_bytes(t.c[1], &files, &dense);
    cr_assert_geq(dense, 64 * 70 * 80 * 6);
    expect_ok(vx_warm_case(t.cache, 1, on_step, &p, &e));
    cr_assert_eq(p.bytes, files);
    p = (struct paced){.stop_after = 2};
    cr_assert_eq(vx_warm_case(t.cache, 1, on_step, &p, &e), VX_E_CANCELLED);
    cr_assert_eq(p.calls, 2);
    near_close(&t);
}

Test(cache_near, pauses) {
    const uint64_t mb = 1 << 20;
    cr_assert_eq(vx_warm_pause_ns(mb, 100000, true), 0, "10 GB/s comes from memory");
    cr_assert_eq(vx_warm_pause_ns(mb, 10000000, false), 10000000, "100 MB/s from a disk: half");
    cr_assert_eq(vx_warm_pause_ns(mb, 10000000, true), 30000000, "a quarter where readers wait");
    cr_assert_eq(vx_warm_pause_ns(mb, 0, true), 0);
}

/* --- files that change under a reader --- */

/* A case was made again while a reader kept its damaged file open. */
Test(cache_near, a_replaced_file_is_opened_anew) {
    struct vx_err e = {0};
    struct near t;
    near_open(&t, "replaced");
    vx_cache_keep_open(t.cache, 16);
    check_boxes(&t, 10, 1);
    vx_auto_free char *folder = folder_of(t.store, "a");
    vx_auto_free char *copy = vx_strf("cp -a '%s' '%s.new'", folder, folder);
    vx_auto_free char *swap =
        vx_strf("mv '%s' '%s.old' && mv '%s.new' '%s'", folder, folder, folder, folder);
    cr_assert_eq(system(copy), 0);
    for (off_t at = 0; at < 3000; at += 7) {
        spoil(folder, "image/c/0/0/0/0", at);
    }
    float v[8];
    const int64_t lo[3] = {30, 30, 30}, hi[3] = {32, 32, 32};
    cr_assert_eq(vx_cache_read_box(t.c[0], VX_CACHE_IMAGE, lo, hi, v, NULL, &e), VX_E_CORRUPT);
    cr_assert_eq(system(swap), 0);
    check_boxes(&t, 10, 2);
    near_close(&t);
}

/* Something else in the process takes the descriptors: files are closed, reading goes on. */
Test(cache_near, descriptors_run_out) {
    struct vx_err e = {0};
    struct near t;
    near_open(&t, "emfile");
    vx_cache_keep_open(t.cache, 1000);
    check_boxes(&t, 10, 1);
    struct rlimit limit = {64, 64};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (dup(1) >= 0) {
    }
    vx_cache_case_free(t.c[0]); /* gives three back */
    close(dup(1));
    while (dup(1) >= 0) {
    }
    close(63); /* one is left, for case.json */
    expect_ok(vx_cache_case_open(t.cache, "a", &t.c[0], &e));
    check_boxes(&t, 20, 2);
    near_close(&t);
}
