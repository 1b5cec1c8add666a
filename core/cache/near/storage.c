#include "cache/storage.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

enum { MAX_DEPTH = 8 }; /* of volumes upon volumes */

/* Numbers of file systems that linux/magic.h does not have. */
#define LUSTRE_MAGIC 0x0bd00bd0u
#define GPFS_MAGIC   0x47504653u
#define BEEGFS_MAGIC 0x19830326u
#define CIFS_MAGIC   0xff534d42u
#define SMB2_MAGIC   0xfe534d42u
#define WEKA_MAGIC   0x57454b41u
#define PVFS2_MAGIC  0x20030528u
#define GFS2_MAGIC   0x01161970u

static const struct {
    uint32_t type;
    enum vx_storage_kind kind;
    const char *name;
} file_systems[] = {
    {TMPFS_MAGIC, VX_STORAGE_MEMORY, "tmpfs"},
    {RAMFS_MAGIC, VX_STORAGE_MEMORY, "ramfs"},
    {NFS_SUPER_MAGIC, VX_STORAGE_NETWORK, "nfs"},
    {CIFS_MAGIC, VX_STORAGE_NETWORK, "cifs"},
    {SMB2_MAGIC, VX_STORAGE_NETWORK, "smb"},
    {SMB_SUPER_MAGIC, VX_STORAGE_NETWORK, "smb"},
    {CEPH_SUPER_MAGIC, VX_STORAGE_NETWORK, "ceph"},
    {FUSE_SUPER_MAGIC, VX_STORAGE_NETWORK, "fuse"},
    {V9FS_MAGIC, VX_STORAGE_NETWORK, "9p"},
    {AFS_SUPER_MAGIC, VX_STORAGE_NETWORK, "afs"},
    {CODA_SUPER_MAGIC, VX_STORAGE_NETWORK, "coda"},
    {OCFS2_SUPER_MAGIC, VX_STORAGE_NETWORK, "ocfs2"},
    {LUSTRE_MAGIC, VX_STORAGE_NETWORK, "lustre"},
    {GPFS_MAGIC, VX_STORAGE_NETWORK, "gpfs"},
    {BEEGFS_MAGIC, VX_STORAGE_NETWORK, "beegfs"},
    {WEKA_MAGIC, VX_STORAGE_NETWORK, "wekafs"},
    {PVFS2_MAGIC, VX_STORAGE_NETWORK, "pvfs2"},
    {GFS2_MAGIC, VX_STORAGE_NETWORK, "gfs2"},
};

const char *vx_storage_word(enum vx_storage_kind kind) {
    static const char *const words[VX_STORAGE_KINDS] = {"unknown", "memory",     "nvme",
                                                        "ssd",     "rotational", "network"};
    return kind < VX_STORAGE_KINDS ? words[kind] : "unknown";
}

static void set(struct vx_storage *s, enum vx_storage_kind kind, const char *name) {
    s->kind = kind;
    snprintf(s->name, sizeof s->name, "%.63s", name);
}

/* --- block devices --- */

/* A small file's first number; -1 where there is none. */
static int read_number(const char *dir, const char *name) {
    vx_auto_free char *path = vx_strf("%s/%s", dir, name);
    vx_auto_fclose FILE *f = path ? fopen(path, "re") : NULL;
    int n = -1;
    return f && fscanf(f, "%d", &n) == 1 ? n : -1;
}

/* Which of two disks of one volume is waited for. */
static int slowness(enum vx_storage_kind kind) {
    static const int rank[VX_STORAGE_KINDS] = {[VX_STORAGE_NVME] = 1,
                                               [VX_STORAGE_SSD] = 2,
                                               [VX_STORAGE_UNKNOWN] = 3,
                                               [VX_STORAGE_ROTATIONAL] = 4};
    return rank[kind];
}

static void judge_device(const char *root, const char *dir, int depth, struct vx_storage *ret);

/* A volume made of others; false where dir has no parts. */
static bool judge_parts(const char *root, const char *dir, int depth, struct vx_storage *ret) {
    vx_auto_free char *slaves = vx_strf("%s/slaves", dir);
    DIR *d = slaves ? opendir(slaves) : NULL;
    bool any = false;
    for (struct dirent *e; d && (e = readdir(d));) {
        vx_auto_free char *part = vx_strf("%s/%s", slaves, e->d_name);
        struct vx_storage s;
        if (e->d_name[0] == '.' || !part) {
            continue;
        }
        judge_device(root, part, depth + 1, &s);
        if (!any || slowness(s.kind) > slowness(ret->kind)) {
            *ret = s;
        }
        any = true;
    }
    if (d) {
        closedir(d);
    }
    return any;
}

