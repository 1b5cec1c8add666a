#include "device/kernels/fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN 0x5a5au

int64_t vx_host_block(int64_t i, int64_t blocks);
int vx_host_thread(int i);
bool vx_host_together(void);
void vx_host_claim(void);

static enum host_order g_order = HOST_IN_ORDER;
static int g_claims;

void host_set_order(enum host_order order) {
    g_order = order;
}

/* A permutation: multiplication by a unit modulo count. */
static int64_t scattered(int64_t i, int64_t count) {
    int64_t step = 7919;
    while (count % step == 0) {
        step += 2;
    }
    return i * step % count; /* 7919 is prime, so nothing but a multiple of it shares a factor */
}

int64_t vx_host_block(int64_t i, int64_t blocks) {
    return g_order == HOST_BLOCKS_BACKWARDS ? blocks - 1 - i
           : g_order == HOST_MIXED          ? scattered(i, blocks)
                                            : i;
}

int vx_host_thread(int i) {
    return g_order == HOST_THREADS_BACKWARDS ? 255 - i
           : g_order == HOST_MIXED           ? (int)scattered(i, 256)
                                             : i;
}

void vx_host_claim(void) {
    g_claims++;
}

int host_claims(void) {
    int claims = g_claims;
    g_claims = 0;
    return claims;
}

bool vx_host_together(void) {
    return g_order == HOST_TOGETHER;
}

double host_draw(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(*state >> 40) / 16777216.0 - 0.5;
    }
    return sum * sqrt(3);
}

float host_from_bf16(uint16_t bits) {
    uint32_t u = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint16_t host_to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t low = u & 0xffffu, up = low > 0x8000u || (low == 0x8000u && (u >> 16 & 1));
    return (uint16_t)((u >> 16) + up);
}

struct host_tensor host_tensor_new(int n, int channels, int padded, int64_t voxels, int pitch,
                                   int offset) {
    struct host_tensor t = {.n = n,
                            .channels = channels,
                            .padded = padded,
                            .voxels = voxels,
                            .count = (size_t)n * (size_t)voxels * (size_t)pitch,
                            .offset = offset};
    t.all = malloc(t.count * sizeof *t.all);
    for (size_t i = 0; i < t.count; i++) {
        t.all[i] = PATTERN;
    }
    t.view = (struct vx_cuda_view){.data = t.all + offset, .pitch = pitch};
    return t;
}

void host_tensor_free(struct host_tensor *t) {
    free(t->all);
}

static uint16_t *element(const struct host_tensor *t, int n, int c, int64_t voxel) {
    return t->all + (n * t->voxels + voxel) * t->view.pitch + t->offset + c;
}

float host_tensor_at(const struct host_tensor *t, int n, int c, int64_t voxel) {
    return host_from_bf16(*element(t, n, c, voxel));
}

void host_tensor_fill(struct host_tensor *t, double mean, double scale, uint64_t seed,
                      double *plain) {
    for (int n = 0; n < t->n; n++) {
        for (int c = 0; c < t->padded; c++) {
            for (int64_t v = 0; v < t->voxels; v++) {
                double x = c < t->channels ? mean + scale * host_draw(&seed) : 0;
                uint16_t *to = element(t, n, c, v);
                *to = host_to_bf16((float)x);
                if (plain && c < t->channels) {
                    *plain++ = (double)host_from_bf16(*to);
                }
            }
        }
    }
}

bool host_tensor_intact(const struct host_tensor *t) {
    for (size_t i = 0; i < t->count; i++) {
        int64_t c = (int64_t)i % t->view.pitch - t->offset;
        bool outside = c < 0 || c >= t->padded;
        if ((outside && t->all[i] != PATTERN) ||
            (!outside && c >= t->channels && host_from_bf16(t->all[i]) != 0)) {
            return false;
        }
    }
    return true;
}

void *host_workspace(size_t bytes) {
    char *w = malloc(bytes);
    memset(w, 0, VX_CUDA_WORKSPACE_HEAD);
    memset(w + VX_CUDA_WORKSPACE_HEAD, 0xff, bytes - VX_CUDA_WORKSPACE_HEAD);
    return w;
}

bool host_workspace_clean(const void *workspace) {
    const char *w = workspace;
    for (int i = 0; i < VX_CUDA_WORKSPACE_HEAD; i++) {
        if (w[i] != 0) {
            return false;
        }
    }
    return true;
}

struct ref_tensor host_ref_tensor(const int shape[5]) {
    struct ref_tensor t = {.count = 1};
    for (int i = 0; i < 5; i++) {
        t.shape[i] = shape[i];
        t.count *= (size_t)shape[i];
    }
    t.value = calloc(t.count, sizeof(double));
    t.grad = calloc(t.count, sizeof(double));
    return t;
}

void host_ref_free(struct ref_tensor *t) {
    free(t->value);
    free(t->grad);
}

double host_rounding_error(const struct host_tensor *got, const double *want, double slack) {
    double worst = 0;
    for (int n = 0; n < got->n; n++) {
        for (int c = 0; c < got->channels; c++) {
            for (int64_t v = 0; v < got->voxels; v++) {
                double e = fabs((double)host_tensor_at(got, n, c, v) - *want);
                e /= fabs(*want++) * 0x1p-8 + slack;
                worst = !(e <= worst) ? e : worst; /* NaN sticks */
            }
        }
    }
    return worst;
}

double host_largest(const double *x, size_t count) {
    double top = 0;
    for (size_t i = 0; i < count; i++) {
        top = fmax(top, fabs(x[i]));
    }
    return top;
}
