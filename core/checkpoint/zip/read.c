#include "checkpoint/zip.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/zip/format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    MAX_DIRECTORY_BYTES = 64 << 20,
    COMMENT_BYTES = UINT16_MAX, /* the end record may have a comment of this behind it */
};

struct vx_zip {
    char *path; /* owned */
    int fd;
    uint64_t size; /* of the file */
    uint64_t directory_at, directory_bytes, promised;
    char *names; /* owned: all names, each with its NUL */
    size_t n;
    struct vx_zip_member *members;        /* owned */
    const struct vx_zip_member **by_name; /* owned: pointers into members */
};

static int refuse(const struct vx_zip *z, int code, const char *reason, const char *name,
                  const char *what, struct vx_err *err) {
    if (name) {
        vx_fail(err, code, reason, "%s, member %.100s: %s", z->path, name, what);
    } else {
        vx_fail(err, code, reason, "%s: %s", z->path, what);
    }
    return vx_err_at(err, "%s", z->path), code;
}

static int corrupt(const struct vx_zip *z, const char *reason, const char *what,
                   struct vx_err *err) {
    return refuse(z, VX_E_CORRUPT, reason, NULL, what, err);
}

static int read_at(const struct vx_zip *z, void *dst, size_t len, uint64_t at, struct vx_err *err) {
    if (at > z->size || len > z->size - at) {
        return corrupt(z, "truncated_zip", "the archive points past the file's end", err);
    }
    int rc = vx_pread_all(z->fd, dst, len, (off_t)at, err);
    if (rc != VX_OK) {
        vx_err_prefix(err, "%s", z->path);
        vx_err_at(err, "%s", z->path);
    }
    return rc;
}

/* The ZIP64 end record that a locator before the end record at end_at points to; where there is
 * none the numbers stay. */
static int find_end64(struct vx_zip *z, uint64_t end_at, struct vx_err *err) {
    unsigned char l[ZIP_LOCATOR64_BYTES], e[ZIP_END64_BYTES];
    if (end_at < sizeof l) {
        return VX_OK;
    }
    int rc = read_at(z, l, sizeof l, end_at - sizeof l, err);
    if (rc != VX_OK || zip_u32(l) != ZIP_LOCATOR64) {
        return rc;
    }
    rc = read_at(z, e, sizeof e, zip_u64(l + 8), err);
    if (rc == VX_OK && zip_u32(e) != ZIP_END64) {
        rc = corrupt(z, "bad_zip", "the ZIP64 end record is not where its locator says", err);
    }
    if (rc == VX_OK) {
        z->promised = zip_u64(e + 32);
        z->directory_bytes = zip_u64(e + 40);
        z->directory_at = zip_u64(e + 48);
    }
    return rc;
}

/* Finds the directory: the last end record whose comment reaches exactly to the file's end. */
static int find_directory(struct vx_zip *z, struct vx_err *err) {
    size_t tail =
        z->size < ZIP_END_BYTES + COMMENT_BYTES ? (size_t)z->size : ZIP_END_BYTES + COMMENT_BYTES;
    vx_auto_free unsigned char *t = malloc(tail + 1);
    if (!t) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = read_at(z, t, tail, z->size - tail, err);
    if (rc != VX_OK) {
        return rc;
    }
    for (size_t from_end = ZIP_END_BYTES; from_end <= tail; from_end++) {
        const unsigned char *e = t + tail - from_end;
        if (zip_u32(e) != ZIP_END || zip_u16(e + 20) != from_end - ZIP_END_BYTES) {
            continue;
        }
        z->promised = zip_u16(e + 10);
        z->directory_bytes = zip_u32(e + 12);
        z->directory_at = zip_u32(e + 16);
        rc = find_end64(z, z->size - from_end, err);
        if (rc == VX_OK && (z->directory_at > z->size - from_end ||
                            z->directory_bytes > z->size - from_end - z->directory_at)) {
            rc = corrupt(z, "bad_zip", "the directory does not lie in the file", err);
        }
        return rc;
    }
    return corrupt(z, "truncated_zip", "no zip archive, or cut short: its end record is missing",
                   err);
}

