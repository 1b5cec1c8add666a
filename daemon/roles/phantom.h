/* Synthetic data sets: ellipsoids that touch each other in a textured, noisy body, one per label.
 *
 * Made to be learnt quickly by a small network and to pass through everything that real data passes
 * through: shapes that differ between cases, voxels outside the body (0, or air in CT), labels next
 * to each other. dataset.json says that the set is synthetic. The voxels are a function of the
 * options alone. Thread: any. */
#ifndef VX_DAEMON_ROLES_PHANTOM_H
#define VX_DAEMON_ROLES_PHANTOM_H

#include <stdbool.h>
#include <stdint.h>

struct vx_err;

struct vx_phantom_options {
    const char *root; /* folder of the raw data sets; the set is written to root/name */
    const char *name; /* DatasetNNN_Name */
    int n_cases, n_channels, n_labels;
    int64_t shape[3];  /* z, y, x */
    double spacing[3]; /* mm; z, y, x */
    int vary_percent;  /* each axis of each case is up to this much longer or shorter */
    uint64_t seed;
    bool ct; /* CT numbers and channel name CT; otherwise MRI with a gain of its own per case */
};

/* Writes root/name whole or not at all; VX_E_EXISTS where it is there already, VX_E_INVALID names
 * the option. */
int vx_phantom_write(const struct vx_phantom_options *o, struct vx_err *err);

#endif
