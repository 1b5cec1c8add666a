/* Writing one case: everything into a temporary folder, synced, then renamed. */
#include "cache/build.h"
#include "cache/meta.h"
#include "cache/store.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

void vx_cache_chunk_shape(const int64_t shape[3], const int64_t patch[3], bool smooth,
                          int64_t ret_chunk[3]) {
    for (int a = 0; a < 3; a++) {
        int64_t n = shape[a] > 0 ? shape[a] : 1, part = smooth && a < 2 ? 20 : 32;
        int64_t target = patch[a] == 1 ? 1 : patch[a] >= n ? 64 : part;
        if (patch[a] > 1 && patch[a] < 32) {
            target = patch[a] >= n ? n : patch[a];
        }
        int64_t parts = (n + target - 1) / target;
        ret_chunk[a] = (n + parts - 1) / parts;
    }
}

int vx_cache_check_space(const char *dir, uint64_t bytes, struct vx_err *err) {
    struct statvfs st;
    if (statvfs(dir, &st) != 0) {
        return vx_fail_errno(err, errno, dir, "cannot ask for the free space of %s", dir);
    }
    uint64_t available = (uint64_t)st.f_bavail * st.f_frsize;
    if (available < bytes) {
        vx_fail(
            err, VX_E_FULL, NULL,
            "%s has %.1f MB free and about %.1f MB are needed; free some space or use another disk",
            dir, (double)available / 1e6, (double)bytes / 1e6);
        vx_err_at(err, "%s", dir);
        return VX_E_FULL;
    }
    return VX_OK;
}

static int bad_field(const struct vx_cache_info *in, const char *field, const char *why,
                     struct vx_err *err) {
    vx_fail(err, VX_E_INVALID, "bad_case", "case %s: %s %s", in->name, field, why);
    vx_err_at(err, "/%s", field);
    return VX_E_INVALID;
}

static int check_shapes(const struct vx_cache_info *in, struct vx_err *err) {
    for (int a = 0; a < 3; a++) {
        if (in->shape[a] < 1 || in->shape[a] > VX_CACHE_MAX_EDGE) {
            return bad_field(in, "shape", "is out of range", err);
        }
        if (in->shape_raw[a] < 1 || in->shape_raw[a] > VX_CACHE_MAX_EDGE) {
            return bad_field(in, "shape_raw", "is out of range", err);
        }
        if (in->crop_lo[a] < 0 || in->crop_lo[a] >= in->crop_hi[a] ||
            in->crop_hi[a] > in->shape_raw[a]) {
            return bad_field(in, "crop_hi", "does not make a box inside shape_raw", err);
        }
        if (in->shape_cropped[a] != in->crop_hi[a] - in->crop_lo[a]) {
            return bad_field(in, "shape_cropped", "is not the size of the crop box", err);
        }
        if (!(in->spacing[a] > 0 && in->spacing[a] < 1e9 && in->spacing_raw[a] > 0 &&
              in->spacing_raw[a] < 1e9)) {
            return bad_field(in, "spacing", "is out of range", err);
        }
    }
    return VX_OK;
}

static int check_classes(const struct vx_cache_case_data *d, struct vx_err *err) {
    const struct vx_cache_info *in = &d->info;
    int64_t n = 0;
    for (size_t i = 0; i < in->n_classes; i++) {
        const struct vx_cache_class *c = &in->classes[i];
        if (c->key[0] == '\0' || c->n_locations < 0 || c->n_locations > c->n_voxels) {
            return bad_field(in, "classes", "have a row without key or with impossible counts",
                             err);
        }
        n += c->n_locations;
    }
    if (n > 0 && !d->locations) {
        return bad_field(in, "locations", "are missing", err);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int a = 0; a < 3; a++) {
            if (d->locations[i][a] < 0 || d->locations[i][a] >= in->shape[a]) {
                return bad_field(in, "locations", "lie outside the array", err);
            }
        }
    }
    return VX_OK;
}

