#include "api/rendered.h"

#include "base/clock.h"
#include "db/store.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

const struct vx_rendered *vx_rendered_find(struct vx_rendered *all, struct vx_store *store,
                                           int64_t id, uint64_t *ret_commits) {
    *ret_commits = vx_store_commits(store);
    const struct vx_rendered *r = &all[id % VX_RENDERED];
    bool true_still = r->text && r->id == id && r->commits == *ret_commits &&
                      vx_now_ns() - r->made_ns < VX_RENDERED_MS * 1000000ull;
    return true_still ? r : NULL;
}

const struct vx_rendered *vx_rendered_put(struct vx_rendered *all, int64_t id, uint64_t commits,
                                          char *text, size_t len, const char *tag) {
    struct vx_rendered *r = &all[id % VX_RENDERED];
    free(r->text);
    *r = (struct vx_rendered){
        .id = id, .commits = commits, .made_ns = vx_now_ns(), .text = text, .len = len};
    snprintf(r->tag, sizeof r->tag, "%s", tag);
    return r;
}

void vx_rendered_release(struct vx_rendered *all) {
    for (int i = 0; i < VX_RENDERED; i++) {
        free(all[i].text);
        all[i] = (struct vx_rendered){0};
    }
}
