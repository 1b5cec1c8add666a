#include "daemon/evidence/disk.h"

#include "base/cgroup.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "8:0" for "8:1": limits are set for whole disks. */
static void whole_disk(const char *root, uint32_t major, uint32_t minor, char *buf, size_t size) {
    char path[512];
    snprintf(buf, size, "%" PRIu32 ":%" PRIu32, major, minor);
    snprintf(path, sizeof path, "%s/sys/dev/block/%s/partition", root, buf);
    if (access(path, F_OK) != 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/sys/dev/block/%s/../dev", root, buf);
    vx_auto_fclose FILE *f = fopen(path, "re");
    char line[32];
    if (f && fgets(line, sizeof line, f)) {
        snprintf(buf, size, "%.*s", (int)strcspn(line, "\n"), line);
    }
}

static bool level_limit(const struct vx_cgroup *g, const char *disk, uint64_t *ret) {
    char text[128];
    if (g->version == 1) {
        return vx_cgroup_field(g, "blkio.throttle.read_bps_device", disk, ret);
    }
    const char *at =
        vx_cgroup_entry(g, "io.max", disk, text, sizeof text) ? strstr(text, "rbps=") : NULL;
    return at && sscanf(at, "rbps=%" SCNu64, ret) == 1; /* or "max" */
}

bool vx_disk_read_limit(const char *root, uint32_t major, uint32_t minor, uint64_t *ret) {
    struct vx_cgroup g;
    char disk[32];
    uint64_t least = UINT64_MAX, here;
    if (!vx_cgroup_find(root, "blkio", &g)) {
        return false;
    }
    whole_disk(root, major, minor, disk, sizeof disk);
    do {
        if (level_limit(&g, disk, &here) && here < least) {
            least = here;
        }
    } while (vx_cgroup_parent(&g));
    if (least == UINT64_MAX) {
        return false;
    }
    *ret = least;
    return true;
}