static int check_case(const struct vx_cache_case_data *d, struct vx_err *err) {
    const struct vx_cache_info *in = &d->info;
    if (in->n_channels < 1 || in->n_channels > 4096) {
        return bad_field(in, "channels", "must be 1 to 4096", err);
    }
    if (!d->image || in->has_seg != (d->seg != NULL)) {
        return bad_field(in, "has_seg", "does not agree with the arrays given", err);
    }
    if (in->n_classes > VX_CACHE_MAX_CLASSES || in->n_sources > VX_CACHE_MAX_SOURCES) {
        return bad_field(in, "classes", "or sources are more than a case may have", err);
    }
    int rc = check_shapes(in, err);
    return rc == VX_OK ? check_classes(d, err) : rc;
}

/* Plain write; syncing is done for the whole folder at once, which costs one journal commit instead
 * of ten. */
static int write_json(const char *folder, const char *name, json_t *doc, struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/%s", folder, name);
    vx_auto_free char *text =
        doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    if (!path || !text) {
        return vx_fail(err, VX_E_INVALID, "bad_case", "cannot encode %s/%s (is a name not UTF-8?)",
                       folder, name);
    }
    vx_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return vx_fail_errno(err, errno, path, "cannot write %s", path);
    }
    int rc = vx_write_all(fd, text, strlen(text), err);
    if (rc != VX_OK) {
        vx_err_at(err, "%s", path);
    }
    return rc;
}

static int write_array(const char *folder, enum vx_cache_array which, struct vx_cache_layout *a,
                       const void *data, uint64_t *bytes, struct vx_err *err) {
    const char *name = vx_cache_array_name(which);
    const char *inner = vx_shard_path(&a->shard);
    vx_auto_free char *dir = vx_strf("%s/%s", folder, name);
    vx_auto_free char *shard = vx_strf("%s/%s/%s", folder, name, inner);
    /* "c/0/0" lies in the folder "c/0" */
    vx_auto_free char *parent =
        vx_strf("%s/%s/%.*s", folder, name, (int)(strrchr(inner, '/') - inner), inner);
    if (!dir || !shard || !parent) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    bool empty = a->shard.n_chunks == 0;
    int rc = vx_shard_choose_codec(&a->shard, data, err);
    vx_auto_json json_t *doc = vx_shard_metadata(&a->shard);
    if (rc == VX_OK) {
        rc = vx_mkdirs(empty ? dir : parent, 0755, err);
    }
    if (rc == VX_OK) {
        rc = write_json(dir, "zarr.json", doc, err);
    }
    if (rc == VX_OK && !empty) {
        rc = vx_shard_write(&a->shard, data, shard, &a->file, err);
        *bytes += a->file.bytes;
    }
    return rc;
}

int vx_cache_sync_tree(const char *dir, bool drop, struct vx_err *err) {
    char *const roots[] = {(char *)dir, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk) {
        return vx_fail_errno(err, errno, dir, "cannot list %s", dir);
    }
    int rc = VX_OK;
    for (FTSENT *e; rc == VX_OK && (e = fts_read(walk));) {
        if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS) {
            rc = vx_fail_errno(err, e->fts_errno, e->fts_path, "cannot read %s", e->fts_path);
        }
        if (e->fts_info != FTS_F && e->fts_info != FTS_DP) {
            continue;
        }
        vx_auto_close int fd = open(e->fts_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0) {
            rc = vx_fail_errno(err, errno, e->fts_path, "cannot sync %s", e->fts_path);
        } else if (drop && e->fts_info == FTS_F) {
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        }
    }
    fts_close(walk);
    return rc;
}

/* A store's folder is named by its key. */
static void key_of(const char *store_dir, char ret[VX_SHA256_HEX]) {
    const char *slash = strrchr(store_dir, '/'), *name = slash ? slash + 1 : store_dir;
    bool is_key =
        strlen(name) == VX_SHA256_HEX - 1 && strspn(name, "0123456789abcdef") == VX_SHA256_HEX - 1;
    snprintf(ret, VX_SHA256_HEX, "%s", is_key ? name : "");
}

