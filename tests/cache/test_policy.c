/* Which way of reading is chosen, and what storage a path is judged to lie on. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "cache/policy.h"
#include "cache/storage.h"

#include <criterion/criterion.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define GB 1000000000ull

/* --- policy --- */

static struct vx_cache_facts facts(uint64_t store_gb, enum vx_storage_kind storage) {
    return (struct vx_cache_facts){.n_files = 600,
                                   .store_bytes = store_gb * GB,
                                   .dense_bytes = 4 * store_gb * GB,
                                   .resident_bytes = 4 * store_gb * GB,
                                   .storage = storage,
                                   .memory_available = 64 * GB,
                                   .memory_share = 32 * GB,
                                   .files_max = 914};
}

static void expect_choice(enum vx_reading asked, const struct vx_cache_facts *f,
                          enum vx_reading wanted, const char *words) {
    struct vx_cache_choice c = {0};
    vx_cache_choose(asked, f, &c);
    cr_assert_eq(c.mode, wanted, "%s instead of %s: %s", vx_reading_word(c.mode),
                 vx_reading_word(wanted), c.reason);
    cr_assert(strstr(c.reason, words), "no \"%s\" in: %s", words, c.reason);
}

Test(cache_policy, automatic_choices) {
    struct vx_cache_facts f = facts(1, VX_STORAGE_NVME);
    expect_choice(VX_READ_AUTO, &f, VX_READ_MEMORY, "4000 MB decoded");
    f = facts(5, VX_STORAGE_NVME); /* 20 GB decoded of 64 free: more than a quarter */
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "nvme");
    f = facts(5, VX_STORAGE_NETWORK);
    expect_choice(VX_READ_AUTO, &f, VX_READ_WARM, "network");
    f = facts(5, VX_STORAGE_ROTATIONAL);
    expect_choice(VX_READ_AUTO, &f, VX_READ_WARM, "rotational");
    f = facts(5, VX_STORAGE_UNKNOWN);
    expect_choice(VX_READ_AUTO, &f, VX_READ_WARM, "unknown");
    f = facts(200, VX_STORAGE_NETWORK);
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "sharded_epochs");
    f.stage = true;
    f.stage_storage = VX_STORAGE_NVME;
    f.stage_free = 500 * GB;
    expect_choice(VX_READ_AUTO, &f, VX_READ_STAGE, "network storage fits the nvme folder");
    f.stage_free = 200 * GB; /* nothing would be left */
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "sharded_epochs");
    f.stage_free = 500 * GB;
    f.stage_storage = VX_STORAGE_ROTATIONAL; /* no faster */
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "sharded_epochs");
    f.stage_storage = VX_STORAGE_SSD;
    f.storage = VX_STORAGE_SSD; /* nothing to gain */
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "ssd storage is fast enough");
}

Test(cache_policy, memory_within_the_share) {
    struct vx_cache_facts f = facts(3, VX_STORAGE_NVME);
    f.memory_share = 10 * GB; /* RLIMIT_DATA, say */
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "nvme");
    expect_choice(VX_READ_MEMORY, &f, VX_READ_KEEP, "asked for memory, but 12 GB decoded");
    f.memory_share = 12 * GB;
    expect_choice(VX_READ_MEMORY, &f, VX_READ_MEMORY, "asked for");
    f.windows = true;
    f.resident_bytes = 11 * GB;
    expect_choice(VX_READ_AUTO, &f, VX_READ_MEMORY, "two windows");
    f.resident_bytes = 13 * GB;
    expect_choice(VX_READ_AUTO, &f, VX_READ_KEEP, "nvme");
    f = (struct vx_cache_facts){.storage = VX_STORAGE_SSD}; /* nothing is known */
    expect_choice(VX_READ_AUTO, &f, VX_READ_OPEN, "ssd");
    expect_choice(VX_READ_MEMORY, &f, VX_READ_OPEN, "asked for memory");
}

