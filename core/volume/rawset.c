#include "volume/rawset.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define CHANNEL_DIGITS 4 /* "_0000" */

void vx_rawset_release(struct vx_rawset *set) {
    for (size_t i = 0; i < set->n_cases; i++) {
        struct vx_rawset_case *c = &set->cases[i];
        for (int k = 0; c->images && k < set->n_channels; k++) {
            free(c->images[k]);
        }
        free(c->images);
        free(c->label);
        free(c->name);
    }
    free(set->cases);
    free(set->problems);
    memset(set, 0, sizeof *set);
}

static int no_memory(struct vx_err *err) {
    return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the list of cases");
}

static int problem(struct vx_rawset *set, struct vx_err *err, const char *code, const char *name,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static int problem(struct vx_rawset *set, struct vx_err *err, const char *code, const char *name,
                   const char *fmt, ...) {
    void *grown = realloc(set->problems, (set->n_problems + 1) * sizeof *set->problems);
    if (!grown) {
        return no_memory(err);
    }
    set->problems = grown;
    struct vx_rawset_problem *p = &set->problems[set->n_problems++];
    memset(p, 0, sizeof *p);
    snprintf(p->code, sizeof p->code, "%s", code);
    snprintf(p->name, sizeof p->name, "%s", name);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->text, sizeof p->text, fmt, ap);
    va_end(ap);
    return VX_OK;
}

