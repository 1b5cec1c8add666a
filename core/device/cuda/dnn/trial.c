#include "device/cuda/dnn/trial.h"

#include "base/err.h"
#include "base/rng.h"
#include "device/cuda/dnn/internal.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 1 << 21,  /* elements of random data, repeated over a tensor */
    PIECE = 1 << 14,  /* results are compared in that many elements at a time, */
    MAX_PIECES = 256, /* spread evenly over the tensor */
    TIMED_RUNS = 3,
    SLOW = 2, /* times as long as the fastest: once is enough */
};

struct trial {
    struct dnn *dnn;
    enum dnn_type type;
    int made; /* which of xwy the direction writes */
    int64_t elements[3];
    void *xwy[3], *second; /* on the device */
    void *workspace;
    uint16_t *host[2]; /* [PIECE] */
    cudaStream_t stream;
    cudaEvent_t begin, end;
    char failure[160];
    double best; /* milliseconds of the fastest run; 0: none yet */
};

/* k / 128, never zero, which both types hold exactly. Filters and y are an eighth of it: sums over
 * millions of voxels stay below the largest number of fp16. */
static void draw(enum dnn_type type, uint16_t *block, uint32_t which) {
    struct vx_rng rng = vx_rng_at(7, 2, 0, which, 0);
    float scale = which == 0 ? 1.0f : 0.125f;
    for (int i = 0; i < BLOCK; i++) {
        uint32_t r = vx_rng_below(&rng, 254);
        float v = scale * (float)(1 + r / 2) / 128.0f * (r % 2 ? -1.0f : 1.0f);
        block[i] = dnn_number(type, v);
    }
}

/* One block over the bus, then again and again from what is there. */
static cudaError_t fill(void *to, int64_t elements, const uint16_t *block) {
    int64_t have = elements < BLOCK ? elements : BLOCK;
    cudaError_t code = cudaMemcpy(to, block, (size_t)have * 2, cudaMemcpyHostToDevice);
    while (have < elements && code == cudaSuccess) {
        int64_t n = elements - have < have ? elements - have : have;
        code = cudaMemcpy((uint16_t *)to + have, to, (size_t)n * 2, cudaMemcpyDeviceToDevice);
        have += n;
    }
    return code;
}

static cudaError_t take(struct trial *t, size_t workspace) {
    cudaError_t code = cudaSuccess;
    for (int i = 0; i < 3 && code == cudaSuccess; i++) {
        code = cudaMalloc(&t->xwy[i], (size_t)t->elements[i] * 2);
    }
    code = code ? code : cudaMalloc(&t->second, (size_t)t->elements[t->made] * 2);
    code = code ? code : cudaMalloc(&t->workspace, workspace ? workspace : 256);
    code = code ? code : cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking);
    code = code ? code : cudaEventCreate(&t->begin);
    return code ? code : cudaEventCreate(&t->end);
}

static cudaError_t prepare(struct trial *t, size_t workspace) {
    uint16_t *block = malloc(BLOCK * sizeof *block);
    t->host[0] = malloc(2 * PIECE * sizeof *t->host[0]);
    cudaError_t code = block && t->host[0] ? take(t, workspace) : cudaErrorMemoryAllocation;
    for (int i = 0; i < 3 && code == cudaSuccess; i++) {
        draw(t->type, block, (uint32_t)i);
        code = fill(t->xwy[i], t->elements[i], block);
    }
    t->host[1] = t->host[0] + PIECE;
    free(block);
    /* Copies within the device go on behind the call, and t->stream does not wait for them. */
    return code ? code : cudaDeviceSynchronize();
}

int trial_open(struct dnn *dnn, const struct dnn_conv *c, enum dnn_direction direction,
               const struct dnn_plan *list, int n, const struct dnn_rules *rules,
               struct trial **ret, struct vx_err *err) {
    struct trial *t = calloc(1, sizeof *t);
    if (!t) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory to try plans");
    }
    *t = (struct trial){.dnn = dnn,
                        .type = dnn->type == CUDNN_DATA_HALF ? DNN_FP16 : DNN_BF16,
                        .made = direction == DNN_FORWARD ? 2
                                : direction == DNN_DATA  ? 0
                                                         : 1,
                        .elements = {dnn_x_elements(c), dnn_w_elements(c), dnn_y_elements(c)}};
    enum dnn_fitness best = dnn_best_fitness(list, n, c, rules);
    size_t workspace = 0;
    for (int i = 0; i < n; i++) {
        if (dnn_fitness(&list[i], c, rules) == best && list[i].workspace > workspace) {
            workspace = list[i].workspace;
        }
    }
    cudaError_t code = prepare(t, workspace);
    if (code != cudaSuccess) {
        trial_close(t);
        return vx_fail(err, code == cudaErrorMemoryAllocation ? VX_E_NOMEM : VX_E_DEVICE, NULL,
                       "plans cannot be tried: %s", cudaGetErrorString(code));
    }
    *ret = t;
    return VX_OK;
}

