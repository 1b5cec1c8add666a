/* The command line of voxeld predict. Thread: main thread. */
#ifndef VX_DAEMON_ROLES_PREDICT_ARGS_H
#define VX_DAEMON_ROLES_PREDICT_ARGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct vx_err;

#define VX_PREDICT_MAX_FOLDS 32

struct vx_predict_args {
    const char *input, *output; /* inside argv, like all pointers but the owned ones */
    char *model;                /* owned; the model's folder */
    char *folds_text;           /* owned; folds point into it */
    const char *folds[VX_PREDICT_MAX_FOLDS];
    size_t n_folds; /* 0: all there are */
    const char *checkpoint, *device, *precision;
    double step;
    bool no_mirroring, probabilities, keep;
    int threads; /* 0: as many as this process may use */
};

/* 0: *ret is filled. Otherwise the exit status is *ret_status: help was asked for (0), wrong usage
 * (2), both said to the user; or 1 with err, to be said. */
int vx_predict_args_read(int argc, char **argv, struct vx_predict_args *ret, int *ret_status,
                         struct vx_err *err);
void vx_predict_args_release(struct vx_predict_args *a);

#endif
