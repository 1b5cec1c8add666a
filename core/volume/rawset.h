/* The files of a raw nnU-Net data set: which cases there are, and what is missing.
 *
 * imagesTr/CASE_CCCC.nii.gz (CCCC: channel from 0000) and labelsTr/CASE.nii.gz, or the explicit
 * `dataset` object of dataset.json (CASE -> {"images": [path...], "label": path}, relative to the
 * folder). Only names are looked at, no file is opened. A case with a problem is listed all the
 * same, with NULL for what is missing. Thread: any. */
#ifndef VX_VOLUME_RAWSET_H
#define VX_VOLUME_RAWSET_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

struct vx_err;

#define VX_RAWSET_MAX_CHANNELS 64
#define VX_RAWSET_MAX_CASES    200000

struct vx_rawset_options {
    const char *dir;         /* the data set's folder */
    const char *file_ending; /* ".nii.gz" or ".nii"; others are refused: file_ending_unsupported */
    int n_channels;
    const char *images;    /* subfolder; NULL: "imagesTr"; "": dir itself */
    const char *labels;    /* subfolder; NULL: "labelsTr"; "": no labels wanted */
    const json_t *mapping; /* dataset.json's `dataset` object, or NULL */
};

struct vx_rawset_case {
    char *name;
    char **images; /* n_channels paths (dir included); NULL where the file is missing */
    char *label;   /* NULL where missing or not wanted */
};

struct vx_rawset_problem {
    char code[32];  /* missing_channel, extra_channel, missing_label, bad_name, bad_mapping,
                       orphan_label */
    char name[256]; /* the case (or file) */
    char text[512];
};

struct vx_rawset {
    int n_channels;
    size_t n_cases;
    struct vx_rawset_case *cases; /* ascending by strcmp of names */
    size_t n_problems;
    struct vx_rawset_problem *problems; /* by case, then code */
};

/* Errors (not problems): folder absent or unreadable, unsupported ending, too many cases, no
 * memory. */
int vx_rawset_list(const struct vx_rawset_options *options, struct vx_rawset *ret,
                   struct vx_err *err);
void vx_rawset_release(struct vx_rawset *set);

#define vx_auto_rawset __attribute__((cleanup(vx_rawset_release)))

#endif
