/* Building: one owner, interrupted builds, changed sources, full disks, bad cases. */
#include "cache/store.h"
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int entries_of(const char *store, const char *prefix) {
    vx_auto_free char *cases = vx_strf("%s/cases", store);
    DIR *d = opendir(cases);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(d);
    return n;
}

Test(cache_build, interrupted_build_is_resumed) {
    struct vx_err e = {0};
    char *dir = fixture_dir("resume");
    struct fixture_case f[3] = {fixture_case("a", 1, 20, 21, 22, 1),
                                fixture_case("b", 1, 64, 64, 64, 2),
                                fixture_case("c", 1, 10, 10, 10, 3)};
    struct vx_cache_member m[3];
    for (int i = 0; i < 3; i++) {
        fixture_bind(&f[i]);
        m[i] = fixture_member(&f[i]);
    }
    pid_t child = fork();
    if (child == 0) {
        struct vx_cache_builder *b = NULL;
        if (vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, NULL) != VX_OK ||
            vx_cache_write_case(vx_cache_build_dir(b), &f[0].data, NULL, NULL) != VX_OK) {
            _exit(1);
        }
        for (;;) {
            vx_cache_write_case(vx_cache_build_dir(b), &f[1].data, NULL, NULL);
        }
    }
    vx_auto_free char *store = vx_cache_store_dir(dir, FIXTURE_KEY);
    vx_auto_free char *cases = vx_strf("%s/cases", store);
    while (!vx_path_exists(cases) || entries_of(store, "a~") == 0) {
        cr_assert_eq(waitpid(child, NULL, WNOHANG), 0);
        usleep(200);
    }
    usleep(3000);
    struct vx_cache *cache = NULL;
    struct vx_cache_builder *b = NULL;
    cr_assert_eq(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e), VX_E_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %d", (int)child);
    cr_assert(strstr(e.text, pid), "%s", e.text);
    cr_assert_eq(vx_cache_open(store, &cache, &e), VX_E_STATE);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e));
    cr_assert_eq(entries_of(store, ".tmp-"), 0);
    cr_assert(vx_cache_build_has_case(b, &m[0]));
    cr_assert_not(vx_cache_build_has_case(b, &m[2]));
    cr_assert_eq(vx_cache_build_commit(b, m, 3, &e), VX_E_STATE);
    cr_assert_str_eq(e.reason, "case_missing");
    for (int i = 1; i < 3; i++) {
        if (!vx_cache_build_has_case(b, &m[i])) {
            expect_ok(vx_cache_write_case(vx_cache_build_dir(b), &f[i].data, NULL, &e));
        }
    }
    cr_assert_eq(vx_cache_open(store, &cache, &e), VX_E_STATE);
    expect_ok(vx_cache_build_commit(b, m, 3, &e));
    expect_ok(vx_cache_open(store, &cache, &e));
    for (int i = 0; i < 3; i++) {
        expect_ok(vx_cache_verify_case(cache, m[i].name, &e));
        fixture_release(&f[i]);
    }
    vx_cache_free(cache);
    vx_cache_build_close(b);
    vx_remove_tree(dir, NULL);
    free(dir);
}

/* A truncated file of a case makes the builder write it again. */
Test(cache_build, damaged_case_is_not_kept) {
    struct vx_err e = {0};
    char *dir = fixture_dir("notkept");
    struct fixture_case f = fixture_case("a", 1, 20, 21, 22, 1);
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache_member m = fixture_member(&f);
    struct vx_cache_builder *b = NULL;
    expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e));
    cr_assert(vx_cache_build_has_case(b, &m));
    vx_auto_free char *cut = vx_strf("truncate -s 100 %s/cases/a~*/seg/c/0/0/0", store);
    cr_assert_eq(system(cut), 0);
    cr_assert_not(vx_cache_build_has_case(b, &m));
    expect_ok(vx_cache_write_case(store, &f.data, NULL, &e));
    cr_assert(vx_cache_build_has_case(b, &m));
    vx_cache_build_close(b);
    fixture_release(&f);
    fixture_remove(dir, store);
}

