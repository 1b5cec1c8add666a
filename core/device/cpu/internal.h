/* What the files of the CPU backend share: device, state, and a program being built and run.
 *
 * Compiling goes: tensors.c decides what is needed and where channels lie, build.c walks the op
 * list and lets conv.c, transpose.c, norm.c and loss.c append steps, arena.c places all buffers by
 * the steps in which they are used, bind.. of each primitive's memories follows. Running executes
 * the steps in order. Activations: [N][C / block][voxel][block]; see simd/kernels.h. */
#ifndef VX_DEVICE_CPU_INTERNAL_H
#define VX_DEVICE_CPU_INTERNAL_H

#include "device/cpu/simd/kernels.h"
#include "device/device.h"
#include "device/oplist.h"
#include "device/span.h"

#include <dnnl.h>

struct cpu_device {
    struct vx_device base;
    int threads;
    int block; /* channels per block: 16 or 8 */
    bool avx512, bf16;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

struct cpu_state {
    struct vx_state base;
    int n_params;
    struct vx_param *params;            /* own copy */
    float **weight, **momentum, **grad; /* [n_params], into slab */
    float *slab;                        /* owned */
    uint64_t version;                   /* counts changes of weights; programs repack when behind */
};

enum { CPU_MAX_SOURCES = 6, CPU_MAX_PARTS = 8, CPU_ALWAYS = 1 << 30 };

/* A tensor's bytes inside a buffer; samples may be further apart than they are long. */
struct cpu_view {
    int buffer;    /* -1: none */
    size_t offset; /* bytes, of sample 0 */
    size_t stride; /* bytes from sample to sample */
};

#define CPU_NO_VIEW ((struct cpu_view){.buffer = -1})

/* Logical channels [logical, logical + count) lie at physical, ... */
struct cpu_part {
    int logical, physical, count;
};

struct cpu_tensor {
    int n, c, size[3];
    size_t voxels;  /* of one sample */
    int channels;   /* physical: padded to blocks (parts of a concatenation each by itself) */
    size_t element; /* bytes of a value */
    bool plain;     /* [N][C][voxel]: network input with few channels */
    bool needed, wants_grad;
    bool is_logits; /* of an evaluated head, read by the loss and nothing else: float values */
    int readers;    /* needed ops that read it, a concatenation left out */
    int norms;      /* those of them that normalise it */
    int concat, concat_input; /* the op that concatenates it and as which input; -1: none */
    int n_parts;
    struct cpu_part parts[CPU_MAX_PARTS];
    struct cpu_view value; /* what ops other than concatenations read */
    struct cpu_view slice; /* its place in a concatenation */
    int n_grads;           /* gradients to be added up, one per reader */
    struct cpu_view grads[CPU_MAX_SOURCES];
};

struct cpu_program;

struct cpu_step {
    char name[64];
    const char *implementation;
    int (*run)(struct cpu_program *p, void *data, struct vx_err *err);
    void *data; /* belongs to the program's list of allocations */
    uint64_t ns, runs;
};

/* A primitive's memory whose address is known once the arena exists. */
struct cpu_binding {
    dnnl_memory_t memory; /* owned */
    struct cpu_view view;
};

/* Copying one parameter's weights into the layout that a primitive wants, or back. Parameters are
 * seen as [rows][columns]: dst = row[r] + column[c]. */
struct cpu_layout {
    int param;
    int rows, columns;
    int32_t *row, *column; /* elements; in the program's list of allocations */
};

struct cpu_wino;

/* wino: its transform instead of the layout's columns; NULL for a plain copy. */
struct cpu_pack {
    struct cpu_layout layout;
    struct cpu_view to;
    size_t element;
    const struct cpu_wino *wino;
};

/* One evaluated output of the network (loss.c). */
struct cpu_head {
    int tensor, index;             /* index: in vx_loss; 0 is the finest */
    int groups;                    /* Dice is taken per sample, or once over the batch */
    size_t chunks;                 /* per sample */
    int16_t *targets;              /* [N][voxels] */
    int *source[3];                /* index into the labels, by axis */
    struct cpu_view grad;          /* where the gradient goes */
    struct vx_loss_sums *sums;     /* [N][chunks] */
    struct vx_loss_slopes *slopes; /* [groups] */
};

struct cpu_program {
    struct vx_program base;
    struct cpu_device *device; /* borrowed, outlives the program */
    struct cpu_state *state;   /* borrowed, outlives the program */
    const struct vx_cpu_kernels *kernels;
    struct vx_oplist net; /* own copy of the arrays */
    enum vx_mode mode;
    enum vx_precision precision;
    bool learning; /* TRAIN or GRADIENT */

    struct cpu_tensor *tensors;
    struct vx_span *buffers; /* their places in the arena */
    struct cpu_step *steps;
    struct cpu_binding *bindings;
    dnnl_primitive_t *primitives;
    struct cpu_pack *packs;
    int n_buffers, n_steps, n_bindings, n_primitives, n_packs;
    void **allocations; /* freed with the program */
    int n_allocations;

