/* Looking at a whole raw data set: integrity of every case, fingerprint, plans. Behind verify, plan
 * and train. Thread: main thread of a role. */
#ifndef VX_DAEMON_ROLES_EXAMINE_H
#define VX_DAEMON_ROLES_EXAMINE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

struct vx_err;

struct vx_examination {
    bool valid;
    char code[48], message[512]; /* the first error where it is not valid */
    json_t *report;              /* all four owned; the last two NULL where not valid */
    json_t *dataset_json;
    json_t *fingerprint;
    json_t *plans;
};

/* threads 0: every schedulable core. say_progress: "progress" lines on stdout. VX_E_CANCELLED where
 * *stop was set. */
int vx_examine(const char *raw_dir, int threads, bool say_progress, const atomic_bool *stop,
               struct vx_examination *ret, struct vx_err *err);
void vx_examination_release(struct vx_examination *x);

#endif
