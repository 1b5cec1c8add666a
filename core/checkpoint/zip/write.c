#include "checkpoint/zip.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/zip/format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum {
    PIECE = 256 << 10, /* of compressed output, and of input handed to zlib */
    EXTRA64_BYTES = 4 + 16,
    /* A size from here on is written as ZIP64. deflate grows what it cannot shrink by less than a
     * thousandth; the margin keeps the choice right for the compressed size as well. */
    MARGIN64 = 16 << 20,
};

struct member {
    char name[VX_ZIP_MAX_NAME + 1];
    enum vx_zip_method method;
    bool big;             /* its sizes are in a ZIP64 field */
    uint64_t header_at;   /* offset of the local header */
    size_t header_bytes;  /* with name and extra fields */
    uint64_t size;        /* promised by begin */
    uint64_t put, packed; /* bytes so far: uncompressed, in the file */
    uLong crc;
};

struct vx_zip_writer {
    char *path, *tmp; /* owned; tmp is NULL once renamed */
    int fd;
    uint64_t at; /* where the next byte goes */
    bool inside; /* between begin and end */
    struct member m;
    z_stream z;           /* alive while inside a deflated member */
    unsigned char *piece; /* owned: zlib's output */
    struct vx_buf directory;
    uint64_t n;
};

int vx_zip_create(const char *path, struct vx_zip_writer **ret, struct vx_err *err) {
    struct vx_zip_writer *w = calloc(1, sizeof *w);
    if (!w) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    w->fd = -1;
    w->path = strdup(path);
    w->tmp = vx_strf("%s.tmp.%d", path, (int)getpid());
    w->piece = malloc(PIECE);
    if (!w->path || !w->tmp || !w->piece) {
        vx_zip_discard(w);
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd < 0) {
        int native = errno;
        vx_zip_discard(w);
        return vx_fail_errno(err, native, path, "cannot write %s", path);
    }
    *ret = w;
    return VX_OK;
}

struct vx_zip_writer *vx_zip_discard(struct vx_zip_writer *w) {
    if (w) {
        if (w->inside && w->m.method == VX_ZIP_DEFLATED) {
            deflateEnd(&w->z);
        }
        if (w->fd >= 0) {
            close(w->fd);
            if (w->tmp) {
                unlink(w->tmp);
            }
        }
        vx_buf_release(&w->directory);
        free(w->piece);
        free(w->path);
        free(w->tmp);
        free(w);
    }
    return NULL;
}

/* pwrite, so that a local header can be written after the data whose checksum it holds. */
static int write_at(const struct vx_zip_writer *w, const void *data, size_t len, uint64_t at,
                    struct vx_err *err) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = pwrite(w->fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return vx_fail_errno(err, errno, w->path, "cannot write %s", w->path);
        }
        p += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return VX_OK;
}

static int append(struct vx_zip_writer *w, const void *data, size_t len, struct vx_err *err) {
    int rc = write_at(w, data, len, w->at, err);
    w->at += rc == VX_OK ? len : 0;
    return rc;
}

static int misuse(const struct vx_zip_writer *w, const char *what, struct vx_err *err) {
    vx_fail(err, VX_E_INVALID, "bad_zip_member", "%s, member %.100s: %s", w->path, w->m.name, what);
    return vx_err_at(err, "%s", w->path), VX_E_INVALID;
}

int vx_zip_begin(struct vx_zip_writer *w, const char *name, uint64_t size,
                 enum vx_zip_method method, struct vx_err *err) {
    size_t len = strlen(name);
    if (w->inside) {
        return misuse(w, "is still being written", err);
    }
    if (len == 0 || len > VX_ZIP_MAX_NAME) {
        return vx_fail(err, VX_E_INVALID, "bad_zip_member", "\"%.100s\" cannot name a member",
                       name);
    }
    struct member m = {
        .method = method, .header_at = w->at, .size = size, .crc = crc32_z(0, NULL, 0)};
    memcpy(m.name, name, len + 1);
    m.big = size >= ZIP_MASK32 - MARGIN64;
    m.header_bytes = ZIP_LOCAL_BYTES + len + (m.big ? EXTRA64_BYTES : 0);
    if (method == VX_ZIP_STORED) { /* a padding field has 4 bytes of its own */
        uint64_t data_at = w->at + m.header_bytes + 4;
        m.header_bytes += 4 + (VX_ZIP_ALIGN - data_at % VX_ZIP_ALIGN) % VX_ZIP_ALIGN;
    } else {
        memset(&w->z, 0, sizeof w->z);
        /* raw deflate: a zip member has no zlib header */
        if (deflateInit2(&w->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8,
                         Z_DEFAULT_STRATEGY) != Z_OK) {
            return vx_fail(err, VX_E_NOMEM, NULL, "no memory to compress %s", name);
        }
    }
    w->m = m;
    w->inside = true;
    w->at += m.header_bytes;
    return VX_OK;
}