    int scratch; /* buffer shared by all steps, nothing in it outlives a step */
    struct cpu_head heads[VX_MAX_HEADS];
    int n_heads;

    unsigned char *arena;
    size_t arena_bytes;
    uint64_t packed_version; /* 0: never */
    uint64_t ticket;
    struct vx_run_result results[2];  /* of ticket t in [t % 2] */
    struct vx_run_result *result;     /* of the run under way */
    const struct vx_run_input *input; /* of the run under way */
};

/* program.c */

/* Zeroed memory that lives as long as the program; NULL with err filled. */
void *cpu_allocate(struct cpu_program *p, size_t bytes, struct vx_err *err);
int cpu_add_buffer(struct cpu_program *p, size_t bytes, int *ret, struct vx_err *err);
/* A step after all others. uses: the views it touches, ended by NULL; CPU_NO_VIEW is skipped. */
int cpu_add_step(struct cpu_program *p, const struct cpu_step *step,
                 const struct cpu_view *const *uses, struct vx_err *err);
/* Keeps the buffer for the whole program; it starts zeroed. */
void cpu_keep(struct cpu_program *p, const struct cpu_view *view);
/* Asks for that much of the buffer that steps use for a moment. */
int cpu_need_scratch(struct cpu_program *p, size_t bytes, struct vx_err *err);
/* New buffers for a tensor's values and for a gradient of it (of activation type even where the
 * values are float), samples side by side. */
int cpu_new_value(struct cpu_program *p, const struct cpu_tensor *t, struct cpu_view *ret,
                  struct vx_err *err);
int cpu_new_grad(struct cpu_program *p, const struct cpu_tensor *t, struct cpu_view *ret,
                 struct vx_err *err);
int cpu_new_bytes(struct cpu_program *p, size_t bytes, struct cpu_view *ret, struct vx_err *err);
void *cpu_at(const struct cpu_program *p, const struct cpu_view *view, int sample);
bool cpu_same_view(const struct cpu_view *a, const struct cpu_view *b);
/* "conv 3 forward"; op < 0: no number. */
struct cpu_step cpu_step_named(const struct cpu_program *p, int op, const char *what);

/* backend.c: what the kernel thinks can be had without swapping. */
size_t cpu_available_memory(void);

/* arena.c: places the buffers and maps the memory. */
int cpu_make_arena(struct cpu_program *p, struct vx_err *err);
void cpu_free_arena(struct cpu_program *p);

/* tensors.c */
int cpu_plan_tensors(struct cpu_program *p, struct vx_err *err);
int cpu_physical_channel(const struct cpu_tensor *t, int logical);
/* Bytes from the first channel block to the given one. */
size_t cpu_block_offset(const struct cpu_program *p, const struct cpu_tensor *t, int block);
/* What oneDNN is asked for by op, a VX_OP_CONV, for a program of this mode. */
struct cpu_conv_shape cpu_conv_shape_of(const struct cpu_program *p, const struct vx_op *op);

/* build.c */
int cpu_build(struct cpu_program *p, struct vx_err *err);
/* Makes room for t where its readers want it: t->value, and t->slice in a concatenation. dense:
 * value must not be the slice itself. */
int cpu_place(struct cpu_program *p, struct cpu_tensor *t, bool dense, struct vx_err *err);
/* dst = sum of n views of the shape of t. */
int cpu_add_sum(struct cpu_program *p, const struct cpu_tensor *t, const struct cpu_view *src,
                int n, const struct cpu_view *dst, struct vx_err *err);
/* All gradients of t as at most `most` views (1: a single dense one). */
int cpu_merge_grads(struct cpu_program *p, struct cpu_tensor *t, int most, struct vx_err *err);
int cpu_add_grad(struct cpu_program *p, struct cpu_tensor *t, const struct cpu_view *view,
                 struct vx_err *err);
bool cpu_trainable(const struct cpu_program *p, int param);

/* pack.c */
int cpu_layout_create(struct cpu_program *p, int param, int rows, int columns,
                      struct cpu_layout *ret, struct vx_err *err);
int cpu_add_pack(struct cpu_program *p, const struct cpu_layout *layout, const struct cpu_view *to,
                 size_t element, const struct cpu_wino *wino, struct vx_err *err);
int cpu_add_unpack(struct cpu_program *p, int op, const struct cpu_layout *layout,
                   const struct cpu_view *from, struct vx_err *err);
/* Brings all packed weights up to the state's version. */
void cpu_repack(struct cpu_program *p);

/* conv.c: one convolution in its three directions, through oneDNN or direct.c. */
enum cpu_direction { CPU_FORWARD, CPU_BACKWARD_DATA, CPU_BACKWARD_WEIGHTS };

struct cpu_conv_shape {
    int n, in_channels, out_channels; /* physical */
    int in[3], out[3], kernel[3], stride[3], pad[3];
    bool plain;     /* the input is [N][C][voxel] */
    bool float_out; /* the result is float whatever the precision */
    bool bias;
    bool directions[3]; /* wanted, by cpu_direction */
};

struct cpu_conv {
    struct cpu_conv_shape shape;
    int op;
    dnnl_memory_desc_t src, dst, grad_dst, bias, scratch[3];
    dnnl_memory_desc_t weights[3]; /* as each direction wants them */
    bool direct[3];                /* by our own kernels; the members above are unused then */
    dnnl_primitive_t primitive[3]; /* owned by the program */
    const char *implementation[3];
    struct cpu_view packed[3]; /* weights by direction; the last is their gradient */
    struct cpu_view packed_bias, grad_bias;
};

/* Whether oneDNN has such a layer in an implementation other than its reference. */
bool cpu_conv_supported(struct cpu_program *p, const struct cpu_conv_shape *shape);
int cpu_conv_create(struct cpu_program *p, int op, const struct cpu_conv_shape *shape,
                    struct cpu_conv **ret, struct vx_err *err);
/* Element of weight (o, i, tap) in that direction's layout; a sum of one term for each. */
int32_t cpu_conv_weight_at(const struct cpu_program *p, const struct cpu_conv *conv,
                           enum cpu_direction direction, int o, int i, int tap);
/* Steps. */
int cpu_conv_forward(struct cpu_program *p, struct cpu_conv *conv, const struct cpu_view *src,
                     const struct cpu_view *dst, struct vx_err *err);
int cpu_conv_backward_data(struct cpu_program *p, struct cpu_conv *conv,
                           const struct cpu_view *grad_dst, const struct cpu_view *grad_src,
                           struct vx_err *err);
int cpu_conv_backward_weights(struct cpu_program *p, struct cpu_conv *conv,
                              const struct cpu_view *src, const struct cpu_view *grad_dst,
                              struct vx_err *err);

/* direct.c: our own kernels for what oneDNN has none for. x is the input or its gradient, y the
 * output or its gradient. */
bool cpu_direct_supported(const struct cpu_program *p, const struct cpu_conv_shape *shape);
size_t cpu_direct_weight_at(const struct cpu_program *p, const struct cpu_conv_shape *shape,
                            enum cpu_direction direction, int o, int i, int tap);
int cpu_direct_add(struct cpu_program *p, const struct cpu_conv *conv, enum cpu_direction direction,
                   const struct cpu_view *x, const struct cpu_view *y, struct vx_err *err);

/* winograd.c: steps of a VX_OP_CONV that suits. turned: y is the gradient of the input, x that of
 * the output. */
bool cpu_wino_suits(const struct cpu_program *p, const struct cpu_conv_shape *shape);
int cpu_wino_forward(struct cpu_program *p, int op, bool turned, const struct cpu_view *x,
                     const struct cpu_view *y, struct vx_err *err);
/* The gradient of the weights goes to the state. */
int cpu_wino_weights(struct cpu_program *p, int op, const struct cpu_view *x,
                     const struct cpu_view *dy, struct vx_err *err);
/* Transforms the weights of one (logical) output channel. */
void cpu_wino_pack(const struct cpu_program *p, const struct cpu_wino *w, int o);

/* layers.c: VX_OP_CONV; transpose.c: VX_OP_CONV_TRANSPOSE; norm.c: VX_OP_NORM_ACT. The forward
 * half returns what the backward half needs. */
int cpu_layer_conv(struct cpu_program *p, int op, void **ret, struct vx_err *err);
int cpu_layer_conv_backward(struct cpu_program *p, int op, void *made, struct vx_err *err);
int cpu_layer_transpose(struct cpu_program *p, int op, void **ret, struct vx_err *err);
int cpu_layer_transpose_backward(struct cpu_program *p, int op, void *made, struct vx_err *err);
int cpu_layer_norm(struct cpu_program *p, int op, void **ret, struct vx_err *err);
int cpu_layer_norm_backward(struct cpu_program *p, int op, void *made, struct vx_err *err);

/* loss.c */
int cpu_build_loss(struct cpu_program *p, struct vx_err *err);
/* Fetches the targets of all heads; fails before anything has been computed. */
int cpu_load_targets(struct cpu_program *p, const struct vx_run_input *in, struct vx_err *err);

/* state.c */
int cpu_state_create(struct vx_device *device, const struct vx_oplist *net, struct vx_state **ret,
                     struct vx_err *err);
void cpu_state_free(struct vx_state *state);
int cpu_state_upload(struct vx_state *state, int param, enum vx_state_part part, const float *src,
                     struct vx_err *err);
int cpu_state_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                       struct vx_err *err);

/* optimizer.c: the last step of a learning program. */
int cpu_build_optimizer(struct cpu_program *p, struct vx_err *err);

/* program.c: entries of the table. */
int cpu_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                enum vx_precision precision, struct vx_program **ret, struct vx_err *err);
void cpu_program_free(struct vx_program *program);
size_t cpu_program_memory(struct vx_program *program);
/* run.c */
int cpu_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
            struct vx_err *err);
int cpu_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
             struct vx_err *err);
int cpu_read_logits(struct vx_program *program, float *dst, struct vx_err *err);

#endif