void trial_close(struct trial *t) {
    if (!t) {
        return;
    }
    for (int i = 0; i < 3; i++) {
        cudaFree(t->xwy[i]);
    }
    cudaFree(t->second);
    cudaFree(t->workspace);
    if (t->begin) {
        cudaEventDestroy(t->begin);
    }
    if (t->end) {
        cudaEventDestroy(t->end);
    }
    if (t->stream) {
        dnn_forget_stream(t->dnn);
        cudaStreamDestroy(t->stream);
    }
    free(t->host[0]);
    free(t);
    /* A failed allocation is no error of the next call. */
    cudaGetLastError();
}

const char *trial_failure(const struct trial *t) {
    return t->failure[0] ? t->failure : NULL;
}

static void note_failure(struct trial *t, const struct dnn_plan *plan, int status) {
    cudaError_t code = cudaGetLastError();
    if (!t->failure[0]) {
        snprintf(t->failure, sizeof t->failure, "engine %lld: %s, %s", (long long)plan->engine,
                 status ? dnn_status_text(status) : "its end was not seen",
                 cudaGetErrorString(code));
    }
}

/* Milliseconds of one run, negative where it fails. */
static double timed(struct trial *t, const struct dnn_plan *plan, void *const xwy[3], void **pack) {
    float ms = -1;
    int status = 0;
    if (cudaEventRecord(t->begin, t->stream) ||
        (status = dnn_run(t->dnn, plan, xwy, t->workspace, pack, t->stream)) != 0 ||
        cudaEventRecord(t->end, t->stream) || cudaEventSynchronize(t->end) ||
        cudaEventElapsedTime(&ms, t->begin, t->end)) {
        note_failure(t, plan, status);
        return -1;
    }
    return (double)ms;
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

double trial_measure(void *self, const struct dnn_plan *plan, int which) {
    struct trial *t = self;
    void *xwy[3] = {t->xwy[0], t->xwy[1], t->xwy[2]}, *pack = NULL;
    double ms[TIMED_RUNS];
    if (which == 1) {
        xwy[t->made] = t->second;
    }
    /* Not-a-numbers first: what a plan leaves out shows. */
    bool good = cudaMemsetAsync(xwy[t->made], 0xff, (size_t)t->elements[t->made] * 2, t->stream) ==
                    cudaSuccess &&
                timed(t, plan, xwy, &pack) >= 0;
    int runs = 0;
    while (good && runs < TIMED_RUNS) {
        ms[runs] = timed(t, plan, xwy, &pack);
        good = ms[runs++] >= 0;
        if (t->best > 0 && ms[runs - 1] > SLOW * t->best) {
            break;
        }
    }
    dnn_pack_free(pack);
    qsort(ms, good ? (size_t)runs : 0, sizeof *ms, by_value);
    t->best = good && (t->best == 0 || ms[0] < t->best) ? ms[0] : t->best;
    return good ? ms[runs / 2] : -1;
}

double trial_differ(void *self) {
    struct trial *t = self;
    const void *results[2] = {t->xwy[t->made], t->second};
    int64_t all = t->elements[t->made], pieces = (all + PIECE - 1) / PIECE;
    int64_t stride = pieces > MAX_PIECES ? pieces / MAX_PIECES : 1;
    double top = 0, apart = 0;
    for (int64_t piece = 0; piece < pieces; piece += stride) {
        int64_t at = piece * PIECE, n = all - at < PIECE ? all - at : PIECE;
        for (int i = 0; i < 2; i++) {
            if (cudaMemcpy(t->host[i], (const uint16_t *)results[i] + at, (size_t)n * 2,
                           cudaMemcpyDeviceToHost)) {
                return NAN;
            }
        }
        for (int64_t k = 0; k < n; k++) {
            double a = dnn_value(t->type, t->host[0][k]), b = dnn_value(t->type, t->host[1][k]);
            double d = fabs(a - b);
            top = fmax(top, fabs(b));
            if (!(d <= apart)) {
                apart = d;
            }
            if (isnan(d)) {
                return NAN;
            }
        }
    }
    return top > 0 ? apart / top : NAN;
}