static int deflate_some(struct vx_zip_writer *w, int flush, struct vx_err *err) {
    int state = Z_OK;
    do {
        w->z.next_out = w->piece;
        w->z.avail_out = PIECE;
        state = deflate(&w->z, flush);
        size_t n = PIECE - w->z.avail_out;
        int rc = append(w, w->piece, n, err);
        if (rc != VX_OK) {
            return rc;
        }
        w->m.packed += n;
    } while (flush == Z_FINISH ? state != Z_STREAM_END : w->z.avail_out == 0);
    return VX_OK;
}

int vx_zip_put(struct vx_zip_writer *w, const void *data, size_t size, struct vx_err *err) {
    struct member *m = &w->m;
    if (!w->inside || size > m->size - m->put) {
        return misuse(w, "more bytes than promised", err);
    }
    if (size == 0) { /* crc32_z would start again at a NULL */
        return VX_OK;
    }
    m->crc = crc32_z(m->crc, data, size);
    m->put += size;
    if (m->method == VX_ZIP_STORED) {
        m->packed += size;
        return append(w, data, size, err);
    }
    for (const unsigned char *p = data; size > 0;) {
        size_t n = size < PIECE ? size : PIECE;
        w->z.next_in = (unsigned char *)p; /* zlib does not write to it */
        w->z.avail_in = (uInt)n;
        int rc = deflate_some(w, Z_NO_FLUSH, err);
        if (rc != VX_OK) {
            return rc;
        }
        p += n;
        size -= n;
    }
    return VX_OK;
}

static int write_local(struct vx_zip_writer *w, struct vx_err *err) {
    const struct member *m = &w->m;
    unsigned char h[ZIP_LOCAL_BYTES + VX_ZIP_MAX_NAME + EXTRA64_BYTES + 4 + VX_ZIP_ALIGN];
    size_t len = strlen(m->name), extra = m->header_bytes - ZIP_LOCAL_BYTES - len;
    unsigned char *p = zip_put32(h, ZIP_LOCAL);
    p = zip_put16(p, m->big ? ZIP_VERSION64 : ZIP_VERSION);
    p = zip_put16(p, ZIP_FLAG_UTF8);
    p = zip_put16(p, m->method);
    p = zip_put16(zip_put16(p, 0), ZIP_1980);
    p = zip_put32(p, (uint32_t)m->crc);
    p = zip_put32(p, m->big ? ZIP_MASK32 : (uint32_t)m->packed);
    p = zip_put32(p, m->big ? ZIP_MASK32 : (uint32_t)m->put);
    p = zip_put16(p, (unsigned)len);
    p = zip_put16(p, (unsigned)extra);
    memcpy(p, m->name, len);
    p += len;
    if (m->big) {
        p = zip_put16(zip_put16(p, ZIP_EXTRA64), 16);
        p = zip_put64(zip_put64(p, m->put), m->packed);
        extra -= EXTRA64_BYTES;
    }
    if (extra > 0) {
        p = zip_put16(zip_put16(p, ZIP_EXTRA_PAD), (unsigned)extra - 4);
        memset(p, 'Z', extra - 4);
    }
    return write_at(w, h, m->header_bytes, m->header_at, err);
}

