/* What a data set says of itself: nnU-Net's dataset.json (nnU-Net v2 dataset format).
 *
 * Keys: channel_names (or the older modality), labels (name -> integer; background is 0;
 * consecutive), numTraining, file_ending; optional "ignore" among the labels (must be the largest
 * value). Regions (a label that is a list of several integers) are recognised and refused: not
 * supported yet. Thread: any. */
#ifndef VX_PLAN_DATASET_H
#define VX_PLAN_DATASET_H

#include "base/json.h"

#include <stdbool.h>

struct vx_err;

#define VX_MAX_CHANNELS 16
#define VX_MAX_LABELS   64

struct vx_label {
    char name[64];
    int value;
};

struct vx_dataset_desc {
    char name[128]; /* folder name, e.g. "Dataset004_Hippocampus"; from the caller, not from the
                       file */
    int n_channels;
    char channel_names[VX_MAX_CHANNELS][64];
    int n_labels; /* background included, "ignore" not; values 0 .. n_labels - 1 in order */
    struct vx_label labels[VX_MAX_LABELS];
    int ignore_label;     /* -1: none */
    int n_declared;       /* entries of "labels" as declared, "ignore" included (enters the memory
                             estimate) */
    char file_ending[16]; /* ".nii.gz" or ".nii" */
    int num_training;
};

/* json: the parsed dataset.json. Every problem is added to ps with its JSON pointer; VX_E_INVALID
 * where there is any. */
int vx_dataset_parse(const char *name, const json_t *json, struct vx_dataset_desc *ret,
                     struct vx_json_problems *ps);
/* Reads FOLDER/dataset.json; the name is the folder's last component. Problems become one error
 * text. */
int vx_dataset_load(const char *folder, struct vx_dataset_desc *ret, struct vx_err *err);
/* True for names of the form DatasetNNN_Something (letters, digits, '-', '_'; at most 120
 * characters). */
bool vx_dataset_name_ok(const char *name);

#endif
