/* The checks of scripts/gpu-check that run on a device: each prints one JSON object on a line and
 * tells whether it passed. The device is asked for by name, so that a test can put the recording
 * one in its place. */
#ifndef VX_TESTS_DEVICE_CUDA_GPU_CHECK_H
#define VX_TESTS_DEVICE_CUDA_GPU_CHECK_H

#include <stdbool.h>

/* Every kind of operation and two small networks against the reference: logits and gradients. */
bool check_parity(const char *device);
/* The same steps twice: equal bits. */
bool check_determinism(const char *device, const char *network, int steps);
/* Steps as one graph and step by step: equal bits; milliseconds of both. */
bool check_graph(const char *device, const char *network, int steps);
/* Milliseconds of a training step, a validation run and an inference run; memory. precision: "bf16"
 * or "fp16", the latter skipped where the backend has none. */
bool check_speed(const char *device, const char *network, int steps);
/* Milliseconds of every launch step of a training step by the device's clock, without gaps between
 * them; the share of all that is no convolution, its bandwidth, a copy's. Medians over `steps`. */
bool check_layers(const char *device, const char *network, int steps);

/* Losses of training beside those of the CPU in fp32, over the same samples. record: a file of the
 * CPU's losses, or NULL: they are computed here. */
bool check_follow(const char *device, const char *network, int batch, int steps,
                  const char *record);
/* Writes such a file. */
bool record_follow(const char *network, int batch, int steps, const char *path);

/* The arguments of the program; exit status 0, 1, 2 (usage), 77 where there is no device. */
int gpu_check_main(int argc, char **argv, const char *device);

#endif