static void list_member(struct vx_zip_writer *w) {
    const struct member *m = &w->m;
    unsigned char h[ZIP_CENTRAL_BYTES], x[4 + 24];
    bool far = m->header_at >= ZIP_MASK32;
    size_t extra = m->big || far ? 4 + (m->big ? 16 : 0) + (far ? 8 : 0) : 0;
    unsigned version = extra > 0 ? ZIP_VERSION64 : ZIP_VERSION;
    unsigned char *p = zip_put32(h, ZIP_CENTRAL);
    p = zip_put16(zip_put16(p, version), version);
    p = zip_put16(p, ZIP_FLAG_UTF8);
    p = zip_put16(p, m->method);
    p = zip_put16(zip_put16(p, 0), ZIP_1980);
    p = zip_put32(p, (uint32_t)m->crc);
    p = zip_put32(p, m->big ? ZIP_MASK32 : (uint32_t)m->packed);
    p = zip_put32(p, m->big ? ZIP_MASK32 : (uint32_t)m->put);
    p = zip_put16(p, (unsigned)strlen(m->name));
    p = zip_put16(p, (unsigned)extra);
    p = zip_put16(zip_put16(zip_put16(p, 0), 0), 0); /* comment, disk, internal attributes */
    p = zip_put32(p, 0);                             /* external attributes */
    zip_put32(p, far ? ZIP_MASK32 : (uint32_t)m->header_at);
    p = zip_put16(zip_put16(x, ZIP_EXTRA64), (unsigned)extra - 4);
    if (m->big) {
        p = zip_put64(zip_put64(p, m->put), m->packed);
    }
    if (far) {
        zip_put64(p, m->header_at);
    }
    vx_buf_add(&w->directory, h, sizeof h);
    vx_buf_add(&w->directory, m->name, strlen(m->name));
    vx_buf_add(&w->directory, x, extra);
    w->n++;
}

int vx_zip_end(struct vx_zip_writer *w, struct vx_err *err) {
    int rc = VX_OK;
    if (!w->inside || w->m.put != w->m.size) {
        return misuse(w, "fewer bytes than promised", err);
    }
    if (w->m.method == VX_ZIP_DEFLATED) {
        w->z.avail_in = 0;
        rc = deflate_some(w, Z_FINISH, err);
        deflateEnd(&w->z);
    }
    w->inside = false;
    if (rc == VX_OK) {
        rc = write_local(w, err);
    }
    if (rc == VX_OK) {
        list_member(w);
    }
    return rc;
}

int vx_zip_add(struct vx_zip_writer *w, const char *name, const void *data, size_t size,
               enum vx_zip_method method, struct vx_err *err) {
    int rc = vx_zip_begin(w, name, size, method, err);
    if (rc == VX_OK) {
        rc = vx_zip_put(w, data, size, err);
    }
    return rc == VX_OK ? vx_zip_end(w, err) : rc;
}

/* The ZIP64 records are written always: PyTorch does so too, and every reader knows them. */
static int write_directory(struct vx_zip_writer *w, struct vx_err *err) {
    uint64_t at = w->at, bytes = w->directory.len, end64 = at + bytes;
    unsigned char h[ZIP_END64_BYTES + ZIP_LOCATOR64_BYTES + ZIP_END_BYTES];
    unsigned char *p = zip_put32(h, ZIP_END64);
    p = zip_put64(p, ZIP_END64_BYTES - 12);
    p = zip_put16(zip_put16(p, ZIP_VERSION64), ZIP_VERSION64);
    p = zip_put32(zip_put32(p, 0), 0);
    p = zip_put64(zip_put64(p, w->n), w->n);
    p = zip_put64(zip_put64(p, bytes), at);
    p = zip_put32(p, ZIP_LOCATOR64);
    p = zip_put32(p, 0);
    p = zip_put64(p, end64);
    p = zip_put32(p, 1);
    unsigned n16 = w->n < ZIP_MASK16 ? (unsigned)w->n : ZIP_MASK16;
    p = zip_put32(p, ZIP_END);
    p = zip_put16(zip_put16(p, 0), 0);
    p = zip_put16(zip_put16(p, n16), n16);
    p = zip_put32(p, bytes < ZIP_MASK32 ? (uint32_t)bytes : ZIP_MASK32);
    p = zip_put32(p, at < ZIP_MASK32 ? (uint32_t)at : ZIP_MASK32);
    zip_put16(p, 0);
    int rc = append(w, w->directory.data, w->directory.len, err);
    return rc == VX_OK ? append(w, h, sizeof h, err) : rc;
}

int vx_zip_commit(struct vx_zip_writer *w, struct vx_err *err) {
    if (w->inside) {
        return misuse(w, "is still being written", err);
    }
    if (w->directory.failed) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the directory of %s", w->path);
    }
    int rc = write_directory(w, err);
    if (rc == VX_OK) {
        rc = vx_rename_durable(w->tmp, w->path, err);
    }
    if (rc == VX_OK) {
        free(w->tmp);
        w->tmp = NULL;
    }
    return rc;
}
