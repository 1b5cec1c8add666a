/* Op lists made by hand, inputs from a counter-based generator, and a device with one program: what
 * the device tests share. What takes a rig is in rig.c and aborts the Criterion test on failure. */
#ifndef VX_TESTS_DEVICE_NET_MAKER_H
#define VX_TESTS_DEVICE_NET_MAKER_H

#include "device/device.h"
#include "device/oplist.h"

/* An op list being made; tensor 0 is the input. Arrays are owned. */
struct maker {
    struct vx_oplist net;
};

struct conv_args {
    int out_channels;
    int kernel[3], stride[3];
    bool no_bias;
};

void maker_init(struct maker *m, int batch, int channels, int d, int h, int w, int classes);
void maker_release(struct maker *m);
/* Each returns the id of its output tensor. Padding is (kernel - 1) / 2. */
int maker_conv(struct maker *m, int in, const struct conv_args *args);
int maker_norm(struct maker *m, int in, float slope);
int maker_transpose(struct maker *m, int in, int out_channels, int kd, int kh, int kw);
int maker_concat(struct maker *m, int a, int b);
/* conv + norm + leaky ReLU */
int maker_block(struct maker *m, int in, int out_channels, const int kernel[3],
                const int stride[3]);
/* A 1x1x1 convolution to the classes as the next head of the loss. */
void maker_head(struct maker *m, int in, float weight);

struct unet_args {
    int batch, channels, size[3], classes, stages;
    int features[6];
    int kernel[6][3], stride[6][3]; /* zeros: 3 x 3 x 3, stride 2 (1 at stage 0) */
    bool batch_dice;
};
/* PlainConvUNet with two convolutions a stage and a head at every decoder step, weights of the
 * heads 1, 1/2, ... with the coarsest at 0, normalised. */
void maker_unet(struct maker *m, const struct unet_args *args);

/* Samples for a network: images normal, labels in blobs of the classes. */
struct samples {
    int n;
    float **images; /* owned, like the labels */
    int16_t **labels;
};
void samples_init(struct samples *s, const struct vx_oplist *net, uint64_t seed);
void samples_release(struct samples *s);
struct vx_run_input samples_input(const struct samples *s, float rate);

/* A network on a device. */
struct rig {
    const struct vx_oplist *net; /* borrowed */
    struct vx_device *device;
    struct vx_state *state;
};
void rig_init(struct rig *r, const char *device, int threads, const struct vx_oplist *net);
/* Random weights: He for convolutions, norm scale around 1, everything else around 0. */
void rig_randomize(struct rig *r, uint64_t seed);
void rig_release(struct rig *r);
struct vx_program *rig_compile(struct rig *r, enum vx_mode mode, enum vx_precision precision);
struct vx_run_result rig_run(struct vx_program *p, const struct vx_run_input *in);
/* Caller frees. */
float *rig_download(struct rig *r, int param, enum vx_state_part part);
/* Largest |a - b| over all parameters of that part, relative to the largest |b| of the parameter
 * or to floor, whichever is more; *ret_param says where. */
double rig_difference(struct rig *a, struct rig *b, enum vx_state_part part, double floor,
                      int *ret_param);

#endif
