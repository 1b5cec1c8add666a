#include "train/schedule.h"

#include <math.h>

double vx_poly_lr(double base, uint32_t epoch, uint32_t epochs) {
    return base * pow(1.0 - (double)epoch / epochs, VX_POLY_POWER);
}
