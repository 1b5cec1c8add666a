#include "base/cgroup.h"

#include "base/own.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define LINE 4096

/* Copies text where it fits; an empty string otherwise. */
static bool copy(char *to, size_t size, const char *text) {
    size_t n = strlen(text);
    bool fits = n < size;
    memcpy(to, text, fits ? n + 1 : 0);
    if (!fits) {
        to[0] = '\0';
    }
    return fits;
}

static FILE *open_under(const char *root, const char *path) {
    char full[VX_CGROUP_PATH];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
}

/* Is word one of the comma-separated words of list? */
static bool listed(const char *list, size_t len, const char *word) {
    size_t n = strlen(word);
    for (const char *at = list, *end = list + len; at < end;) {
        size_t here = strcspn(at, ",");
        here = here < (size_t)(end - at) ? here : (size_t)(end - at);
        if (here == n && memcmp(at, word, n) == 0) {
            return true;
        }
        at += here + 1;
    }
    return false;
}

/* The group's path as the kernel names it, from lines "ID:CONTROLLERS:PATH". */
static bool find_path(const char *root, const char *controller, int *ret_version, char *ret_path,
                      size_t size) {
    vx_auto_fclose FILE *f = open_under(root, "/proc/self/cgroup");
    char line[LINE];
    *ret_version = 0;
    while (f && *ret_version != 1 && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *list = strchr(line, ':');
        const char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        list++;
        bool unified = strncmp(line, "0::", 3) == 0;
        if (unified || listed(list, (size_t)(path - list), controller)) {
            *ret_version = unified ? 2 : 1;
            copy(ret_path, size, path + 1);
        }
    }
    return *ret_version != 0;
}

/* Mount point of the hierarchy, and which group lies there (a container sees its own as the top).
 */
static bool find_mount(const char *root, const char *controller, int version, char *ret_at,
                       char *ret_group, size_t size) {
    vx_auto_fclose FILE *f = open_under(root, "/proc/self/mountinfo");
    char line[LINE], group[LINE], at[LINE], type[64], super[LINE];
    while (f && fgets(line, sizeof line, f)) {
        const char *rest = strstr(line, " - ");
        if (!rest || strncmp(rest + 3, "cgroup", 6) != 0 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", group, at) != 2 ||
            sscanf(rest, " - %63s %*s %4095s", type, super) != 2) {
            continue;
        }
        bool fits = version == 2
                        ? strcmp(type, "cgroup2") == 0
                        : strcmp(type, "cgroup") == 0 && listed(super, strlen(super), controller);
        if (fits) {
            return copy(ret_at, size, at) && copy(ret_group, size, group);
        }
    }
    return false;
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool vx_cgroup_find(const char *root, const char *controller, struct vx_cgroup *ret) {
    char path[VX_CGROUP_PATH], at[VX_CGROUP_PATH], group[VX_CGROUP_PATH];
    struct vx_cgroup g = {0};
    if (!find_path(root, controller, &g.version, path, sizeof path)) {
        return false;
    }
    if (!find_mount(root, controller, g.version, at, group, sizeof at)) {
        snprintf(at, sizeof at, "/sys/fs/cgroup%s%s", g.version == 1 ? "/" : "",
                 g.version == 1 ? controller : "");
        copy(group, sizeof group, "/");
    }
    /* below the group that is mounted; a path outside of it cannot be seen from here */
    size_t skip = strcmp(group, "/") == 0 ? 0 : strlen(group);
    const char *below = strncmp(path, group, skip) == 0 ? path + skip : "";
    int top = snprintf(g.dir, sizeof g.dir, "%s%s", root, at);
    if (top <= 0 || (size_t)top >= sizeof g.dir || !is_folder(g.dir)) {
        return false;
    }
    g.top = (size_t)top;
    if (strcmp(below, "/") != 0 && !strstr(below, "/..")) {
        copy(g.dir + g.top, sizeof g.dir - g.top, below);
    }
    if (!is_folder(g.dir)) {
        g.dir[g.top] = '\0';
    }
    *ret = g;
    return true;
}

bool vx_cgroup_parent(struct vx_cgroup *g) {
    if (strlen(g->dir) <= g->top) {
        return false;
    }
    char *slash = strrchr(g->dir + g->top, '/');
    g->dir[slash ? (size_t)(slash - g->dir) : g->top] = '\0';
    return true;
}

static FILE *open_file(const struct vx_cgroup *g, const char *file) {
    char path[VX_CGROUP_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", g->dir, file);
    return fopen(path, "re");
}

bool vx_cgroup_line(const struct vx_cgroup *g, const char *file, char *buf, size_t size) {
    vx_auto_fclose FILE *f = open_file(g, file);
    if (!f || !fgets(buf, (int)size, f)) {
        return false;
    }
    buf[strcspn(buf, "\n")] = '\0';
    return true;
}

static bool number(const char *text, uint64_t *ret) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || errno || strchr(text, '-')) {
        return false;
    }
    *ret = v;
    return true;
}

bool vx_cgroup_number(const struct vx_cgroup *g, const char *file, uint64_t *ret) {
    char line[64];
    return vx_cgroup_line(g, file, line, sizeof line) && number(line, ret);
}

bool vx_cgroup_entry(const struct vx_cgroup *g, const char *file, const char *key, char *buf,
                     size_t size) {
    vx_auto_fclose FILE *f = open_file(g, file);
    char line[256];
    size_t n = strlen(key);
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            line[strcspn(line, "\n")] = '\0';
            return copy(buf, size, line + n + 1);
        }
    }
    return false;
}

bool vx_cgroup_field(const struct vx_cgroup *g, const char *file, const char *key, uint64_t *ret) {
    char text[64];
    return vx_cgroup_entry(g, file, key, text, sizeof text) && number(text, ret);
}
