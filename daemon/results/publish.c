/* See publish.h. */
#include "daemon/results/publish.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>

#define MARK "voxeld_job.json"

char *vx_publish_path(const struct vx_result_place *p) {
    return vx_strf("%s/%s/%s__%s__%s/fold_%s", p->results_root, p->dataset, p->name, p->plans,
                   p->configuration, p->fold);
}

static int copy_file(const char *from, const char *to, struct vx_err *err) {
    vx_auto_close int in = open(from, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (in < 0 || fstat(in, &st) != 0) {
        return vx_fail_errno(err, errno, from, "cannot read %s", from);
    }
    vx_auto_close int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) {
        return vx_fail_errno(err, errno, to, "cannot write %s", to);
    }
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(out, in, NULL, (size_t)left);
        if (n <= 0) {
            return vx_fail_errno(err, n == 0 ? EIO : errno, to, "cannot copy %s", from);
        }
        left -= n;
    }
    return fsync(out) == 0 ? VX_OK : vx_fail_errno(err, errno, to, "cannot write %s", to);
}

/* A hard link shares the bytes that the job's folder holds; neither side ever writes into a
 * finished file. */
static int link_or_copy(const char *from, const char *to, struct vx_err *err) {
    if (link(from, to) == 0) {
        return VX_OK;
    }
    return errno == ENOENT ? vx_fail_errno(err, errno, from, "%s is missing", from)
                           : copy_file(from, to, err);
}

static int bring(const char *from_dir, const char *from, const char *to_dir, const char *to,
                 bool required, struct vx_err *err) {
    vx_auto_free char *src = vx_strf("%s/%s", from_dir, from);
    vx_auto_free char *dst = vx_strf("%s/%s", to_dir, to);
    if (!src || !dst) {
        return vx_fail(err, VX_E_NOMEM, NULL, "publishing");
    }
    return required || vx_path_exists(src) ? link_or_copy(src, dst, err) : VX_OK;
}

static int bring_folder(const char *from, const char *to, struct vx_err *err) {
    int rc = vx_mkdirs(to, 0755, err);
    DIR *dir = rc == VX_OK ? opendir(from) : NULL;
    if (rc == VX_OK && !dir) {
        return vx_fail_errno(err, errno, from, "cannot list %s", from);
    }
    for (struct dirent *e; rc == VX_OK && (e = readdir(dir)) != NULL;) {
        if (e->d_type == DT_REG) {
            rc = bring(from, e->d_name, to, e->d_name, true, err);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return rc == VX_OK ? vx_fsync_dir(to, err) : rc;
}

/* nnU-Net's name: training_log_YYYY_M_D_HH_MM_SS.txt; the time is that of the log's first line. */
static void log_name(const char *job_dir, char *buf, size_t size) {
    vx_auto_free char *path = vx_strf("%s/log.txt", job_dir);
    vx_auto_fclose FILE *f = path ? fopen(path, "re") : NULL;
    int y = 1970, mo = 1, d = 1, h = 0, mi = 0, s = 0;
    if (!f || fscanf(f, "%d-%d-%d %d:%d:%d", &y, &mo, &d, &h, &mi, &s) != 6) {
        time_t now = time(NULL);
        struct tm tm;
        localtime_r(&now, &tm);
        y = tm.tm_year + 1900, mo = tm.tm_mon + 1, d = tm.tm_mday, h = tm.tm_hour, mi = tm.tm_min,
        s = tm.tm_sec;
    }
    snprintf(buf, size, "training_log_%d_%d_%d_%02d_%02d_%02d.txt", y, mo, d, h, mi, s);
}

/* A run without validation batches has no moving average and so no best of its own: the last is the
 * best known. */
static int bring_best(const struct vx_publish *p, const char *tmp, const char *ending,
                      struct vx_err *err) {
    char final[48], best[48];
    snprintf(final, sizeof final, "checkpoint_final.%s", ending);
    snprintf(best, sizeof best, "checkpoint_best.%s", ending);
    vx_auto_free char *path = vx_strf("%s/%s", tmp, best);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "publishing");
    }
    return vx_path_exists(path) ? VX_OK : bring(p->job_dir, final, tmp, best, false, err);
}

static int fill(const struct vx_publish *p, const char *tmp, struct vx_err *err) {
    static const struct {
        const char *name;
        bool required;
    } files[] = {{"plans.json", true},
                 {"dataset.json", true},
                 {"checkpoint_final.safetensors", true},
                 {"checkpoint_best.safetensors", false},
                 {"checkpoint_final.pth", false},
                 {"checkpoint_best.pth", false},
                 {"progress.png", false}};
    int rc = vx_mkdirs(tmp, 0755, err);
    for (size_t i = 0; rc == VX_OK && i < VX_COUNTOF(files); i++) {
        rc = bring(p->job_dir, files[i].name, tmp, files[i].name, files[i].required, err);
    }
    rc = rc == VX_OK ? bring_best(p, tmp, "safetensors", err) : rc;
    rc = rc == VX_OK ? bring_best(p, tmp, "pth", err) : rc;
    char log[64];
    log_name(p->job_dir, log, sizeof log);
    if (rc == VX_OK) {
        vx_auto_free char *from = vx_strf("%s/log.txt", p->job_dir);
        vx_auto_free char *to = vx_strf("%s/%s", tmp, log);
        rc = from && to ? copy_file(from, to, err) : vx_fail(err, VX_E_NOMEM, NULL, "publishing");
    }
    vx_auto_free char *validation = vx_strf("%s/validation", p->job_dir);
    vx_auto_free char *validation_to = vx_strf("%s/validation", tmp);
    if (rc == VX_OK && validation && validation_to && vx_path_exists(validation)) {
        rc = bring_folder(validation, validation_to, err);
    }
    vx_auto_free char *mark = vx_strf("%s/" MARK, tmp);
    if (rc == VX_OK) {
        rc = mark ? vx_json_write_file(mark, p->job, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "publishing");
    }
    return rc;
}

