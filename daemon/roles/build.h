/* Building the prepared store of a data set for one plan: cases side by side, what is there already
 * is kept, one owner at a time. Behind prepare and train. Thread: main thread of a role. */
#ifndef VX_DAEMON_ROLES_BUILD_H
#define VX_DAEMON_ROLES_BUILD_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

struct vx_err;

struct vx_build {
    const char *raw_dir;
    const char
        *dataset_dir;    /* in the preprocessed root; the store becomes DATASET_DIR/voxeld/KEY */
    const json_t *plans; /* plans.json */
    const char *configuration;
    int threads;             /* cases side by side; 0: every schedulable core */
    const atomic_bool *stop; /* VX_E_CANCELLED; what is whole stays */
};

/* Says "progress" {done, total} lines. Waits while another process builds the same store.
 * *ret_store: its folder, caller frees. */
int vx_build_store(const struct vx_build *b, char **ret_store, struct vx_err *err);
/* Makes one case of a complete store again where it is damaged, byte for byte as it was
 * (cache/build.h, vx_cache_build_repair); *ret_made: it was. No other case is touched. */
int vx_build_repair(const struct vx_build *b, const char *case_name, bool *ret_made,
                    struct vx_err *err);

#endif