Test(cache_policy, what_is_asked_for_is_followed_where_it_can_be) {
    struct vx_cache_facts f = facts(5, VX_STORAGE_NETWORK);
    expect_choice(VX_READ_OPEN, &f, VX_READ_OPEN, "asked for");
    expect_choice(VX_READ_KEEP, &f, VX_READ_KEEP, "asked for");
    f.files_max = 16;
    expect_choice(VX_READ_KEEP, &f, VX_READ_KEEP, "16 of 600 files");
    f.files_max = 0;
    expect_choice(VX_READ_KEEP, &f, VX_READ_OPEN, "leaves none");
    f = facts(5, VX_STORAGE_NVME);
    expect_choice(VX_READ_WARM, &f, VX_READ_WARM, "asked for");
    f = facts(40, VX_STORAGE_NVME);
    expect_choice(VX_READ_WARM, &f, VX_READ_KEEP, "more than half of the 64 GB");
    expect_choice(VX_READ_STAGE, &f, VX_READ_KEEP, "no folder");
    f.stage = true;
    f.stage_free = 30 * GB;
    expect_choice(VX_READ_STAGE, &f, VX_READ_KEEP, "the folder has 30 GB free");
    f.stage_free = 60 * GB;
    f.stage_storage = VX_STORAGE_ROTATIONAL; /* people know what they do */
    expect_choice(VX_READ_STAGE, &f, VX_READ_STAGE, "asked for");
}

Test(cache_policy, words) {
    for (int i = 0; i < VX_READINGS; i++) {
        cr_assert_eq(vx_reading_of_word(vx_reading_word((enum vx_reading)i)), i);
    }
    cr_assert_eq(vx_reading_of_word("fast"), -1);
}

/* --- storage --- */

static void put(const char *root, const char *path, const char *text) {
    vx_auto_free char *file = vx_strf("%s/%s", root, path);
    vx_auto_free char *dir = strdup(file);
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(file, text, strlen(text), 0644, NULL), VX_OK);
}

static void link_to(const char *root, const char *target, const char *path) {
    vx_auto_free char *from = vx_strf("%s/%s", root, path);
    vx_auto_free char *to = vx_strf("%s/%s", root, target);
    vx_auto_free char *dir = strdup(from);
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    cr_assert_eq(vx_mkdirs(to, 0755, NULL), VX_OK);
    cr_assert_eq(symlink(to, from), 0);
}

/* A disk of the fixture with one partition, under its numbers and its names. */
static void disk(const char *root, const char *name, const char *part, int major_, int minor_,
                 const char *rotational) {
    char path[512], where[512];
    snprintf(path, sizeof path, "sys/devices/%s/queue/rotational", name);
    put(root, path, rotational);
    snprintf(where, sizeof where, "sys/devices/%s", name);
    snprintf(path, sizeof path, "sys/class/block/%s", name);
    link_to(root, where, path);
    snprintf(where, sizeof where, "sys/devices/%s/%s", name, part);
    snprintf(path, sizeof path, "sys/class/block/%s", part);
    link_to(root, where, path);
    snprintf(path, sizeof path, "sys/dev/block/%d:%d", major_, minor_);
    link_to(root, where, path);
}

static char *fixture(void) {
    const char *tmp = getenv("TMPDIR");
    char *root = vx_strf("%s/vx-storage-%d", tmp ? tmp : "/tmp", (int)getpid());
    vx_remove_tree(root, NULL);
    disk(root, "sda", "sda1", 8, 1, "1\n");
    disk(root, "sdb", "sdb2", 8, 18, "0\n");
    disk(root, "nvme0n1", "nvme0n1p1", 259, 1, "0\n");
    disk(root, "vda", "vda1", 253, 1, "1\n");
    /* a volume over both SCSI disks, and one over the NVMe disk */
    put(root, "sys/devices/dm-0/queue/rotational", "0\n");
    link_to(root, "sys/devices/sda/sda1", "sys/devices/dm-0/slaves/sda1");
    link_to(root, "sys/devices/sdb/sdb2", "sys/devices/dm-0/slaves/sdb2");
    link_to(root, "sys/devices/dm-0", "sys/dev/block/252:0");
    put(root, "sys/devices/md1/queue/rotational", "1\n");
    link_to(root, "sys/devices/nvme0n1/nvme0n1p1", "sys/devices/md1/slaves/nvme0n1p1");
    link_to(root, "sys/devices/md1", "sys/dev/block/9:1");
    put(root, "proc/self/mountinfo",
        "21 1 0:30 / / rw - overlay overlay "
        "rw,lowerdir=/low,upperdir=/mnt/big\\040disk/up,workdir=/w\n"
        "22 21 8:18 / /mnt/big\\040disk rw,relatime shared:1 - ext4 /dev/sdb2 rw\n"
        "23 21 0:40 /sub /data rw - btrfs /dev/nvme0n1p1 rw,subvol=/sub\n"
        "24 21 0:41 / /pool rw - zfs tank/data rw\n"
        "25 21 0:42 / /data/deep rw - btrfs /dev/sda1 rw\n");
    return root;
}