/* The job that made the result at fold_dir; 0 where it is not ours to know. */
static int64_t owner_of(const char *fold_dir) {
    vx_auto_free char *mark = vx_strf("%s/" MARK, fold_dir);
    vx_auto_json json_t *job = NULL;
    if (!mark || vx_json_load_file(mark, 16 << 20, &job, NULL) != VX_OK) {
        return 0;
    }
    return json_integer_value(json_object_get(job, "id"));
}

static bool same_job(const char *fold_dir, const json_t *mine) {
    vx_auto_free char *mark = vx_strf("%s/" MARK, fold_dir);
    vx_auto_json json_t *job = NULL;
    return mark && vx_json_load_file(mark, 16 << 20, &job, NULL) == VX_OK && json_equal(job, mine);
}

static int taken(const char *fold_dir, struct vx_err *err) {
    vx_fail(err, VX_E_EXISTS, "result_exists",
            "%s exists already; give the job another results.name or \"replace\": true", fold_dir);
    return vx_err_at(err, "%s", fold_dir);
}

int vx_publish_check(const char *fold_dir, int64_t job_id, bool replace, struct vx_err *err) {
    bool free_to_use = replace || !vx_path_exists(fold_dir) || owner_of(fold_dir) == job_id;
    return free_to_use ? VX_OK : taken(fold_dir, err);
}

static int make_room(const struct vx_publish *p, const char *fold_dir, struct vx_err *err) {
    if (!p->replace) {
        return taken(fold_dir, err);
    }
    int64_t owner = owner_of(fold_dir);
    vx_auto_free char *kept = vx_strf("%s.%lld", fold_dir, (long long)(owner ? owner : p->job_id));
    if (kept && vx_path_exists(kept)) {
        free(kept);
        kept = vx_strf("%s.%lld.%lld", fold_dir, (long long)p->job_id, (long long)time(NULL));
    }
    if (!kept || rename(fold_dir, kept) != 0) {
        return vx_fail_errno(err, errno, fold_dir, "the earlier result cannot be moved aside");
    }
    return VX_OK;
}

/* Whether a fold other than ours lies in the model's folder; kept earlier results (fold_0.7) do not
 * count. */
static bool has_other_fold(const char *model_dir, const char *fold) {
    DIR *dir = opendir(model_dir);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        found = strncmp(e->d_name, "fold_", 5) == 0 && !strchr(e->d_name, '.') &&
                strcmp(e->d_name + 5, fold) != 0;
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

static int fill_model_folder(const struct vx_publish *p, const char *model_dir,
                             struct vx_err *err) {
    static const char *const names[] = {"plans.json", "dataset.json"};
    bool shared = has_other_fold(model_dir, p->place.fold);
    for (size_t i = 0; i < VX_COUNTOF(names); i++) {
        vx_auto_free char *to = vx_strf("%s/%s", model_dir, names[i]);
        vx_auto_free char *from = vx_strf("%s/%s", p->job_dir, names[i]);
        vx_auto_free char *text = NULL;
        size_t len = 0;
        if (!to || !from) {
            return vx_fail(err, VX_E_NOMEM, NULL, "publishing");
        }
        if (shared && vx_path_exists(to)) {
            continue;
        }
        int rc = vx_read_file(from, 256u << 20, &text, &len, err);
        if (rc == VX_OK) {
            rc = vx_write_file_atomic(to, text, len, 0644, err);
        }
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}

int vx_publish(const struct vx_publish *p, char **ret_path, struct vx_err *err) {
    vx_auto_free char *fold = vx_publish_path(&p->place);
    vx_auto_free char *model = fold ? strndup(fold, (size_t)(strrchr(fold, '/') - fold)) : NULL;
    vx_auto_free char *tmp =
        model ? vx_strf("%s/.fold_%s.%lld.tmp", model, p->place.fold, (long long)p->job_id) : NULL;
    if (!tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "publishing");
    }
    if (vx_path_exists(fold) && same_job(fold, p->job)) {
        *ret_path = vx_steal(fold); /* published before a crash */
        return VX_OK;
    }
    int rc = vx_mkdirs(model, 0755, err);
    if (rc == VX_OK) {
        rc = vx_remove_tree(tmp, err);
    }
    if (rc == VX_OK) {
        rc = fill_model_folder(p, model, err);
    }
    if (rc == VX_OK) {
        rc = fill(p, tmp, err);
    }
    if (rc == VX_OK && vx_path_exists(fold)) {
        rc = make_room(p, fold, err);
    }
    if (rc == VX_OK) {
        rc = vx_rename_durable(tmp, fold, err);
    }
    if (rc != VX_OK) {
        vx_remove_tree(tmp, NULL);
        return rc;
    }
    *ret_path = vx_steal(fold);
    return VX_OK;
}