/* A changed source makes a new folder; who still holds the old one gets an error, not a mixture. */
Test(cache_build, changed_source) {
    struct vx_err e = {0};
    char *dir = fixture_dir("changed");
    struct fixture_case f = fixture_case("a", 1, 20, 21, 22, 1);
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache *old = NULL, *new = NULL;
    struct vx_cache_case *c = NULL, *c2 = NULL;
    expect_ok(vx_cache_open(store, &old, &e));
    expect_ok(vx_cache_case_open(old, "a", &c, &e));
    f.source.mtime_ns++;
    f.image[0] = 4711.0f;
    struct vx_cache_member m = fixture_member(&f);
    struct vx_cache_builder *b = NULL;
    expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e));
    cr_assert_not(vx_cache_build_has_case(b, &m));
    expect_ok(vx_cache_write_case(store, &f.data, NULL, &e));
    float v = -1;
    int64_t lo[3] = {0, 0, 0}, hi[3] = {1, 1, 1};
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, &v, NULL, &e));
    cr_assert_eq(v, 0.0f, "before the commit the old state is whole");
    expect_ok(vx_cache_build_commit(b, &m, 1, &e));
    cr_assert_eq(entries_of(store, "a~"), 1);
    cr_assert_eq(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, &v, NULL, &e), VX_E_NOT_FOUND);
    expect_ok(vx_cache_open(store, &new, &e));
    expect_ok(vx_cache_case_open(new, "a", &c2, &e));
    expect_ok(vx_cache_read_box(c2, VX_CACHE_IMAGE, lo, hi, &v, NULL, &e));
    cr_assert_eq(v, 4711.0f);
    vx_cache_case_free(c);
    vx_cache_case_free(c2);
    vx_cache_free(old);
    vx_cache_free(new);
    vx_cache_build_close(b);
    fixture_release(&f);
    fixture_remove(dir, store);
}

/* On a file system of 2 MB (a tmpfs where the test may mount one, a file size limit elsewhere). */
Test(cache_build, full_disk_leaves_nothing_behind) {
    struct vx_err e = {0};
    char *dir = fixture_dir("full");
    bool mounted = unshare(CLONE_NEWNS) == 0 &&
                   mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   mount("tmpfs", dir, "tmpfs", 0, "size=2m") == 0;
    struct fixture_case f = fixture_case("big", 1, 96, 96, 96, 1),
                        g = fixture_case("small", 1, 9, 9, 9, 1);
    fixture_bind(&f);
    fixture_bind(&g);
    struct vx_cache_builder *b = NULL;
    expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e));
    const char *store = vx_cache_build_dir(b);
    if (!mounted) {
        struct rlimit limit = {1 << 20, 1 << 20};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    cr_assert_eq(vx_cache_write_case(store, &f.data, NULL, &e), mounted ? VX_E_FULL : VX_E_IO, "%s",
                 e.text);
    cr_assert(strstr(e.where, "/cases/"), "%s", e.where);
    cr_assert_eq(entries_of(store, "big~") + entries_of(store, ".tmp-"), 0);
    struct vx_cache_member m[2] = {fixture_member(&g), fixture_member(&f)};
    cr_assert_not(vx_cache_build_has_case(b, &m[1]));
    expect_ok(vx_cache_write_case(store, &g.data, NULL, &e));
    cr_assert_eq(vx_cache_build_commit(b, m, 2, &e), VX_E_STATE);
    expect_ok(vx_cache_build_commit(b, m, 1, &e));
    if (mounted) {
        cr_assert_eq(vx_cache_check_space(dir, 3 << 20, &e), VX_E_FULL);
        umount(dir);
    }
    vx_cache_build_close(b);
    fixture_release(&f);
    fixture_release(&g);
    fixture_remove(dir, NULL);
}

Test(cache_build, free_space) {
    struct vx_err e = {0};
    expect_ok(vx_cache_check_space("/tmp", 1, &e));
    cr_assert_eq(vx_cache_check_space("/tmp", (uint64_t)1 << 60, &e), VX_E_FULL);
    cr_assert_str_eq(e.where, "/tmp");
    cr_assert_eq(vx_cache_check_space("/nonexistent", 1, &e), VX_E_NOT_FOUND);
}

