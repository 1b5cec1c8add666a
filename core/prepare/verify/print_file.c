/* File of a case's fingerprint: header, then per channel its number of values, the values, the
 * cumulative counts. Native byte order and layout; the magic number tells. */
#include "prepare/extract.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "plan/dataset.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define MAGIC     0x31544e5250585600u
#define MAX_BYTES ((size_t)8 << 30)

struct header {
    uint64_t magic;
    double spacing[3];
    int64_t shape[3], shape_crop[3];
    double relative_size;
    int64_t n_foreground, n_channels;
};

int vx_case_print_save(const char *path, const struct vx_case_print *p, struct vx_err *err) {
    struct header h = {.magic = MAGIC,
                       .relative_size = p->relative_size,
                       .n_foreground = p->n_foreground,
                       .n_channels = p->n_channels};
    memcpy(h.spacing, p->spacing, sizeof h.spacing);
    memcpy(h.shape, p->shape, sizeof h.shape);
    memcpy(h.shape_crop, p->shape_crop, sizeof h.shape_crop);
    struct vx_buf b = VX_BUF_INIT;
    vx_buf_add(&b, &h, sizeof h);
    for (int c = 0; c < p->n_channels; c++) {
        uint64_t n = p->draws[c].n;
        vx_buf_add(&b, &n, sizeof n);
        if (n > 0) {
            vx_buf_add(&b, p->draws[c].values, n * sizeof *p->draws[c].values);
            vx_buf_add(&b, p->draws[c].cumulative, n * sizeof *p->draws[c].cumulative);
        }
    }
    int rc = b.failed ? vx_fail(err, VX_E_NOMEM, NULL, "no memory for %s", path)
                      : vx_write_file_atomic(path, b.data, b.len, 0644, err);
    vx_buf_release(&b);
    return rc;
}

/* A reader that knows what is left. */
struct source {
    const char *at;
    size_t left;
};

static bool take(struct source *s, void *dst, size_t len) {
    if (len > s->left) {
        return false;
    }
    memcpy(dst, s->at, len);
    s->at += len;
    s->left -= len;
    return true;
}

static bool draws_sane(const struct vx_draws *d) {
    for (size_t i = 0; i < d->n; i++) {
        if (!isfinite(d->values[i]) ||
            (i > 0 &&
             (!(d->values[i] > d->values[i - 1]) || d->cumulative[i] <= d->cumulative[i - 1])) ||
            d->cumulative[i] == 0) {
            return false;
        }
    }
    return true;
}

/* VX_OK, VX_E_CORRUPT or VX_E_NOMEM. */
static int take_draws(struct source *s, struct vx_draws *d) {
    uint64_t n;
    if (!take(s, &n, sizeof n) || n > s->left / (sizeof *d->values + sizeof *d->cumulative)) {
        return VX_E_CORRUPT;
    }
    if (n == 0) {
        return VX_OK;
    }
    d->n = (size_t)n;
    d->values = malloc(d->n * sizeof *d->values);
    d->cumulative = malloc(d->n * sizeof *d->cumulative);
    if (!d->values || !d->cumulative) {
        return VX_E_NOMEM;
    }
    take(s, d->values, d->n * sizeof *d->values);
    take(s, d->cumulative, d->n * sizeof *d->cumulative);
    return draws_sane(d) ? VX_OK : VX_E_CORRUPT;
}

static bool header_sane(const struct header *h) {
    bool good = h->magic == MAGIC && h->n_channels >= 1 && h->n_channels <= VX_MAX_CHANNELS &&
                h->n_foreground >= 0 && h->relative_size > 0 && h->relative_size <= 1;
    for (int a = 0; a < 3; a++) {
        good = good && isfinite(h->spacing[a]) && h->spacing[a] > 0 && h->shape_crop[a] >= 1 &&
               h->shape_crop[a] <= h->shape[a] && h->shape[a] <= INT32_MAX;
    }
    return good;
}

int vx_case_print_load(const char *path, struct vx_case_print *ret, struct vx_err *err) {
    vx_auto_free char *data = NULL;
    size_t len = 0;
    int rc = vx_read_file(path, MAX_BYTES, &data, &len, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct source s = {data, len};
    struct header h;
    struct vx_case_print p = {0};
    rc = take(&s, &h, sizeof h) && header_sane(&h) ? VX_OK : VX_E_CORRUPT;
    if (rc == VX_OK) {
        p.n_channels = (int)h.n_channels;
        p.relative_size = h.relative_size;
        p.n_foreground = h.n_foreground;
        memcpy(p.spacing, h.spacing, sizeof p.spacing);
        memcpy(p.shape, h.shape, sizeof p.shape);
        memcpy(p.shape_crop, h.shape_crop, sizeof p.shape_crop);
        p.draws = calloc((size_t)p.n_channels, sizeof *p.draws);
        rc = p.draws ? VX_OK : VX_E_NOMEM;
    }
    for (int c = 0; c < p.n_channels && rc == VX_OK; c++) {
        rc = take_draws(&s, &p.draws[c]);
    }
    rc = rc == VX_OK && s.left != 0 ? VX_E_CORRUPT : rc;
    if (rc != VX_OK) {
        vx_case_print_release(&p);
        vx_fail(err, rc, "bad_fingerprint_file", "%s is not a whole fingerprint of a case", path);
        vx_err_at(err, "%s", path);
        return rc;
    }
    *ret = p;
    return VX_OK;
}
