/* Learning rate of an epoch. Source: nnU-Net v2's PolyLRScheduler. Thread: any. */
#ifndef VX_TRAIN_SCHEDULE_H
#define VX_TRAIN_SCHEDULE_H

#include <stdint.h>

/* base x (1 - epoch / epochs)^0.9, constant within the epoch; epoch < epochs. */
double vx_poly_lr(double base, uint32_t epoch, uint32_t epochs);

#endif