/* Takes sizes and offset of one directory entry, from its ZIP64 field where the entry says so. */
static bool take_numbers(const unsigned char *h, const unsigned char *extra, size_t n,
                         uint64_t *size, uint64_t *packed, uint64_t *header_at) {
    *packed = zip_u32(h + 20);
    *size = zip_u32(h + 24);
    *header_at = zip_u32(h + 42);
    uint64_t *wanted[] = {size, packed, header_at};
    while (n >= 4) {
        size_t len = zip_u16(extra + 2), at = 4;
        if (len > n - 4) {
            return false;
        }
        for (size_t i = 0; zip_u16(extra) == ZIP_EXTRA64 && i < VX_COUNTOF(wanted); i++) {
            if (*wanted[i] != ZIP_MASK32) {
                continue;
            }
            if (at + 8 > len + 4) {
                return false;
            }
            *wanted[i] = zip_u64(extra + at);
            at += 8;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return true;
}

/* Where the data lie: behind the local header, whose name must be the directory's. */
static int locate(const struct vx_zip *z, uint64_t header_at, struct vx_zip_member *m,
                  struct vx_err *err) {
    unsigned char h[ZIP_LOCAL_BYTES], name[VX_ZIP_MAX_NAME];
    size_t len = strlen(m->name);
    int rc = read_at(z, h, sizeof h, header_at, err);
    if (rc == VX_OK && (zip_u32(h) != ZIP_LOCAL || zip_u16(h + 26) != len)) {
        return refuse(z, VX_E_CORRUPT, "bad_zip", m->name, "its local header is missing", err);
    }
    if (rc == VX_OK) {
        rc = read_at(z, name, len, header_at + ZIP_LOCAL_BYTES, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    m->at = header_at + ZIP_LOCAL_BYTES + len + zip_u16(h + 28);
    if (memcmp(name, m->name, len) != 0) {
        return refuse(z, VX_E_CORRUPT, "bad_zip", m->name, "its local header has another name",
                      err);
    }
    if (m->at > z->directory_at || m->size > z->directory_at - m->at) {
        return refuse(z, VX_E_CORRUPT, "member_outside", m->name,
                      "its data do not lie in the file before the directory", err);
    }
    return VX_OK;
}

/* UTF-8 without control characters; Jansson has the check. */
static bool is_name(const unsigned char *s, size_t n) {
    vx_auto_json json_t *text = json_stringn((const char *)s, n);
    for (size_t i = 0; i < n; i++) {
        if (s[i] < ' ') {
            return false;
        }
    }
    return text != NULL;
}

/* One directory entry of at most left bytes at h; *ret_len is its length. */
static int take_member(struct vx_zip *z, const unsigned char *h, size_t left, char **names,
                       size_t *ret_len, struct vx_err *err) {
    if (left < ZIP_CENTRAL_BYTES || zip_u32(h) != ZIP_CENTRAL) {
        return corrupt(z, "bad_zip", "the directory holds something else than entries", err);
    }
    size_t name = zip_u16(h + 28), extra = zip_u16(h + 30), comment = zip_u16(h + 32);
    size_t len = ZIP_CENTRAL_BYTES + name + extra + comment;
    if (len > left || name == 0 || name > VX_ZIP_MAX_NAME ||
        !is_name(h + ZIP_CENTRAL_BYTES, name)) {
        return corrupt(z, "bad_zip", "a directory entry is cut short or has no proper name", err);
    }
    struct vx_zip_member *m = &z->members[z->n];
    uint64_t packed = 0, header_at = 0;
    memcpy(*names, h + ZIP_CENTRAL_BYTES, name);
    (*names)[name] = '\0';
    m->name = *names;
    m->crc32 = zip_u32(h + 16);
    if (zip_u16(h + 8) & ZIP_FLAG_ENCRYPTED) {
        return refuse(z, VX_E_UNSUPPORTED, "encrypted_member", m->name, "is encrypted", err);
    }
    if (zip_u16(h + 10) != VX_ZIP_STORED) {
        return refuse(z, VX_E_UNSUPPORTED, "compressed_member", m->name,
                      "is compressed; only stored members are read, as torch.save writes them",
                      err);
    }
    if (!take_numbers(h, h + ZIP_CENTRAL_BYTES + name, extra, &m->size, &packed, &header_at) ||
        packed != m->size) {
        return refuse(z, VX_E_CORRUPT, "bad_zip", m->name, "its sizes do not agree", err);
    }
    *names += name + 1;
    *ret_len = len;
    z->n++;
    return locate(z, header_at, m, err);
}

static int by_place(const void *a, const void *b) {
    const struct vx_zip_member *x = *(const struct vx_zip_member *const *)a;
    const struct vx_zip_member *y = *(const struct vx_zip_member *const *)b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    return x->size < y->size ? -1 : x->size > y->size;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const struct vx_zip_member *const *)a)->name,
                  (*(const struct vx_zip_member *const *)b)->name);
}

static int check_members(struct vx_zip *z, struct vx_err *err) {
    const struct vx_zip_member **order = calloc(z->n + 1, sizeof *order);
    z->by_name = order;
    if (!order) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < z->n; i++) {
        order[i] = &z->members[i];
    }
    qsort(order, z->n, sizeof *order, by_place);
    for (size_t i = 1; i < z->n; i++) {
        if (order[i - 1]->at + order[i - 1]->size > order[i]->at) {
            return refuse(z, VX_E_CORRUPT, "members_overlap", order[i]->name,
                          "overlaps another member", err);
        }
    }
    qsort(order, z->n, sizeof *order, by_name);
    for (size_t i = 1; i < z->n; i++) {
        if (strcmp(order[i - 1]->name, order[i]->name) == 0) {
            return refuse(z, VX_E_CORRUPT, "bad_zip", order[i]->name, "is there twice", err);
        }
    }
    return VX_OK;
}

