#include "daemon/evidence/pressure.h"

#include "base/cgroup.h"

#include <stdio.h>
#include <string.h>

static bool read_file(const char *path, struct vx_pressure *ret) {
    FILE *f = fopen(path, "re");
    char line[256];
    struct vx_pressure p = {0, 0};
    bool some = false;
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "total=");
        unsigned long long us;
        if (!at || sscanf(at, "total=%llu", &us) != 1) {
            continue;
        }
        if (strncmp(line, "some ", 5) == 0) {
            p.some_us = us;
            some = true;
        } else if (strncmp(line, "full ", 5) == 0) {
            p.full_us = us;
        }
    }
    if (f) {
        fclose(f);
    }
    if (some) {
        *ret = p;
    }
    return some;
}

bool vx_pressure_read(const char *root, const char *resource, struct vx_pressure *ret) {
    struct vx_cgroup g;
    char path[VX_CGROUP_PATH + 64];
    /* only a group of one's own says more than the machine */
    if (vx_cgroup_find(root, resource, &g) && g.version == 2 && strlen(g.dir) > g.top) {
        snprintf(path, sizeof path, "%s/%s.pressure", g.dir, resource);
        if (read_file(path, ret)) {
            return true;
        }
    }
    snprintf(path, sizeof path, "%s/proc/pressure/%s", root, resource);
    return read_file(path, ret);
}
