/* What the files of the CUDA backend share: device, state, and a program being built and run.
 *
 * Compiling goes: tensors.c decides what is needed, build.c walks the op list, forward and
 * backward, and appends steps, each one call of the table in api.h; the buffers they touch are
 * placed by the steps in which they are used (device/span.h). Running puts the steps on the compute
 * stream, by hand the first time, then as one CUDA graph. Activations: bfloat16
 * [N][voxel][channels], padded to multiples of 8. */
#ifndef VX_DEVICE_CUDA_INTERNAL_H
#define VX_DEVICE_CUDA_INTERNAL_H

#include "device/cuda/api.h"
#include "device/device.h"
#include "device/oplist.h"
#include "device/span.h"

enum { CUDA_MAX_LOCKED = 4 };

struct cuda_device {
    struct vx_device base;
    const struct cuda_api *api; /* borrowed, outlives the device */
    void *engine;               /* owned; of api->open */
    int index;
    struct vx_device_info info;
    struct CUstream_st *compute, *transfer, *clock;
    struct CUevent_st *now; /* on clock, which nothing else uses */
    void *locked[CUDA_MAX_LOCKED];
    int n_locked;
    bool eager; /* no graphs: VOXELD_CUDA_EAGER */
};

/* Where a parameter lies. */
struct cuda_place {
    struct vx_cuda_filter filter; /* taps 0: a vector */
    bool trained;
    int64_t at;      /* in weights and momenta */
    int64_t copy_at; /* in copies; -1: a vector */
    int64_t grad_at; /* in filter_grads or vector_grads; -1: not trained */
};

struct cuda_state {
    struct vx_state base;
    struct cuda_device *device; /* borrowed, outlives the state */
    int n_params;
    struct vx_param *params; /* own copy */
    struct cuda_place *places;
    int64_t n_filters, n_vectors; /* trained */
    int64_t n_all, n_copies;      /* with those that are not */
    void *memory;                 /* owned; all of the below */
    float *weights, *momenta, *vector_grads, *staging;
    uint16_t *copies, *filter_grads;
};

enum { CUDA_MAX_GRADS = 6, CUDA_ALWAYS = 1 << 30, CUDA_MAX_USES = 8 };

/* Bytes inside a buffer of the arena; for tensors, pitch is the distance of voxels in elements. */
struct cuda_view {
    int buffer; /* -1: none */
    size_t offset;
    int64_t pitch;
};

#define CUDA_NO_VIEW ((struct cuda_view){.buffer = -1})

struct cuda_tensor {
    int n, c, padded;
    int64_t voxels; /* of one sample */
    bool needed, wants_grad, is_logits;
    int readers;              /* needed ops that read it, a concatenation left out */
    int norms;                /* those of them that normalise it */
    int concat, concat_input; /* the op that concatenates it and as which input; -1: none */
    struct cuda_view value;   /* what ops other than concatenations read */
    struct cuda_view slice;   /* its place in a concatenation */
    int n_grads;              /* gradients to be added up, one per reader */
    struct cuda_view grads[CUDA_MAX_GRADS];
};

struct cuda_program;

/* One call of the table. */
struct cuda_step {
    char name[48];
    int (*run)(struct cuda_program *p, const void *data);
    void *data; /* belongs to the program's list of allocations */
};

/* Device copies of one run's ring slots. */
struct cuda_slot {
    struct cuda_view images, labels;
    struct CUevent_st *copied, *consumed;
};

/* What crosses the bus besides: page-locked. */
struct cuda_mail {
    struct vx_cuda_result result;
    float rate;
};

struct cuda_program {
    struct vx_program base;
    struct cuda_device *device;
    struct cuda_state *state; /* borrowed, outlives the program */
    struct vx_oplist net;     /* own copy of the arrays */
    enum vx_mode mode;
    bool learning; /* TRAIN or GRADIENT */

    struct cuda_tensor *tensors;
    struct vx_span *buffers;
    struct cuda_step *steps;
    struct cuda_conv **convs;
    int n_buffers, n_steps, n_convs;
    void **allocations; /* freed with the program */
    int n_allocations;
    int step; /* under way; for the recording device */

    struct cuda_view workspace, conv_workspace, loss_workspace, result, rate, read_out;
    struct cuda_view targets[VX_MAX_HEADS];
    int heads[VX_MAX_HEADS]; /* indices in net.loss of those evaluated */
    int n_heads;

    unsigned char *arena; /* on the device */
    size_t arena_bytes;
    struct cuda_slot slots[2]; /* of ticket t in [t % 2] */
    struct cuda_mail *mail;    /* [2] */
    struct CUevent_st *done[2];
    struct CUgraphExec_st *graph;
    bool no_graph;   /* capturing failed: eager from then on */
    bool told_short; /* of memory for sums */
    uint64_t ticket;
};

/* backend.c */

/* The error of a call of the table: VX_E_NOMEM, VX_E_DEVICE "device_lost" where the process must
 * end, else VX_E_DEVICE. */
int cuda_fail(const struct cuda_device *d, int code, struct vx_err *err, const char *what);
bool cuda_is_sticky(int code);
/* First in every entry of the table: callers may change threads between calls. */
int cuda_enter(const struct cuda_device *d, struct vx_err *err);
int cuda_device_open(const struct cuda_api *api, const struct vx_device_api *table, int index,
                     const struct vx_device_options *options, struct vx_device **ret,
                     struct vx_err *err);
