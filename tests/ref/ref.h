/* The reference backend "ref": every operation as the slow, obvious loop in double precision.
 *
 * It implements the whole vtable of device/device.h, so anything that trains on "cpu" trains on
 * "ref" too, only slowly. VX_BF16 is accepted and computes in double all the same. Runs finish
 * before vx_program_run returns. Thread: one at a time per device. */
#ifndef VX_TESTS_REF_H
#define VX_TESTS_REF_H

#include "device/device.h"

extern const struct vx_device_api vx_ref_api;

/* Makes "ref" known to vx_device_open; may be called again. */
int vx_ref_register(struct vx_err *err);

#endif
