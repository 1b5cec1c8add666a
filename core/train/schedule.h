/* Learning rate of an epoch. Source: nnU-Net v2's PolyLRScheduler. Thread: any. */
#ifndef VX_TRAIN_SCHEDULE_H
#define VX_TRAIN_SCHEDULE_H

#include <stdint.h>

#define VX_POLY_POWER 0.9

/* base x (1 - epoch / epochs)^VX_POLY_POWER, constant within the epoch; epoch < epochs. */
double vx_poly_lr(double base, uint32_t epoch, uint32_t epochs);

#endif