static int read_directory(struct vx_zip *z, struct vx_err *err) {
    if (z->directory_bytes > MAX_DIRECTORY_BYTES || z->promised > VX_ZIP_MAX_MEMBERS) {
        return refuse(z, VX_E_LIMIT, "too_many_members", NULL, "the archive has too many members",
                      err);
    }
    size_t left = (size_t)z->directory_bytes, n = (size_t)z->promised;
    if (n > left / ZIP_CENTRAL_BYTES) {
        return corrupt(z, "bad_zip", "the directory is too short for its members", err);
    }
    vx_auto_free unsigned char *d = malloc(left + 1);
    z->members = calloc(n + 1, sizeof *z->members);
    z->names = malloc(left + 1); /* an entry's name and NUL are shorter than the entry */
    if (!d || !z->members || !z->names) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the directory of %s", z->path);
    }
    int rc = read_at(z, d, left, z->directory_at, err);
    char *names = z->names;
    const unsigned char *p = d;
    while (rc == VX_OK && z->n < n) {
        size_t len = 0;
        rc = take_member(z, p, left, &names, &len, err);
        p += len;
        left -= len;
    }
    if (rc == VX_OK && left > 0) {
        rc = corrupt(z, "bad_zip", "the directory is longer than its members", err);
    }
    return rc == VX_OK ? check_members(z, err) : rc;
}

int vx_zip_open(const char *path, struct vx_zip **ret, struct vx_err *err) {
    struct vx_zip *z = calloc(1, sizeof *z);
    struct stat info;
    if (!z || !(z->path = strdup(path))) {
        free(z);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = VX_OK;
    z->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (z->fd < 0 || fstat(z->fd, &info) != 0) {
        rc = vx_fail_errno(err, errno, path, "cannot open %s", path);
    } else if (!S_ISREG(info.st_mode)) {
        rc = refuse(z, VX_E_INVALID, "not_a_file", NULL, "is not a regular file", err);
    } else {
        z->size = (uint64_t)info.st_size;
        rc = find_directory(z, err);
    }
    if (rc == VX_OK) {
        rc = read_directory(z, err);
    }
    if (rc == VX_OK) {
        *ret = vx_steal(z);
    }
    vx_zip_close(z);
    return rc;
}

struct vx_zip *vx_zip_close(struct vx_zip *z) {
    if (z) {
        if (z->fd >= 0) {
            close(z->fd);
        }
        free(z->by_name);
        free(z->members);
        free(z->names);
        free(z->path);
        free(z);
    }
    return NULL;
}

size_t vx_zip_count(const struct vx_zip *z) {
    return z->n;
}

const struct vx_zip_member *vx_zip_member(const struct vx_zip *z, size_t i) {
    return &z->members[i];
}

int64_t vx_zip_find(const struct vx_zip *z, const char *name) {
    size_t lo = 0, hi = z->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(z->by_name[mid]->name, name);
        if (order == 0) {
            return z->by_name[mid] - z->members;
        }
        lo = order < 0 ? mid + 1 : lo;
        hi = order < 0 ? hi : mid;
    }
    return -1;
}

int vx_zip_read(const struct vx_zip *z, size_t i, void *dst, struct vx_err *err) {
    const struct vx_zip_member *m = &z->members[i];
    int rc = read_at(z, dst, (size_t)m->size, m->at, err);
    if (rc == VX_OK && m->size > 0 &&
        (uint32_t)crc32_z(crc32_z(0, NULL, 0), dst, (size_t)m->size) != m->crc32) {
        rc = refuse(z, VX_E_CORRUPT, "bad_checksum", m->name, "fails its checksum", err);
    }
    return rc;
}
