/* Registered data sets: where they lie, what the integrity check said, fingerprint and plans. */
#ifndef VX_DB_DATASET_H
#define VX_DB_DATASET_H

#include <stddef.h>
#include <stdint.h>

struct vx_db;
struct vx_err;

enum vx_dataset_state {
    VX_DATASET_REGISTERING,
    VX_DATASET_READY,
    VX_DATASET_INVALID,
    VX_DATASET_STATES
};
/* "registering", "ready", "invalid"; NULL for a number that is none. */
const char *vx_dataset_state_word(enum vx_dataset_state state);

struct vx_dataset {
    char name[128]; /* DatasetXXX_Name */
    enum vx_dataset_state state;
    char path[1024];      /* the raw folder */
    char reason_code[48]; /* set where invalid */
    char reason_message[512];
    int64_t created_ms, updated_ms;
    int64_t version;   /* grows with every change of the row */
    char *report;      /* integrity report, JSON; owned; NULL until there is one */
    char *fingerprint; /* JSON; owned; NULL until there is one */
    char *plans;       /* JSON; owned; NULL until there is one */
};
void vx_dataset_release(struct vx_dataset *dataset);

struct vx_dataset_list {
    struct vx_dataset *v; /* owned; report, fingerprint and plans are left NULL */
    size_t n;
};
void vx_dataset_list_release(struct vx_dataset_list *list);

/* A new data set in state registering, or one that is ready or invalid put back there for another
 * check. One that is registering already is left alone, VX_E_EXISTS "already_registering". */
int vx_db_dataset_register(struct vx_db *db, const char *name, const char *path,
                           struct vx_err *err);

struct vx_dataset_change {
    enum vx_dataset_state state;
    const char *reason_code, *reason_message; /* NULL: empty */
    const char *report, *fingerprint, *plans; /* JSON; NULL leaves what is stored */
};
/* VX_E_NOT_FOUND "dataset_not_found". Writes an event of type "dataset". */
int vx_db_dataset_update(struct vx_db *db, const char *name, const struct vx_dataset_change *change,
                         struct vx_err *err);

/* Reads. VX_E_NOT_FOUND "dataset_not_found". Release *ret. */
int vx_db_dataset_get(struct vx_db *db, const char *name, struct vx_dataset *ret,
                      struct vx_err *err);
/* Reads. In order of name, names > after only (NULL: from the start), at most limit (1 to 1000).
 * Release *ret. */
int vx_db_dataset_list(struct vx_db *db, const char *after, int limit, struct vx_dataset_list *ret,
                       struct vx_err *err);

#endif