static void expect_kind(const char *root, uint64_t type, dev_t dev, const char *path,
                        enum vx_storage_kind kind, const char *name) {
    struct vx_storage s;
    vx_storage_judge(root, type, dev, path, &s);
    cr_assert_eq(s.kind, kind, "%s is said to be %s (%s)", path, vx_storage_word(s.kind), s.name);
    cr_assert_str_eq(s.name, name);
}

Test(cache_policy, storage_of_fixtures) {
    vx_auto_free char *root = fixture();
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(8, 1), "/x", VX_STORAGE_ROTATIONAL, "sda");
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(8, 18), "/x", VX_STORAGE_SSD, "sdb");
    expect_kind(root, XFS_SUPER_MAGIC, makedev(259, 1), "/x", VX_STORAGE_NVME, "nvme0n1");
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(253, 1), "/x", VX_STORAGE_UNKNOWN, "vda");
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(252, 0), "/x", VX_STORAGE_ROTATIONAL, "sda");
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(9, 1), "/x", VX_STORAGE_NVME, "nvme0n1");
    expect_kind(root, EXT4_SUPER_MAGIC, makedev(77, 7), "/x", VX_STORAGE_UNKNOWN, "");
    expect_kind(root, NFS_SUPER_MAGIC, makedev(0, 55), "/net", VX_STORAGE_NETWORK, "nfs");
    expect_kind(root, 0x0bd00bd0, makedev(0, 56), "/lustre", VX_STORAGE_NETWORK, "lustre");
    expect_kind(root, FUSE_SUPER_MAGIC, makedev(0, 57), "/fuse", VX_STORAGE_NETWORK, "fuse");
    expect_kind(root, TMPFS_MAGIC, makedev(0, 58), "/dev/shm", VX_STORAGE_MEMORY, "tmpfs");
    expect_kind(root, OVERLAYFS_SUPER_MAGIC, makedev(0, 30), "/home/x", VX_STORAGE_SSD, "sdb");
    expect_kind(root, BTRFS_SUPER_MAGIC, makedev(0, 44), "/data/set", VX_STORAGE_NVME, "nvme0n1");
    expect_kind(root, BTRFS_SUPER_MAGIC, makedev(0, 45), "/data/deep/set", VX_STORAGE_ROTATIONAL,
                "sda");
    expect_kind(root, BTRFS_SUPER_MAGIC, makedev(0, 44), "/database", VX_STORAGE_SSD, "sdb");
    expect_kind(root, 0x2fc12fc1, makedev(0, 41), "/pool/a", VX_STORAGE_UNKNOWN, "zfs");
    expect_kind("/nowhere", BTRFS_SUPER_MAGIC, makedev(0, 44), "/data", VX_STORAGE_UNKNOWN, "");
    vx_remove_tree(root, NULL);
}

Test(cache_policy, storage_of_this_machine) {
    struct vx_storage s;
    struct vx_err e = {0};
    cr_assert_eq(vx_storage_probe("/proc/self", &s, &e), VX_OK, "%s", e.text);
    cr_assert_eq(vx_storage_probe("/dev/shm", &s, &e), VX_OK, "%s", e.text);
    cr_assert_eq(s.kind, VX_STORAGE_MEMORY);
    cr_assert_eq(vx_storage_probe("/nonexistent/x", &s, &e), VX_E_NOT_FOUND);
    cr_assert_str_eq(e.where, "/nonexistent/x");
}
