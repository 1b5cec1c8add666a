/* One raw case in memory: its channels and label as read, checked against each other. Axes: z, y, x
 * of the file. Thread: any, one at a time per object; runs in child processes only, files are
 * untrusted. */
#ifndef VX_PREPARE_RAWCASE_H
#define VX_PREPARE_RAWCASE_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_rawcase; /* opaque: image and label with geometry */
struct vx_rawset_case;
struct vx_dataset_desc;

/* Reads every channel and, where want_label, the label. Shape or spacing that differs between the
 * files is VX_E_INVALID
 * ("channel_mismatch", "shape_mismatch", "spacing_mismatch") and names file and both values; a
 * missing file is VX_E_NOT_FOUND. */
int vx_rawcase_load(const struct vx_rawset_case *files, int n_channels, bool want_label,
                    struct vx_rawcase **ret, struct vx_err *err);
/* NULL is fine. Returns NULL. */
struct vx_rawcase *vx_rawcase_free(struct vx_rawcase *raw);

/* One finding of the integrity check; severity "error" makes the data set unusable, "warning" does
 * not:
 * {"severity", "code", "case", "file", "message"}. Appends to the JSON array findings. */
void vx_finding_add(json_t *findings, const char *severity, const char *code, const char *case_name,
                    const char *file, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Checks one loaded case's values: NaN or infinity in the image, labels the data set does not
 * declare, affines that differ (a warning, as in nnU-Net). Returns the number of errors added. */
int vx_integrity_values(const struct vx_rawcase *raw, const struct vx_rawset_case *files,
                        const struct vx_dataset_desc *dataset, json_t *findings);
/* Loads and checks one case; what cannot be loaded becomes a finding too. *ret is NULL where it
 * cannot be used. Returns the number of errors added. */
int vx_integrity_case(const struct vx_rawset_case *files, const struct vx_dataset_desc *dataset,
                      json_t *findings, struct vx_rawcase **ret);

struct vx_rawset;
/* Findings about the set as a whole: the listing's problems, and numTraining against the cases
 * found. */
int vx_integrity_set(const struct vx_rawset *set, const struct vx_dataset_desc *dataset,
                     json_t *findings);

#endif
