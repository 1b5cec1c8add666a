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

struct vx_store;

struct vx_rendered {
    int64_t id;       /* of the job; 0: empty */
    uint64_t commits; /* of the store, before the document was made */
    uint64_t made_ns;
    char *text; /* owned */
    size_t len;
    char tag[24];
};

/* NULL where there is none that is still true; otherwise borrowed until the next put. *ret_commits
 * is what vx_rendered_put wants. */
const struct vx_rendered *vx_rendered_find(struct vx_rendered *all, struct vx_store *store,
                                           int64_t id, uint64_t *ret_commits);
/* Takes text (malloc'ed, len bytes) over. commits: from vx_rendered_find before the document was
 * made. */
const struct vx_rendered *vx_rendered_put(struct vx_rendered *all, int64_t id, uint64_t commits,
                                          char *text, size_t len, const char *tag);
void vx_rendered_release(struct vx_rendered *all);

#endif
