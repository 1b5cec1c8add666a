/* The backend interface: what a compute device does for core/net, core/train and core/infer.
 *
 * A backend is a table of functions (struct vx_device_api) that the registry finds by name: "cpu"
 * is linked in, "cuda" is a module opened at run time, tests add "ref". Callers use the
 * vx_device_*, vx_state_* and vx_program_* functions below.
 *
 * Objects: a device; states on it (parameters, momentum, gradients of one network); programs
 * compiled from an op list for one state. Programs of one state share its parameters: a
 * VX_MODE_INFER program sees the weights that a VX_MODE_TRAIN program of the same state has just
 * updated. Parameters cross in PyTorch's order as fp32, exactly (a download after an upload gives
 * the same bits).
 *
 * Determinism: with equal build, ISA, precision and thread count, equal inputs give equal bits,
 * unless the device was opened without (vx_device_options) and says that it makes use of that.
 * Threads: one thread at a time per device. Nothing is allocated inside vx_program_run after the
 * first call.
 */
#ifndef VX_DEVICE_DEVICE_H
#define VX_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_err;
struct vx_oplist;
struct vx_device;
struct vx_state;
struct vx_program;
struct vx_sums;

#define VX_DEVICE_ABI 3

enum vx_precision { VX_FP32, VX_BF16 };

enum vx_mode {
    VX_MODE_TRAIN,    /* forward, loss, backward, clipping, optimizer step */
    VX_MODE_GRADIENT, /* forward, loss, backward; gradients stay readable, nothing is updated
                         (tests) */
    VX_MODE_VALIDATE, /* forward, loss, hard statistics; nothing is updated */
    VX_MODE_INFER,    /* forward to the finest logits only */
};

enum vx_state_part { VX_PART_WEIGHT, VX_PART_MOMENTUM, VX_PART_GRADIENT };

struct vx_device_options {
    int threads; /* CPU threads; 0: as many as this process may use */
    /* Equal inputs give equal bits. Else what is faster is allowed to vary from run to run. */
    bool deterministic;
};

struct vx_device_info {
    char name[32];    /* "cpu:0" */
    char model[96];   /* processor or GPU model */
    char isa[64];     /* e.g. "avx512_core_bf16" */
    char library[64]; /* e.g. "oneDNN 2.6.3" */
    int threads;
    bool bf16;           /* VX_BF16 has hardware support here */
    bool varies;         /* not deterministic: results may differ from run to run */
    size_t memory_bytes; /* memory that programs may use */
};

/* Inputs of one run: pointers into ring slots, one per sample of the batch; borrowed until the
 * run's ticket has been waited for by vx_program_wait. */
struct vx_run_input {
    const float *const *images;   /* [N] -> [C][D][H][W] */
    const int16_t *const *labels; /* [N] -> [D][H][W], label < classes, below 0 (outside the image)
                                     counts as background; NULL for VX_MODE_INFER */
    float learning_rate;          /* VX_MODE_TRAIN */
};

struct vx_run_result {
    double loss;     /* weighted total over heads */
    double ce, dice; /* of the finest head: cross-entropy, mean soft Dice over foreground classes */
    double grad_norm; /* before clipping; TRAIN and GRADIENT */
    /* Hard statistics of the finest head over the batch (argmax, lowest index on ties); VALIDATE.
     * Index = class. */
    int64_t tp[64], fp[64], fn[64];
    /* When the run ended by the clock of vx_now_ns, where the device works beside its caller; 0: it
     * had ended when vx_program_run returned. */
    uint64_t ended_ns;
};

/* A piece of a volume, as large as the network's input: where it starts, negative where the volume
 * is smaller, and the axes along which the network sees it mirrored. */
struct vx_tile {
    int64_t start[3];
    bool flip[3];
};

struct vx_device_api {
    uint32_t abi; /* VX_DEVICE_ABI */
    const char *name;
    int (*open)(int index, const struct vx_device_options *options, struct vx_device **ret,
                struct vx_err *err);
    void (*close)(struct vx_device *device);
    void (*info)(struct vx_device *device, struct vx_device_info *ret);
    int (*state_create)(struct vx_device *device, const struct vx_oplist *net,
                        struct vx_state **ret, struct vx_err *err);
    void (*state_free)(struct vx_state *state);
    int (*state_upload)(struct vx_state *state, int param, enum vx_state_part part,
                        const float *src, struct vx_err *err);
    int (*state_download)(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                          struct vx_err *err);
    int (*compile)(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                   enum vx_precision precision, struct vx_program **ret, struct vx_err *err);
    void (*program_free)(struct vx_program *program);
    size_t (*program_memory)(struct vx_program *program);
    int (*run)(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
               struct vx_err *err);
    int (*wait)(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                struct vx_err *err);
    int (*read_logits)(struct vx_program *program, float *dst, struct vx_err *err);
    /* NULL where host memory is as good as any: see vx_device_use_memory. */
    int (*use_memory)(struct vx_device *device, void *memory, size_t bytes, struct vx_err *err);
    /* All NULL where logits are as near to the caller as to the device: see vx_sums_begin. */
    int (*sums_begin)(struct vx_program *program, const int64_t volume[3],
                      const float *const importance[3], struct vx_sums **ret, struct vx_err *err);
    int (*sums_image)(struct vx_sums *sums, const float *image, struct vx_err *err);
    int (*sums_add)(struct vx_sums *sums, const struct vx_tile *tiles, int n, struct vx_err *err);
    int (*sums_read)(struct vx_sums *sums, const float *const weights[3], float passes, float *dst,
                     bool *ret_finite, struct vx_err *err);
    void (*sums_free)(struct vx_sums *sums);
};