/* dir: the device's folder in /sys, a link or not. */
static void judge_device(const char *root, const char *dir, int depth, struct vx_storage *ret) {
    char real[PATH_MAX];
    set(ret, VX_STORAGE_UNKNOWN, "");
    if (depth > MAX_DEPTH || !realpath(dir, real) || judge_parts(root, real, depth, ret)) {
        return;
    }
    int rotational = read_number(real, "queue/rotational");
    if (rotational < 0) { /* a partition: what its disk says */
        char *slash = strrchr(real, '/');
        *slash = '\0';
        rotational = read_number(real, "queue/rotational");
    }
    const char *slash = strrchr(real, '/'), *name = slash ? slash + 1 : real;
    if (strncmp(name, "nvme", 4) == 0 || strncmp(name, "pmem", 4) == 0) {
        set(ret, VX_STORAGE_NVME, name);
    } else if (rotational == 0) {
        set(ret, VX_STORAGE_SSD, name);
    } else if (rotational == 1 && strncmp(name, "vd", 2) != 0 && strncmp(name, "xvd", 3) != 0) {
        set(ret, VX_STORAGE_ROTATIONAL, name);
    } else { /* virtual disks say that they turn, whatever lies behind them */
        set(ret, VX_STORAGE_UNKNOWN, name);
    }
}

/* --- mounts --- */

struct mount {
    unsigned major, minor;
    char point[PATH_MAX], type[64], source[PATH_MAX], options[PATH_MAX];
};

/* "\040" and the like, in place. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

static bool parse_mount(const char *line, struct mount *m) {
    const char *dash = strstr(line, " - ");
    if (!dash || sscanf(line, "%*d %*d %u:%u %*s %4095s", &m->major, &m->minor, m->point) != 3 ||
        sscanf(dash + 3, "%63s %4095s %4095s", m->type, m->source, m->options) != 3) {
        return false;
    }
    unescape(m->point);
    unescape(m->source);
    unescape(m->options);
    return true;
}

static bool below(const char *path, const char *point) {
    size_t n = strlen(point);
    return strncmp(path, point, n) == 0 &&
           (point[n - 1] == '/' || path[n] == '/' || path[n] == '\0');
}

/* The mount that path lies on; later ones hide earlier ones at the same place. */
static bool find_mount(const char *root, const char *path, struct mount *ret) {
    vx_auto_free char *name = vx_strf("%s/proc/self/mountinfo", root);
    vx_auto_fclose FILE *f = name ? fopen(name, "re") : NULL;
    vx_auto_free char *line = NULL;
    vx_auto_free struct mount *m = malloc(sizeof *m);
    size_t size = 0, best = 0;
    while (f && m && getline(&line, &size, f) > 0) {
        if (parse_mount(line, m) && m->point[0] && below(path, m->point) &&
            strlen(m->point) >= best) {
            best = strlen(m->point);
            *ret = *m;
        }
    }
    return best > 0;
}

static void judge_path(const char *root, unsigned major, unsigned minor, const char *path,
                       int depth, struct vx_storage *ret);

static void judge_mount(const char *root, struct mount *m, int depth, struct vx_storage *ret) {
    static const char upper[] = "upperdir=";
    char *at = strstr(m->options, upper);
    if (strcmp(m->type, "overlay") == 0 && at) {
        at += sizeof upper - 1;
        at[strcspn(at, ",")] = '\0';
        judge_path(root, 0, 0, at, depth + 1, ret);
    } else if (m->major != 0) {
        judge_path(root, m->major, m->minor, m->point, depth + 1, ret);
    } else if (strncmp(m->source, "/dev/", 5) == 0) { /* btrfs and others that hide their device */
        vx_auto_free char *dir =
            vx_strf("%s/sys/class/block/%s", root, strrchr(m->source, '/') + 1);
        judge_device(root, dir ? dir : "", depth + 1, ret);
    } else {
        set(ret, VX_STORAGE_UNKNOWN, m->type);
    }
}

static void judge_path(const char *root, unsigned major, unsigned minor, const char *path,
                       int depth, struct vx_storage *ret) {
    set(ret, VX_STORAGE_UNKNOWN, "");
    if (depth > MAX_DEPTH) {
        return;
    }
    if (major != 0) {
        vx_auto_free char *dir = vx_strf("%s/sys/dev/block/%u:%u", root, major, minor);
        judge_device(root, dir ? dir : "", depth, ret);
        return;
    }
    vx_auto_free struct mount *m = calloc(1, sizeof *m);
    if (m && find_mount(root, path, m)) {
        judge_mount(root, m, depth, ret);
    }
}

void vx_storage_judge(const char *root, uint64_t fs_type, dev_t dev, const char *path,
                      struct vx_storage *ret) {
    for (size_t i = 0; i < VX_COUNTOF(file_systems); i++) {
        if ((uint32_t)fs_type == file_systems[i].type) {
            set(ret, file_systems[i].kind, file_systems[i].name);
            return;
        }
    }
    judge_path(root, major(dev), minor(dev), path, 0, ret);
}

int vx_storage_probe(const char *path, struct vx_storage *ret, struct vx_err *err) {
    char real[PATH_MAX];
    struct statfs fs;
    struct stat st;
    if (!realpath(path, real) || statfs(real, &fs) != 0 || stat(real, &st) != 0) {
        return vx_fail_errno(err, errno, path, "cannot ask what %s lies on", path);
    }
    vx_storage_judge("", (uint64_t)fs.f_type, st.st_dev, real, ret);
    return VX_OK;
}
