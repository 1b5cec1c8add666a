/* Convolutions through cuDNN's backend graph API. Private to device/cuda; needs no GPU to plan: a
 * context is either a device or a device's profile, and with a profile everything but running
 * works.
 *
 * A convolution is told once, in its forward form, and planned in three directions over the same
 * tensors: x [N][D][H][W][in_channels], w [out_channels][kernel][in_channels], y
 * [N][D'][H'][W'][out_channels], all of one 16-bit type, packed, 16-byte aligned; sums are fp32. A
 * transposed convolution is the DATA direction of the convolution that its gradient is.
 *
 * Plans come from heuristics mode A, then from the fallback list. One is fit (dnn_fitness) when it
 * gives the same bits each time, unless that is not asked for, wants no more workspace than
 * allowed, runs on tensor cores, and none of its workspace can be a repacked copy of a tensor.
 * Where no plan is, one that copies or one without tensor cores is taken: slow and right. Threads:
 * one at a time per context. */
#ifndef VX_DEVICE_CUDA_DNN_H
#define VX_DEVICE_CUDA_DNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct CUstream_st;

enum dnn_direction { DNN_FORWARD, DNN_DATA, DNN_WEIGHTS };
enum dnn_type { DNN_BF16, DNN_FP16 };

struct dnn_conv {
    int n, in_channels, out_channels;
    int in[3], kernel[3], stride[3], pad[3];
};

struct dnn;

struct dnn_plan {
    void *desc;           /* finalised execution plan; owned */
    int64_t engine;       /* cuDNN's number of the engine */
    int rank;             /* place in the heuristics' order, fallbacks last */
    bool fallback;        /* not from mode A */
    bool tensor_core;     /* the engine's note says so */
    bool varying;         /* the engine's note says that results differ from run to run */
    bool compiled;        /* the engine's note says that its kernel is compiled here and now */
    size_t workspace;     /* bytes, at most */
    size_t split;         /* of them explained by partial sums of a split reduction */
    double ms;            /* as measured; negative: not */
    int64_t checked_with; /* the engine whose result agreed; negative: none */
};

/* The less the better; from DNN_WORKSPACE_TOO_LARGE on a plan is never taken. */
enum dnn_fitness {
    DNN_FIT,
    DNN_HIDDEN_COPY, /* workspace that could hold a repacked x or y */
    DNN_NO_TENSOR_CORES,
    DNN_WORKSPACE_TOO_LARGE,
    DNN_VARYING, /* not repeatable */
};

struct dnn_rules {
    size_t workspace; /* bytes a plan may ask for */
    bool varying;     /* results may differ from run to run */
};

/* A number in one of the types: of one that the type holds exactly and that is normal or zero, and
 * of any bits. */
uint16_t dnn_number(enum dnn_type type, float value);
double dnn_value(enum dnn_type type, uint16_t bits);

/* 90200 for 9.2.0. */
size_t dnn_version(void);
const char *dnn_direction_name(enum dnn_direction direction);
int dnn_out_size(const struct dnn_conv *c, int axis);
/* Elements of x, w and y. */
int64_t dnn_x_elements(const struct dnn_conv *c);
int64_t dnn_w_elements(const struct dnn_conv *c);
int64_t dnn_y_elements(const struct dnn_conv *c);

/* profile: cuDNN's device properties as JSON, e.g. profiles/h200.json. */
int dnn_open_profile(const char *profile, enum dnn_type type, struct dnn **ret, struct vx_err *err);
/* The current CUDA device; what it is called and how many multiprocessors it has is what its plans
 * are kept under. */
int dnn_open_device(const char *model, int processors, enum dnn_type type, struct dnn **ret,
                    struct vx_err *err);
/* Accepts NULL. */
void dnn_close(struct dnn *d);
/* Lists plans of engines that compile their kernel at run time too. With a driver, cuDNN 9.19 has
 * one for every forward convolution; a plan of it takes one to two seconds, hundreds of times what
 * another does. */
void dnn_allow_compiled(struct dnn *d);
/* The device's properties as JSON; the caller frees. */
int dnn_profile(struct dnn *d, char **ret, struct vx_err *err);

/* All plans that finalise, in the heuristics' order; VX_E_UNSUPPORTED where there is none. The
 * caller frees the list. */
int dnn_list(struct dnn *d, const struct dnn_conv *c, enum dnn_direction direction,
             struct dnn_plan **ret, int *ret_n, struct vx_err *err);
void dnn_list_free(struct dnn_plan *list, int n);
void dnn_plan_release(struct dnn_plan *plan);
enum dnn_fitness dnn_fitness(const struct dnn_plan *plan, const struct dnn_conv *c,
                             const struct dnn_rules *rules);
/* Of the best plan of a list; only its equals are tried and taken. */
enum dnn_fitness dnn_best_fitness(const struct dnn_plan *list, int n, const struct dnn_conv *c,
                                  const struct dnn_rules *rules);

/* A plan as text and back, for the same cuDNN and device model. The caller frees *ret. */
int dnn_plan_to_json(const struct dnn_plan *plan, char **ret, struct vx_err *err);
int dnn_plan_from_json(struct dnn *d, const char *json, void **ret_desc, struct vx_err *err);

/* store.c: plans that were chosen, one file each under dir, named after what they are for: device
 * model, direction, shape, type and cuDNN's version. */
int dnn_store_put(struct dnn *d, const char *dir, const struct dnn_conv *c,
                  enum dnn_direction direction, const struct dnn_plan *plan, struct vx_err *err);
/* VX_E_NOT_FOUND where none is kept; VX_E_CORRUPT where it cannot be used. */
int dnn_store_get(struct dnn *d, const char *dir, const struct dnn_conv *c,
                  enum dnn_direction direction, struct dnn_plan *ret, struct vx_err *err);

/* choose.c: which plan to take. measure: milliseconds of one run into output `which` (0 or 1), or
 * negative; differ: how far the last outputs 0 and 1 lie apart, relative to the largest value. */
struct dnn_trial {
    void *self;
    double (*measure)(void *self, const struct dnn_plan *plan, int which);
    double (*differ)(void *self);
};
/* Moves the plan to take to the front. Of the fittest: without a trial the first by heuristics;
 * else the fastest whose result agrees with that of another engine (within tolerance), or of
 * another plan where there is one engine only. */
int dnn_choose(struct dnn_plan *list, int n, const struct dnn_conv *c, enum dnn_direction direction,
               const struct dnn_rules *rules, const struct dnn_trial *trial, double tolerance,
               struct vx_err *err);

/* run.c. Puts one run on the stream; allocates nothing after the first run with these pointers. */
struct dnn_pack; /* pointers bound to a plan; created by the first run */
int dnn_run(struct dnn *d, const struct dnn_plan *plan, void *const xwy[3], void *workspace,
            void **pack, struct CUstream_st *stream);
void dnn_pack_free(void *pack);
/* Before a stream that plans ran on is destroyed: the context would go on using it. */
void dnn_forget_stream(struct dnn *d);
const char *dnn_status_text(int status);

#endif