/* First member of every backend's own struct of that kind. */
struct vx_device {
    const struct vx_device_api *api;
};
struct vx_state {
    struct vx_device *device;
};
struct vx_program {
    struct vx_state *state;
};
struct vx_sums {
    struct vx_program *program;
};

/* name: "cpu", "cpu:0", "cuda:1", "auto" (the best that opens). options NULL: all threads,
 * deterministic. VX_E_NOT_FOUND names what is missing. */
int vx_device_open(const char *name, const struct vx_device_options *options,
                   struct vx_device **ret, struct vx_err *err);
/* Adds a backend for this process (tests, modules). VX_E_EXISTS for a second one of the same name.
 */
int vx_device_register(const struct vx_device_api *api, struct vx_err *err);
/* Accepts NULL; programs and states of the device must be gone. */
void vx_device_close(struct vx_device *device);
void vx_device_describe(struct vx_device *device, struct vx_device_info *ret);
/* Inputs of runs will lie in this memory (the ring) until the device is closed; it is borrowed that
 * long. A device behind a bus locks its pages, so that copies from there need no detour. After an
 * error (a limit on locked memory) runs work as before, only slower. */
int vx_device_use_memory(struct vx_device *device, void *memory, size_t bytes, struct vx_err *err);

/* Allocates parameters (all zero), momentum (zero) and gradients. net is borrowed until the state
 * is freed. */
int vx_state_create(struct vx_device *device, const struct vx_oplist *net, struct vx_state **ret,
                    struct vx_err *err);
void vx_state_free(struct vx_state *state);
/* src/dst: params[param].count floats in PyTorch's order. VX_PART_GRADIENT is download only, valid
 * after a run of a VX_MODE_GRADIENT program (before clipping). */
int vx_state_upload(struct vx_state *state, int param, enum vx_state_part part, const float *src,
                    struct vx_err *err);
int vx_state_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                      struct vx_err *err);

/* net may differ from the state's only in batch size and tensor shapes (same parameters in the same
 * order). VX_E_UNSUPPORTED with a reason where the backend has no fast path for a layer; VX_E_NOMEM
 * says what was asked. */
int vx_program_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                       enum vx_precision precision, struct vx_program **ret, struct vx_err *err);
void vx_program_free(struct vx_program *program);
/* Bytes this program holds beyond the state. */
size_t vx_program_memory(struct vx_program *program);
/* Starts one run. *ret_ticket counts from 1; a device may return before the run has finished. */
int vx_program_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
                   struct vx_err *err);
/* Waits for that run and gives its result; the last two tickets of a program can be asked for. ret
 * may be NULL. */
int vx_program_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                    struct vx_err *err);
/* Finest logits of the last VX_MODE_INFER run as [N][classes][D][H][W] float32; waits for it. */
int vx_program_read_logits(struct vx_program *program, float *dst, struct vx_err *err);

/* Logits of a whole volume, added up on the device tile by tile (infer/sliding.h says why and how):
 * neither tiles nor logits cross the bus one by one. Begins with room for the volume's image and
 * with sums of zero. importance[axis]: the weights of a tile's voxels along it. program: a
 * VX_MODE_INFER one, which must outlive the sums and may run otherwise in between.
 * VX_E_UNSUPPORTED where a device has no such thing; VX_E_NOMEM where it has no room, which it logs
 * once for a program: with both the caller adds up what vx_program_read_logits gives. */
int vx_sums_begin(struct vx_program *program, const int64_t volume[3],
                  const float *const importance[3], struct vx_sums **ret, struct vx_err *err);
/* [channels][Z][Y][X] float32, before the first tile; copied. */
int vx_sums_image(struct vx_sums *sums, const float *image, struct vx_err *err);
/* Runs the network over n tiles, at most its batch, and adds importance times logits, mirrored
 * back, tile after tile. A device may return before that has happened. */
int vx_sums_add(struct vx_sums *sums, const struct vx_tile *tiles, int n, struct vx_err *err);
/* dst [classes][Z][Y][X] = sums / (weights of the voxel along the three axes * passes); the sums
 * are no more. *ret_finite: whether all of dst are numbers. */
int vx_sums_read(struct vx_sums *sums, const float *const weights[3], float passes, float *dst,
                 bool *ret_finite, struct vx_err *err);
/* Accepts NULL. */
void vx_sums_free(struct vx_sums *sums);

#endif