static void refused(struct fixture_case *f, const char *store, const char *where) {
    struct vx_err e = {0};
    cr_assert_eq(vx_cache_write_case(store, &f->data, NULL, &e), VX_E_INVALID, "%s", where);
    cr_assert_str_eq(e.where, where);
}

Test(cache_build, bad_cases_are_refused_by_field) {
    struct vx_err e = {0};
    char *dir = fixture_dir("bad");
    struct fixture_case good = fixture_case("a", 1, 5, 6, 7, 1), f;
    char *store = fixture_store(dir, &good, 1);
    f = good, fixture_bind(&f), f.data.info.n_channels = 0, refused(&f, store, "/channels");
    f = good, fixture_bind(&f), f.data.info.shape[1] = 70000, refused(&f, store, "/shape");
    f = good, fixture_bind(&f), f.data.info.crop_hi[2] = 100, refused(&f, store, "/crop_hi");
    f = good, fixture_bind(&f), f.data.info.shape_cropped[0] = 1,
    refused(&f, store, "/shape_cropped");
    f = good, fixture_bind(&f), f.data.info.spacing[0] = 0, refused(&f, store, "/spacing");
    f = good, fixture_bind(&f), f.data.seg = NULL, refused(&f, store, "/has_seg");
    f = good, fixture_bind(&f), f.classes[0].n_voxels = 0, refused(&f, store, "/classes");
    f = good, fixture_bind(&f), f.data.locations = NULL, refused(&f, store, "/locations");
    good.locations[0][2] = 7;
    refused(&good, store, "/locations");
    good.locations[0][2] = 0;
    const char *const names[] = {"", "a/b", "..", ".hidden", "a\nb"};
    for (size_t i = 0; i < VX_COUNTOF(names); i++) {
        f = good, fixture_bind(&f);
        snprintf(f.data.info.name, sizeof f.data.info.name, "%s", names[i]);
        refused(&f, store, "");
    }
    snprintf(f.data.info.name, sizeof f.data.info.name, "\xff");
    cr_assert_eq(vx_cache_write_case(store, &f.data, NULL, &e), VX_E_INVALID);
    cr_assert_eq(entries_of(store, ".tmp-"), 0);
    fixture_release(&good);
    fixture_remove(dir, store);
}

/* --- one case made again --- */

struct remaking {
    struct fixture_case *f;
    int64_t patch[3]; /* the hint it was asked to write with */
    int calls;
};

static int remake(void *ctx, const char *dir, const int64_t patch[3], struct vx_err *err) {
    struct remaking *r = ctx;
    r->calls++;
    memcpy(r->patch, patch, sizeof r->patch);
    memcpy(r->f->data.patch, patch, sizeof r->patch);
    return vx_cache_write_case(dir, &r->f->data, NULL, err);
}

static char *shard_of(const char *store, const char *name) {
    vx_auto_free char *cases = vx_strf("%s/cases", store);
    size_t len = strlen(name);
    DIR *d = opendir(cases);
    char *path = NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, name, len) == 0 && e->d_name[len] == '~') {
            path = vx_strf("%s/%s/image/c/0/0/0/0", cases, e->d_name);
        }
    }
    closedir(d);
    return path;
}

