/* Job documents as text, kept for as long as they are true: many clients poll the same job, and
 * making the document (SQL, parsing the stored JSON, live progress, digest) costs far more than
 * sending it.
 *
 * A text is used again while nothing has been committed since it was made and it is younger than
 * VX_RENDERED_MS, the interval at which live progress changes. So a client always reads its own
 * writes. Thread: loop. */
#ifndef VX_API_RENDERED_H
#define VX_API_RENDERED_H

#include <stddef.h>
#include <stdint.h>

#define VX_RENDERED    16  /* jobs kept; the place is the id modulo this */
#define VX_RENDERED_MS 100 /* telemetry samples at 10 Hz */

struct vx_db;

struct vx_rendered {
    int64_t id; /* of the job; 0: empty */
    int64_t data_version;
    uint64_t made_ns;
    char *text; /* owned */
    size_t len;
    char tag[24];
};

/* NULL where there is none that is still true; otherwise borrowed until the next put. *ret_version
 * is what vx_rendered_put wants; -1 where it could not be read (nothing is kept then). */
const struct vx_rendered *vx_rendered_find(struct vx_rendered *all, struct vx_db *reader,
                                           int64_t id, int64_t *ret_version);
/* Takes text (malloc'ed, len bytes) over. version: from vx_rendered_find before the document was
 * made. */
const struct vx_rendered *vx_rendered_put(struct vx_rendered *all, int64_t id, int64_t version,
                                          char *text, size_t len, const char *tag);
void vx_rendered_release(struct vx_rendered *all);

#endif
