/* Training steps of one network on the CPU backend, as the trainer takes them.
 *
 *   step FEATURES BATCH PRECISION THREADS [steps]
 *   step 32,64,128 2 fp32 2
 *
 * Patch 40 x 56 x 40, one channel, three classes, deep supervision. Reads lines with a number of
 * steps from stdin and answers each with {"seconds": [...]}; at the end of input it prints what a
 * step was made of: seconds in oneDNN's primitives, seconds in our own kernels, and memory. With a
 * fifth argument the seconds of every step of the program go to stderr too. */
#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"
#include "device/cpu/backend.h"
#include "device/device.h"
#include "device/oplist.h"
#include "net/net.h"
#include "plan/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 3 };
static const int patch[3] = {40, 56, 40};

static void die(const char *what, const struct vx_err *err) {
    fprintf(stderr, "step: %s: %s\n", what, err->text);
    exit(1);
}

static struct vx_oplist *build(char *features, int batch) {
    struct vx_plan_config plan = {.dims = 3, .batch_size = batch, .n_channels = 1};
    memcpy(plan.patch_size, patch, sizeof patch);
    for (char *f = strtok(features, ","); f && plan.n_stages < 6; f = strtok(NULL, ",")) {
        int s = plan.n_stages++;
        plan.features[s] = atoi(f);
        plan.convs_encoder[s] = 2;
        if (s > 0) {
            plan.convs_decoder[s - 1] = 2;
        }
        for (int a = 0; a < 3; a++) {
            plan.kernels[s][a] = 3;
            plan.strides[s][a] = s == 0 ? 1 : 2;
        }
    }
    struct vx_net_options options;
    struct vx_oplist *net = NULL;
    struct vx_err err = {0};
    vx_net_options_default(&options);
    if (vx_net_build(&plan, 1, CLASSES, batch, &options, &net, &err) != VX_OK) {
        die("network", &err);
    }
    return net;
}

static struct vx_program *compile(struct vx_oplist *net, enum vx_precision precision,
                                  struct vx_device *device, struct vx_state **ret_state) {
    struct vx_err err = {0};
    struct vx_program *program = NULL;
    float **values = vx_net_values_create(net);
    if (vx_state_create(device, net, ret_state, &err) != VX_OK || !values) {
        die("state", &err);
    }
    vx_net_init(net, 1, values);
    for (int i = 0; i < net->n_params; i++) {
        vx_state_upload(*ret_state, i, VX_PART_WEIGHT, values[i], NULL);
    }
    vx_net_values_free(values);
    if (vx_program_compile(*ret_state, net, VX_MODE_TRAIN, precision, &program, &err) != VX_OK) {
        die("compile", &err);
    }
    return program;
}

/* Normal images; labels in three slabs. */
static void make_batch(int batch, float **images, int16_t **labels) {
    size_t voxels = (size_t)patch[0] * patch[1] * patch[2];
    for (int n = 0; n < batch; n++) {
        struct vx_rng rng = vx_rng_at(7, 2, 0, (uint32_t)n, 0);
        images[n] = malloc(voxels * sizeof **images);
        labels[n] = malloc(voxels * sizeof **labels);
        for (size_t v = 0; v < voxels; v++) {
            images[n][v] = (float)vx_rng_normal(&rng);
            labels[n][v] = (int16_t)(v * CLASSES / voxels);
        }
    }
}

static double one_step(struct vx_program *program, const struct vx_run_input *in) {
    struct vx_err err = {0};
    uint64_t ticket, start = vx_now_ns();
    if (vx_program_run(program, in, &ticket, &err) != VX_OK ||
        vx_program_wait(program, ticket, NULL, &err) != VX_OK) {
        die("run", &err);
    }
    return (double)(vx_now_ns() - start) * 1e-9;
}

static void answer(struct vx_program *program, const struct vx_run_input *in, int steps) {
    printf("{\"seconds\": [");
    for (int i = 0; i < steps; i++) {
        printf("%s%.6f", i ? ", " : "", one_step(program, in));
    }
    printf("]}\n");
    fflush(stdout);
}

static void summary(struct vx_program *program, bool list) {
    struct vx_cpu_step_info info;
    double primitives = 0, own = 0;
    for (int i = 0; vx_cpu_program_step(program, i, &info); i++) {
        double seconds = (double)info.ns * 1e-9 / (double)(info.runs ? info.runs : 1);
        bool ours = strncmp(info.implementation, "own", 3) == 0;
        *(ours ? &own : &primitives) += seconds;
        if (list) {
            fprintf(stderr, "%9.3f ms  %-40s %s\n", seconds * 1e3, info.name, info.implementation);
        }
    }
    printf("{\"primitives\": %.6f, \"own\": %.6f, \"memory_mib\": %zu}\n", primitives, own,
           vx_program_memory(program) >> 20);
}

int main(int argc, char **argv) {
    if (argc < 5 || atoi(argv[2]) < 1 || atoi(argv[2]) > 64) {
        fprintf(stderr, "usage: step FEATURES BATCH fp32|bf16 THREADS [steps]\n");
        return 2;
    }
    int batch = atoi(argv[2]);
    struct vx_device_options options = {.threads = atoi(argv[4])};
    struct vx_device *device = NULL;
    struct vx_state *state = NULL;
    struct vx_err err = {0};
    if (vx_device_open("cpu", &options, &device, &err) != VX_OK) {
        die("device", &err);
    }
    struct vx_oplist *net = build(argv[1], batch);
    enum vx_precision precision = strcmp(argv[3], "bf16") == 0 ? VX_BF16 : VX_FP32;
    struct vx_program *program = compile(net, precision, device, &state);
    float *images[64];
    int16_t *labels[64];
    make_batch(batch, images, labels);
    struct vx_run_input in = {.images = (const float *const *)images,
                              .labels = (const int16_t *const *)labels,
                              .learning_rate = 0.01f};
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        answer(program, &in, atoi(line));
    }
    summary(program, argc > 5);
    vx_program_free(program);
    vx_state_free(state);
    vx_device_close(device);
    vx_oplist_free(net);
    for (int n = 0; n < batch; n++) {
        free(images[n]);
        free(labels[n]);
    }
    return 0;
}
