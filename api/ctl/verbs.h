/* voxelctl's verbs: each asks the daemon and prints for people, or the reply's JSON with --json.
 * args: as many as its row of the table in main.c names. Return the exit status: 0, or 1 refused or
 * failed, said on stderr. */
#ifndef VX_CTL_VERBS_H
#define VX_CTL_VERBS_H

#include "client.h"

struct context {
    struct vx_ctl_client *client;
    bool json;
};

/* ask.c. The reply of a request that must have succeeded (new reference); NULL after complaining.
 * method: NULL is a GET, or a POST where there is a body. */
json_t *ask(struct context *x, const char *method, const char *path, const char *body);
/* A member that is text; "" where it is none. Borrowed. */
const char *text_of(const json_t *o, const char *key);
void print_json(const json_t *value);

/* jobs.c */
int verb_submit(struct context *x, char **args);
int verb_list(struct context *x, char **args);
int verb_show(struct context *x, char **args);
int verb_watch(struct context *x, char **args);
int verb_cancel(struct context *x, char **args);
int verb_datasets(struct context *x, char **args);
int verb_register(struct context *x, char **args);

/* tune.c */
int verb_why(struct context *x, char **args);
int verb_tuning(struct context *x, char **args);
int verb_turn(struct context *x, char **args);
int verb_revert(struct context *x, char **args);

#endif