static int by_problem(const void *a, const void *b) {
    const struct vx_rawset_problem *p = a, *q = b;
    int d = strcmp(p->name, q->name);
    d = d ? d : strcmp(p->code, q->code);
    return d ? d : strcmp(p->text, q->text);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* File names of one folder. */
struct names {
    char **list;
    size_t n;
};

static void names_release(struct names *names) {
    for (size_t i = 0; i < names->n; i++) {
        free(names->list[i]);
    }
    free(names->list);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Names in dir with that ending, sorted, without the ending; hidden files are left out. */
static int read_names(const char *dir, const char *ending, struct names *ret, struct vx_err *err) {
    DIR *d = opendir(dir);
    if (!d) {
        return vx_fail_errno(err, errno, dir, "cannot read the folder %s", dir);
    }
    size_t limit = (size_t)VX_RAWSET_MAX_CASES * VX_RAWSET_MAX_CHANNELS, cap = 0;
    int rc = VX_OK;
    struct dirent *e;
    while (rc == VX_OK && (e = readdir(d))) {
        if (e->d_name[0] == '.' || !ends_with(e->d_name, ending)) {
            continue;
        }
        if (ret->n == limit) {
            rc =
                vx_fail(err, VX_E_LIMIT, "too_many_files", "more than %zu files in %s", limit, dir);
            break;
        }
        if (ret->n == cap) {
            cap = cap ? cap * 2 : 64;
            void *grown = realloc(ret->list, cap * sizeof *ret->list);
            if (!grown) {
                rc = no_memory(err);
                break;
            }
            ret->list = grown;
        }
        ret->list[ret->n] = strndup(e->d_name, strlen(e->d_name) - strlen(ending));
        rc = ret->list[ret->n] ? VX_OK : no_memory(err);
        ret->n += ret->list[ret->n] ? 1 : 0;
    }
    closedir(d);
    if (ret->n > 0) {
        qsort(ret->list, ret->n, sizeof *ret->list, by_text);
    }
    return rc;
}

/* "CASE_0001" to 1 and the length of CASE; -1 where the name has another form. */
static int split_channel(const char *stem, size_t *ret_len) {
    size_t n = strlen(stem);
    if (n < CHANNEL_DIGITS + 2 || stem[n - CHANNEL_DIGITS - 1] != '_') {
        return -1;
    }
    int channel = 0;
    for (size_t i = n - CHANNEL_DIGITS; i < n; i++) {
        if (stem[i] < '0' || stem[i] > '9') {
            return -1;
        }
        channel = channel * 10 + (stem[i] - '0');
    }
    *ret_len = n - CHANNEL_DIGITS - 1;
    return channel;
}

static int add_case(struct vx_rawset *set, size_t *cap, const char *name, size_t len,
                    struct vx_err *err) {
    if (set->n_cases == VX_RAWSET_MAX_CASES) {
        return vx_fail(err, VX_E_LIMIT, "too_many_cases", "more than %d cases",
                       VX_RAWSET_MAX_CASES);
    }
    if (set->n_cases == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        void *grown = realloc(set->cases, *cap * sizeof *set->cases);
        if (!grown) {
            return no_memory(err);
        }
        set->cases = grown;
    }
    struct vx_rawset_case *c = &set->cases[set->n_cases];
    memset(c, 0, sizeof *c);
    c->name = strndup(name, len);
    c->images = calloc((size_t)set->n_channels, sizeof *c->images);
    set->n_cases++;
    return c->name && c->images ? VX_OK : no_memory(err);
}

static int by_case(const void *a, const void *b) {
    return strcmp(((const struct vx_rawset_case *)a)->name,
                  ((const struct vx_rawset_case *)b)->name);
}

static struct vx_rawset_case *find_case(struct vx_rawset *set, const char *name) {
    struct vx_rawset_case key = {.name = (char *)name};
    return set->n_cases ? bsearch(&key, set->cases, set->n_cases, sizeof key, by_case) : NULL;
}

/* Cases and their channels from the sorted names of the images' folder. Files of one case need not
 * be neighbours in that order ("a_0000", "a_0000_0000"), so cases are made first, channels filled
 * in afterwards. */
static int add_images(const struct vx_rawset_options *o, const char *dir, const struct names *names,
                      struct vx_rawset *set, struct vx_err *err) {
    size_t cap = 0, len;
    int rc = VX_OK;
    for (size_t i = 0; rc == VX_OK && i < names->n; i++) {
        int channel = split_channel(names->list[i], &len);
        if (channel < 0) {
            rc = problem(set, err, "bad_name", names->list[i],
                         "%s/%s%s does not end in a channel such as _0000%s; rename it", dir,
                         names->list[i], o->file_ending, o->file_ending);
            continue;
        }
        rc = add_case(set, &cap, names->list[i], len, err);
    }
    if (rc != VX_OK || set->n_cases == 0) {
        return rc;
    }
    qsort(set->cases, set->n_cases, sizeof *set->cases, by_case);
    size_t kept = 1;
    for (size_t i = 1; i < set->n_cases; i++) {
        if (strcmp(set->cases[i].name, set->cases[kept - 1].name) != 0) {
            set->cases[kept++] = set->cases[i];
        } else {
            free(set->cases[i].name);
            free(set->cases[i].images);
        }
    }
    set->n_cases = kept;
    for (size_t i = 0; rc == VX_OK && i < names->n; i++) {
        int channel = split_channel(names->list[i], &len);
        if (channel < 0) {
            continue;
        }
        vx_auto_free char *name = strndup(names->list[i], len);
        struct vx_rawset_case *c = name ? find_case(set, name) : NULL;
        if (!c) {
            return no_memory(err);
        }
        if (channel >= set->n_channels) {
            rc = problem(set, err, "extra_channel", c->name,
                         "%s/%s%s: channel %04d, but dataset.json names %d", dir, names->list[i],
                         o->file_ending, channel, set->n_channels);
            continue;
        }
        c->images[channel] = vx_strf("%s/%s%s", dir, names->list[i], o->file_ending);
        rc = c->images[channel] ? VX_OK : no_memory(err);
    }
    return rc;
}

/* What each case lacks. */
static int report_missing(const struct vx_rawset_options *o, const char *images, const char *labels,
                          struct vx_rawset *set, struct vx_err *err) {
    int rc = VX_OK;
    for (size_t i = 0; rc == VX_OK && i < set->n_cases; i++) {
        const struct vx_rawset_case *c = &set->cases[i];
        for (int k = 0; rc == VX_OK && k < set->n_channels; k++) {
            if (!c->images[k]) {
                rc = problem(set, err, "missing_channel", c->name, "%s/%s_%04d%s is missing",
                             images, c->name, k, o->file_ending);
            }
        }
        if (rc == VX_OK && labels && !c->label) {
            rc = problem(set, err, "missing_label", c->name, "%s/%s%s is missing", labels, c->name,
                         o->file_ending);
        }
    }
    return rc;
}

static int list_folders(const struct vx_rawset_options *o, struct vx_rawset *set,
                        struct vx_err *err) {
    const char *labels_name = o->labels ? o->labels : "labelsTr";
    bool want_labels = labels_name[0] != '\0';
    const char *images_name = o->images ? o->images : "imagesTr";
    vx_auto_free char *images =
        images_name[0] ? vx_strf("%s/%s", o->dir, images_name) : strdup(o->dir);
    vx_auto_free char *labels = vx_strf("%s/%s", o->dir, labels_name);
    if (!images || !labels) {
        return no_memory(err);
    }
    struct names image_names = {0}, label_names = {0};
    int rc = read_names(images, o->file_ending, &image_names, err);
    rc = rc == VX_OK ? add_images(o, images, &image_names, set, err) : rc;
    if (rc == VX_OK && want_labels) {
        rc = read_names(labels, o->file_ending, &label_names, err);
    }
    for (size_t i = 0; rc == VX_OK && i < label_names.n; i++) {
        struct vx_rawset_case *c = find_case(set, label_names.list[i]);
        if (!c) {
            rc =
                problem(set, err, "orphan_label", label_names.list[i],
                        "%s/%s%s belongs to no image", labels, label_names.list[i], o->file_ending);
            continue;
        }
        c->label = vx_strf("%s/%s%s", labels, label_names.list[i], o->file_ending);
        rc = c->label ? VX_OK : no_memory(err);
    }
    rc = rc == VX_OK ? report_missing(o, images, want_labels ? labels : NULL, set, err) : rc;
    names_release(&image_names);
    names_release(&label_names);
    return rc;
}

/* A path of the explicit mapping: relative to the data set's folder, or absolute. Variables are not
 * expanded: what a server's environment holds is not for data sets to read. NULL in *ret where it
 * cannot be used (a problem is added). */
static int mapped_path(const struct vx_rawset_options *o, struct vx_rawset *set, const char *name,
                       const char *field, const json_t *value, char **ret, struct vx_err *err) {
    const char *text = json_string_value(value);
    if (!text || !text[0]) {
        return problem(set, err, "bad_mapping", name, "dataset/%s/%s is not a path", name, field);
    }
    if (strchr(text, '$')) {
        return problem(set, err, "bad_mapping", name,
                       "dataset/%s/%s: variables as in \"%s\" are not expanded; write the path out",
                       name, field, text);
    }
    if (!ends_with(text, o->file_ending)) {
        return problem(set, err, "bad_mapping", name, "dataset/%s/%s: \"%s\" does not end in %s",
                       name, field, text, o->file_ending);
    }
    vx_auto_free char *path = text[0] == '/' ? strdup(text) : vx_strf("%s/%s", o->dir, text);
    if (!path) {
        return no_memory(err);
    }
    if (!vx_path_exists(path)) {
        return problem(set, err, field[0] == 'l' ? "missing_label" : "missing_channel", name,
                       "%s is missing", path);
    }
    *ret = vx_steal(path);
    return VX_OK;
}

static int list_mapping(const struct vx_rawset_options *o, struct vx_rawset *set,
                        struct vx_err *err) {
    bool want_labels = !o->labels || o->labels[0];
    size_t cap = 0;
    const char *name;
    json_t *entry;
    int rc = VX_OK;
    json_object_foreach((json_t *)o->mapping, name, entry) {
        const json_t *images = json_object_get(entry, "images");
        size_t n = json_array_size(images);
        rc = strchr(name, '/') || !name[0]
                 ? vx_fail(err, VX_E_INVALID, "bad_mapping", "\"%s\" is no name for a case", name)
                 : add_case(set, &cap, name, strlen(name), err);
        if (rc == VX_OK && n != (size_t)set->n_channels) {
            rc =
                problem(set, err, n < (size_t)set->n_channels ? "missing_channel" : "extra_channel",
                        name, "dataset/%s/images has %zu paths, but dataset.json names %d channels",
                        name, n, set->n_channels);
        }
        struct vx_rawset_case *c = rc == VX_OK ? &set->cases[set->n_cases - 1] : NULL;
        for (size_t k = 0; rc == VX_OK && k < n && k < (size_t)set->n_channels; k++) {
            rc = mapped_path(o, set, name, "images", json_array_get(images, k), &c->images[k], err);
        }
        if (rc == VX_OK && want_labels) {
            rc =
                mapped_path(o, set, name, "label", json_object_get(entry, "label"), &c->label, err);
        }
        if (rc != VX_OK) {
            return rc;
        }
    }
    if (set->n_cases > 0) {
        qsort(set->cases, set->n_cases, sizeof *set->cases, by_case);
    }
    return VX_OK;
}

int vx_rawset_list(const struct vx_rawset_options *o, struct vx_rawset *ret, struct vx_err *err) {
    if (strcmp(o->file_ending, ".nii.gz") != 0 && strcmp(o->file_ending, ".nii") != 0) {
        return vx_fail(err, VX_E_UNSUPPORTED, "file_ending_unsupported",
                       "files ending in \"%s\" are not read; .nii.gz and .nii are", o->file_ending);
    }
    if (o->n_channels < 1 || o->n_channels > VX_RAWSET_MAX_CHANNELS) {
        return vx_fail(err, VX_E_LIMIT, "too_many_channels", "%d channels; 1 to %d are possible",
                       o->n_channels, VX_RAWSET_MAX_CHANNELS);
    }
    vx_auto_rawset struct vx_rawset set = {.n_channels = o->n_channels};
    int rc = o->mapping ? list_mapping(o, &set, err) : list_folders(o, &set, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (set.n_problems > 0) {
        qsort(set.problems, set.n_problems, sizeof *set.problems, by_problem);
    }
    *ret = set;
    memset(&set, 0, sizeof set);
    return VX_OK;
}
