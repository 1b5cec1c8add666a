/* The history of a training: one row per epoch. */
#ifndef VX_DB_EPOCH_H
#define VX_DB_EPOCH_H

#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

struct vx_epoch {
    int64_t job_id;
    int epoch;         /* from 0 */
    int64_t ts_ms;     /* end of the epoch */
    double train_loss; /* NaN in any of these is stored as NULL and shown as null */
    double val_loss;
    double ema; /* moving average of the pseudo Dice over classes */
    double lr;
    double seconds;     /* wall time, validation included */
    double loader_wait; /* wait for samples / wall time, 0 to 1 */
    char *dice;         /* JSON array: pseudo Dice per foreground class; owned; NULL: [] */
    char *phases;       /* JSON object: seconds per step phase; owned; NULL: {} */
};

struct vx_epoch_list {
    struct vx_epoch *v; /* owned */
    size_t n;
};
void vx_epoch_list_release(struct vx_epoch_list *list);

/* An epoch that is there already is replaced: a job resumed from a checkpoint does some again.
 * Writes an event of type "epoch" with the same figures. */
int vx_db_epoch_add(struct vx_db *db, const struct vx_epoch *epoch, struct vx_err *err);
/* Reads. Epochs >= from_epoch in order, at most limit (1 to 10000). */
int vx_db_epochs(struct vx_db *db, int64_t job_id, int from_epoch, int limit,
                 struct vx_epoch_list *ret, struct vx_err *err);

#endif
