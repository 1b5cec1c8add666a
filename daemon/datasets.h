/* Registration of data sets: finding their folder beneath the configured root, and checking them in
 * a child process
 * (`voxeld verify`), one at a time. Thread: loop thread. */
#ifndef VX_DAEMON_DATASETS_H
#define VX_DAEMON_DATASETS_H

#include <stddef.h>

struct vx_children;
struct vx_datasets;
struct vx_db;
struct vx_err;
struct vx_post;
struct vx_store;

struct vx_datasets_options {
    const char *root; /* folder of DatasetXXX_Name folders; all borrowed */
    struct vx_store *store;
    struct vx_post *post;
    struct vx_db *reader;
    struct vx_children *children;
    void (*changed)(void *ctx); /* a data set became ready or invalid, durably */
    void *ctx;
};

struct vx_datasets *vx_datasets_create(const struct vx_datasets_options *options,
                                       struct vx_err *err);
/* Accepts NULL; no child may be running any more. */
void vx_datasets_free(struct vx_datasets *d);

/* The folder of data set `name`: ROOT/NAME, or `asked` (NULL: not asked; relative to ROOT or
 * absolute beneath it). Resolved without leaving ROOT, also not through links. VX_E_NOT_FOUND
 * "unknown_dataset", VX_E_PERM "outside_root", VX_E_INVALID "dataset_name". */
int vx_datasets_locate(const struct vx_datasets *d, const char *name, const char *asked,
                       char *ret_path, size_t size, struct vx_err *err);
/* Checks the data set soon; its state in the store is registering. */
void vx_datasets_check(struct vx_datasets *d, const char *name);
/* At start: checks what a stopped daemon left in state registering. */
void vx_datasets_resume(struct vx_datasets *d);
/* Starts no further check. */
void vx_datasets_drain(struct vx_datasets *d);

#endif