/* The arrays in chunks that suit the image's values. */
static int lay_out(struct vx_cache_meta *meta, const struct vx_cache_case_data *d,
                   struct vx_err *err) {
    struct vx_shard *image = &meta->arrays[VX_CACHE_ARRAY_IMAGE].shard;
    int64_t chunk[3];
    vx_cache_chunk_shape(d->info.shape, d->patch, false, chunk);
    int rc = vx_cache_meta_layout(meta, chunk, err);
    if (rc == VX_OK) {
        rc = vx_shard_choose_codec(image, d->image, err);
    }
    if (rc == VX_OK && image->codec.shuffle) {
        vx_cache_chunk_shape(d->info.shape, d->patch, true, chunk);
        rc = vx_cache_meta_layout(meta, chunk, err);
    }
    return rc;
}

static int fill_folder(const char *store_dir, const char *folder,
                       const struct vx_cache_case_data *d, uint64_t *bytes, struct vx_err *err) {
    struct vx_cache_meta meta = {.info = d->info};
    key_of(store_dir, meta.key);
    vx_auto_free struct vx_cache_class *classes = calloc(d->info.n_classes + 1, sizeof *classes);
    if (!classes) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int64_t first = 0;
    for (size_t i = 0; i < d->info.n_classes; i++) {
        classes[i] = d->info.classes[i];
        classes[i].first_index = first;
        first += classes[i].n_locations;
    }
    meta.info.classes = classes;
    memcpy(meta.info.patch, d->patch, sizeof meta.info.patch);
    int rc = lay_out(&meta, d, err);
    const void *const data[VX_CACHE_N_ARRAYS] = {d->image, d->seg, d->locations};
    for (int i = 0; i < VX_CACHE_N_ARRAYS && rc == VX_OK; i++) {
        if (meta.arrays[i].present) {
            rc = write_array(folder, (enum vx_cache_array)i, &meta.arrays[i], data[i], bytes, err);
        }
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_json json_t *group =
        json_pack("{s:i,s:s,s:{}}", "zarr_format", 3, "node_type", "group", "attributes");
    vx_auto_json json_t *doc = vx_cache_meta_to_json(&meta);
    rc = write_json(folder, "zarr.json", group, err);
    if (rc == VX_OK) {
        rc = write_json(folder, "case.json", doc, err);
    }
    return rc == VX_OK ? vx_cache_sync_tree(folder, false, err) : rc;
}

int vx_cache_publish(const char *cases, const char *tmp, const char *final, struct vx_err *err) {
    /* where one lies there already the two change places, so that no reader ever finds none */
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, final, RENAME_EXCHANGE) != 0) {
        int rc = errno == ENOENT ? VX_OK : vx_remove_tree(final, err);
        if (rc == VX_OK && rename(tmp, final) != 0) {
            rc = vx_fail_errno(err, errno, final, "cannot rename to %s", final);
        }
        return rc == VX_OK ? vx_fsync_dir(cases, err) : rc;
    }
    int rc = vx_fsync_dir(cases, err);
    return rc == VX_OK ? vx_remove_tree(tmp, err) : rc;
}

int vx_cache_write_case(const char *store_dir, const struct vx_cache_case_data *d,
                        uint64_t *ret_bytes, struct vx_err *err) {
    static atomic_uint serial;
    vx_auto_free char *name = NULL;
    int rc = vx_cache_case_folder(d->info.name, d->info.sources, d->info.n_sources, &name, err);
    if (rc == VX_OK) {
        rc = check_case(d, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free char *cases = vx_strf("%s/cases", store_dir);
    vx_auto_free char *final = vx_strf("%s/cases/%s", store_dir, name);
    vx_auto_free char *tmp =
        vx_strf("%s/cases/.tmp-%d-%u", store_dir, (int)getpid(), atomic_fetch_add(&serial, 1));
    if (!cases || !final || !tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    uint64_t bytes = 0;
    rc = vx_remove_tree(tmp, err);
    if (rc == VX_OK && mkdir(tmp, 0755) != 0) {
        rc = vx_fail_errno(err, errno, tmp, "cannot make the folder %s", tmp);
    }
    if (rc == VX_OK) {
        rc = fill_folder(store_dir, tmp, d, &bytes, err);
    }
    if (rc == VX_OK) {
        rc = vx_cache_publish(cases, tmp, final, err);
    }
    if (rc != VX_OK) {
        vx_err_prefix(err, "case %s", d->info.name);
        vx_remove_tree(tmp, NULL);
        return rc;
    }
    if (ret_bytes) {
        *ret_bytes = bytes;
    }
    return VX_OK;
}