static void flip_bit(const char *path, off_t at) {
    char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 8;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static ino_t inode_of(const char *path) {
    struct stat st;
    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return st.st_ino;
}

struct repairing {
    char *dir, *store, *shards[2], *before;
    size_t len;
    struct fixture_case f[2];
    struct vx_cache_member m[2];
    struct vx_cache_builder *b;
};

static void repairing_open(struct repairing *t, const char *name) {
    struct vx_err e = {0};
    t->dir = fixture_dir(name);
    t->f[0] = fixture_case("a", 1, 20, 21, 22, 1);
    t->f[1] = fixture_case("b", 1, 40, 50, 60, 2);
    t->store = fixture_store(t->dir, t->f, 2);
    for (int i = 0; i < 2; i++) {
        t->m[i] = fixture_member(&t->f[i]);
        t->shards[i] = shard_of(t->store, t->m[i].name);
    }
    expect_ok(vx_read_file(t->shards[1], 1 << 24, &t->before, &t->len, &e));
    expect_ok(vx_cache_build_open(t->dir, FIXTURE_KEY, "{}", &t->b, &e));
}

static void repairing_close(struct repairing *t) {
    vx_cache_build_close(t->b);
    for (int i = 0; i < 2; i++) {
        free(t->shards[i]);
        fixture_release(&t->f[i]);
    }
    free(t->before);
    fixture_remove(t->dir, t->store);
}

/* A reader that had the case open keeps the old files; who opens it anew reads the old bytes. */
Test(cache_build, one_damaged_case_is_made_again) {
    struct vx_err e = {0};
    struct repairing t;
    repairing_open(&t, "repair");
    struct remaking r = {.f = &t.f[1]};
    bool made = true;
    expect_ok(vx_cache_build_repair(t.b, &t.m[1], remake, &r, &made, &e));
    cr_assert(!made && r.calls == 0, "nothing was damaged");
    ino_t others = inode_of(t.shards[0]), damaged = inode_of(t.shards[1]);
    flip_bit(t.shards[1], 1000);
    expect_ok(vx_cache_build_repair(t.b, &t.m[1], remake, &r, &made, &e));
    cr_assert(made && r.calls == 1);
    cr_assert_eq(r.patch[0], 48, "the chunks are shaped for the patch of the first build");
    cr_assert_eq(inode_of(t.shards[0]), others, "another case was touched");
    cr_assert_neq(inode_of(t.shards[1]), damaged);
    vx_auto_free char *after = NULL;
    size_t len = 0;
    expect_ok(vx_read_file(t.shards[1], 1 << 24, &after, &len, &e));
    cr_assert(len == t.len && memcmp(after, t.before, len) == 0, "other bytes than before");
    cr_assert_eq(entries_of(t.store, ".tmp-"), 0);
    vx_auto_cache struct vx_cache *cache = NULL;
    expect_ok(vx_cache_open(t.store, &cache, &e));
    expect_ok(vx_cache_verify_case(cache, "b", &e));
    repairing_close(&t);
}

/* Its folder may be gone altogether, and case.json, which says for which patch it was written. */
Test(cache_build, a_lost_case_is_made_again) {
    struct vx_err e = {0};
    struct repairing t;
    repairing_open(&t, "lost");
    struct remaking r = {.f = &t.f[1]};
    vx_auto_free char *remove = vx_strf("rm -r %s/cases/b~*", t.store);
    cr_assert_eq(system(remove), 0);
    bool made = false;
    expect_ok(vx_cache_build_repair(t.b, &t.m[1], remake, &r, &made, &e));
    cr_assert(made);
    vx_auto_free char *after = NULL;
    size_t len = 0;
    expect_ok(vx_read_file(t.shards[1], 1 << 24, &after, &len, &e));
    cr_assert(len == t.len && memcmp(after, t.before, len) == 0, "other bytes than before");
    repairing_close(&t);
}

Test(cache_build, repairs_that_would_change_the_set_are_refused) {
    struct vx_err e = {0};
    struct repairing t;
    repairing_open(&t, "refused");
    struct remaking r = {.f = &t.f[1]};
    bool made = false;
    flip_bit(t.shards[1], 1000);
    t.f[1].image[40 * 50 * 60 - 1] += 1; /* what is made is not what was there */
    cr_assert_eq(vx_cache_build_repair(t.b, &t.m[1], remake, &r, &made, &e), VX_E_STATE, "%d %s %s",
                 made, e.reason, e.text);
    cr_assert_str_eq(e.reason, "repair_differs");
    vx_auto_free char *after = NULL;
    size_t len = 0;
    expect_ok(vx_read_file(t.shards[1], 1 << 24, &after, &len, &e));
    after[1000] ^= 8;
    cr_assert(len == t.len && memcmp(after, t.before, len) == 0, "the damaged case lies as it lay");
    cr_assert_eq(entries_of(t.store, ".tmp-"), 0);
    t.f[1].source.mtime_ns++;
    cr_assert_eq(vx_cache_build_repair(t.b, &t.m[1], remake, &r, &made, &e), VX_E_STATE);
    cr_assert_str_eq(e.reason, "source_changed");
    struct vx_cache_member unknown = t.m[1];
    unknown.name = "c";
    cr_assert_eq(vx_cache_build_repair(t.b, &unknown, remake, &r, &made, &e), VX_E_NOT_FOUND);
    cr_assert_str_eq(e.reason, "unknown_case");
    repairing_close(&t);
}

/* Somebody copied another plan's store to where this one's belongs: its cases are not kept. */
Test(cache_build, cases_of_another_plan_are_made_again) {
    static const char other[] = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    struct vx_err e = {0};
    char *dir = fixture_dir("otherplan");
    struct fixture_case f = fixture_case("a", 1, 20, 21, 22, 1);
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache_member m = fixture_member(&f);
    struct vx_cache_builder *b = NULL;
    vx_auto_free char *copy =
        vx_strf("cp -a '%s/voxeld/" FIXTURE_KEY "' '%s/voxeld/%s'", dir, dir, other);
    cr_assert_eq(system(copy), 0);
    expect_ok(vx_cache_build_open(dir, other, "{}", &b, &e));
    cr_assert_not(vx_cache_build_has_case(b, &m));
    cr_assert_eq(vx_cache_build_commit(b, &m, 1, &e), VX_E_STATE);
    expect_ok(vx_cache_write_case(vx_cache_build_dir(b), &f.data, NULL, &e));
    expect_ok(vx_cache_build_commit(b, &m, 1, &e));
    vx_auto_cache struct vx_cache *cache = NULL;
    expect_ok(vx_cache_open(vx_cache_build_dir(b), &cache, &e));
    cr_assert_str_eq(vx_cache_key_hex(cache), other);
    vx_cache_build_close(b);
    fixture_release(&f);
    fixture_remove(dir, store);
}

/* What the manifest does not list is not adopted: a case.json that was changed, an index that was.
 */
Test(cache_build, changed_cases_are_not_adopted) {
    struct vx_err e = {0};
    char *dir = fixture_dir("adopt");
    struct fixture_case f = fixture_case("a", 1, 20, 21, 22, 1);
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache_member m = fixture_member(&f);
    vx_auto_free char *edit = vx_strf("for f in %s/cases/a~*/case.json; do echo >>$f; done", store);
    vx_auto_free char *shard = shard_of(store, "a");
    for (int i = 0; i < 2; i++) {
        struct vx_cache_builder *b = NULL;
        struct stat st;
        cr_assert_eq(stat(shard, &st), 0);
        if (i == 0) {
            cr_assert_eq(system(edit), 0);
        } else {
            flip_bit(shard, st.st_size - 10);
        }
        expect_ok(vx_cache_build_open(dir, FIXTURE_KEY, "{}", &b, &e));
        cr_assert_not(vx_cache_build_has_case(b, &m), "%d", i);
        expect_ok(vx_cache_write_case(store, &f.data, NULL, &e));
        cr_assert(vx_cache_build_has_case(b, &m), "%d", i);
        expect_ok(vx_cache_build_commit(b, &m, 1, &e));
        vx_cache_build_close(b);
    }
    fixture_release(&f);
    fixture_remove(dir, store);
}

/* What was not synced is not whole. */
Test(cache_build, a_folder_that_cannot_be_listed_is_not_called_synced) {
    struct vx_err e = {0};
    char *dir = fixture_dir("unsynced");
    vx_auto_free char *missing = vx_strf("%s/case", dir);
    cr_assert_eq(vx_cache_sync_tree(missing, false, &e), VX_E_NOT_FOUND, "%s", e.text);
    cr_assert(strstr(e.text, missing), "%s", e.text);
    expect_ok(vx_mkdirs(missing, 0755, &e));
    expect_ok(vx_cache_sync_tree(missing, false, &e));
    vx_remove_tree(dir, NULL);
    free(dir);
}