void cuda_device_close(struct vx_device *device);
void cuda_device_info(struct vx_device *device, struct vx_device_info *ret);
int cuda_use_memory(struct vx_device *device, void *memory, size_t bytes, struct vx_err *err);

/* state.c */
int cuda_state_create(struct vx_device *device, const struct vx_oplist *net, struct vx_state **ret,
                      struct vx_err *err);
void cuda_state_free(struct vx_state *state);
int cuda_state_upload(struct vx_state *state, int param, enum vx_state_part part, const float *src,
                      struct vx_err *err);
int cuda_state_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                        struct vx_err *err);

/* program.c: the lists, compiling, freeing. */
void *cuda_allocate(struct cuda_program *p, size_t bytes, struct vx_err *err);
int cuda_new_bytes(struct cuda_program *p, size_t bytes, struct cuda_view *ret, struct vx_err *err);
/* Room for the values of t, packed. */
int cuda_new_packed(struct cuda_program *p, const struct cuda_tensor *t, struct cuda_view *ret,
                    struct vx_err *err);
/* Keeps the buffer for the whole program. */
void cuda_keep(struct cuda_program *p, const struct cuda_view *view);
/* A step after all others; uses: the views it touches, CUDA_NO_VIEW is skipped. */
int cuda_add_step(struct cuda_program *p, const char *what, int op,
                  int (*run)(struct cuda_program *p, const void *data), void *data,
                  const struct cuda_view *uses, int n_uses, struct vx_err *err);
/* Makes a buffer that steps share at least that large. */
void cuda_need(struct cuda_program *p, const struct cuda_view *view, size_t bytes);
void *cuda_at(const struct cuda_program *p, const struct cuda_view *view);
struct vx_cuda_view cuda_tensor_at(const struct cuda_program *p, const struct cuda_view *view);
int cuda_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                 enum vx_precision precision, struct vx_program **ret, struct vx_err *err);
void cuda_program_free(struct vx_program *program);
size_t cuda_program_memory(struct vx_program *program);

/* arena.c: places the buffers and takes the memory. */
int cuda_make_arena(struct cuda_program *p, struct vx_err *err);

/* tensors.c */
int cuda_plan_tensors(struct cuda_program *p, struct vx_err *err);

/* build.c */
int cuda_build(struct cuda_program *p, struct vx_err *err);
/* Makes room for t where its readers want it: t->value, and t->slice in a concatenation. */
int cuda_place_tensor(struct cuda_program *p, struct cuda_tensor *t, struct vx_err *err);
int cuda_add_grad(struct cuda_program *p, int tensor, const struct cuda_view *view,
                  struct vx_err *err);
bool cuda_is_packed(const struct cuda_tensor *t, const struct cuda_view *view);
bool cuda_trained(const struct cuda_program *p, int param);

/* layers.c: steps of each kind of op. */
int cuda_conv_forward(struct cuda_program *p, int op, struct vx_err *err);
int cuda_conv_backward(struct cuda_program *p, int op, struct vx_err *err);
int cuda_transpose_forward(struct cuda_program *p, int op, struct vx_err *err);
int cuda_transpose_backward(struct cuda_program *p, int op, struct vx_err *err);
/* norm.c; *moments goes from forward to backward. */
int cuda_norm_forward(struct cuda_program *p, int op, struct cuda_view *moments,
                      struct vx_err *err);
int cuda_norm_backward(struct cuda_program *p, int op, const struct cuda_view *moments,
                       struct vx_err *err);
/* moves.c: dst = src (+ bias of op); the sum of all gradients of a tensor as one packed view, with
 * the gradient of the bias (-1: none). */
int cuda_add_move(struct cuda_program *p, int op, const struct cuda_tensor *t, int bias,
                  const struct cuda_view *src, const struct cuda_view *dst, struct vx_err *err);
int cuda_merge_grads(struct cuda_program *p, int op, struct cuda_tensor *t, int bias,
                     struct vx_err *err);
/* loss.c: targets, loss, its gradient; optimizer; logits to read. */
int cuda_build_loss(struct cuda_program *p, struct vx_err *err);
int cuda_build_optimizer(struct cuda_program *p, struct vx_err *err);
/* Logits stay where they are when a run has ended, with room beside them for whoever reads them. */
int cuda_build_read_out(struct cuda_program *p, struct vx_err *err);
int cuda_load_targets(struct cuda_program *p, const struct cuda_slot *slot);
/* The finest logits' bias; NULL: none. */
const float *cuda_output_bias(const struct cuda_program *p);

/* run.c */
int cuda_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
             struct vx_err *err);
int cuda_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
              struct vx_err *err);
int cuda_read_logits(struct vx_program *program, float *dst, struct vx_err *err);
/* All steps on the compute stream, as a graph where there is one. *ret_name: what failed. */
int cuda_run_network(struct cuda_program *p, const char **ret_name);

/* sums.c */
int cuda_sums_begin(struct vx_program *program, const int64_t volume[3],
                    const float *const importance[3], struct vx_sums **ret, struct vx_err *err);
int cuda_sums_image(struct vx_sums *sums, const float *image, struct vx_err *err);
int cuda_sums_add(struct vx_sums *sums, const struct vx_tile *tiles, int n, struct vx_err *err);
int cuda_sums_read(struct vx_sums *sums, const float *const weights[3], float passes, float *dst,
                   bool *ret_finite, struct vx_err *err);
void cuda_sums_free(struct vx_sums *sums);

#endif
