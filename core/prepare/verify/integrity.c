#include "prepare/integrity.h"

#include "base/err.h"
#include "plan/dataset.h"
#include "prepare/check.h"
#include "prepare/extract.h"
#include "prepare/verify/findings.h"
#include "volume/nifti.h"
#include "volume/rawset.h"

#include <stdio.h>
#include <string.h>

int vx_integrity_set(const struct vx_dataset_desc *dataset, const struct vx_rawset *set,
                     struct vx_findings *ret, struct vx_err *err) {
    int rc = VX_OK;
    for (size_t i = 0; i < set->n_problems && rc == VX_OK; i++) {
        const struct vx_rawset_problem *p = &set->problems[i];
        struct finding_key key = {strcmp(p->code, "orphan_label") == 0, p->name, NULL, "files",
                                  p->code};
        rc = findings_add(ret, &key, "%s", p->text);
    }
    if (set->n_cases == 0 && rc == VX_OK) {
        struct finding_key key = {false, NULL, NULL, "imagesTr", "no_cases"};
        rc =
            findings_add(ret, &key, "no case was found; files are expected as imagesTr/CASE_0000%s",
                         dataset->file_ending);
    } else if (set->n_cases != (size_t)dataset->num_training && rc == VX_OK) {
        struct finding_key key = {false, NULL, "dataset.json", "numTraining", "case_count"};
        rc = findings_add(ret, &key,
                          "dataset.json says numTraining %d, but %zu cases were found; correct the "
                          "number or bring the missing files",
                          dataset->num_training, set->n_cases);
    }
    return rc == VX_OK ? rc : vx_fail(err, rc, NULL, "out of memory");
}

/* One case being looked at. */
struct look {
    const struct vx_dataset_desc *dataset;
    const struct vx_rawset_case *c;
    struct vx_findings *findings;
    bool usable;
    struct vx_volume image;
    struct vx_labelmap labels;
};

static struct finding_key key_of(struct look *l, bool warning, const char *file, const char *field,
                                 const char *code) {
    l->usable = l->usable && warning;
    return (struct finding_key){warning, l->c->name, file, field, code};
}

/* The reader's refusal as a finding; only lack of memory remains an error. */
static int unreadable(struct look *l, const char *file, const struct vx_err *e) {
    bool label = strncmp(e->reason, "label_", 6) == 0;
    if (e->code == VX_E_NOMEM) {
        return VX_E_NOMEM;
    }
    struct finding_key key = key_of(l, false, file, label ? "labels" : "file",
                                    label ? "unexpected_label" : "unreadable");
    return findings_add(l->findings, &key, "%s (%s)", e->text, e->reason);
}

static int compare_grids(struct look *l, const struct vx_nifti_info *first, const char *path,
                         const struct vx_nifti_info *info, const char *what) {
    const char *code;
    char text[400];
    if (!check_same_grid(first->shape, &first->geo, info->shape, &info->geo, what, &code, text,
                         sizeof text)) {
        struct finding_key key =
            key_of(l, false, path, strcmp(code, "shape_mismatch") == 0 ? "shape" : "spacing", code);
        return findings_add(l->findings, &key, "%s", text);
    }
    if (!vx_geometry_same_affine(&first->geo, &info->geo)) {
        struct finding_key key = key_of(l, true, path, "affine", "affine_mismatch");
        return findings_add(l->findings, &key,
                            "origin or direction of the %s differ from the first image's; voxels "
                            "are taken as they are stored",
                            what);
    }
    return VX_OK;
}

/* Headers of all files: cheap, and names every file that does not fit at once. */
static int look_at_headers(struct look *l) {
    struct vx_nifti_info first, info;
    const char *const *images = (const char *const *)l->c->images;
    struct vx_err e = {0};
    int rc = VX_OK;
    bool have_first = vx_nifti_read_header(images[0], &first, &e) == VX_OK;
    if (!have_first) {
        rc = unreadable(l, images[0], &e);
    }
    for (int i = 1; i <= l->dataset->n_channels && rc == VX_OK; i++) {
        bool label = i == l->dataset->n_channels;
        const char *path = label ? l->c->label : images[i];
        char what[32];
        snprintf(what, sizeof what, label ? "label" : "channel %d", i);
        e = (struct vx_err){0};
        if (vx_nifti_read_header(path, &info, &e) != VX_OK) {
            rc = unreadable(l, path, &e);
        } else if (have_first) {
            rc = compare_grids(l, &first, path, &info, what);
        }
    }
    return rc;
}

static int look_at_voxels(struct look *l) {
    struct vx_err e = {0};
    char text[400];
    int rc = vx_nifti_read_channels((const char *const *)l->c->images, l->dataset->n_channels, NULL,
                                    &l->image, NULL, &e);
    if (rc != VX_OK) {
        rc = unreadable(l, e.where[0] ? e.where : l->c->images[0], &e);
    } else if (l->image.channels != l->dataset->n_channels) {
        struct finding_key key =
            key_of(l, false, l->c->images[0], "channel_names", "channel_mismatch");
        rc = findings_add(l->findings, &key,
                          "the file holds %d channels (its fourth axis), dataset.json names %d; "
                          "write one file per channel",
                          l->image.channels, l->dataset->n_channels);
    } else if (!check_finite(&l->image, text, sizeof text)) {
        struct finding_key key = key_of(l, false, l->c->images[0], "voxels", "not_finite");
        rc = findings_add(l->findings, &key, "%s", text);
    }
    e = (struct vx_err){0};
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_nifti_read_labels(l->c->label, NULL, &l->labels, &e);
    if (rc != VX_OK) {
        return unreadable(l, l->c->label, &e);
    }
    if (!check_labels(&l->labels, l->dataset, text, sizeof text)) {
        struct finding_key key = key_of(l, false, l->c->label, "labels", "unexpected_label");
        rc = findings_add(l->findings, &key, "%s", text);
    }
    return rc;
}

static int print_of(struct look *l, uint32_t k, struct vx_case_print *ret, struct vx_err *err) {
    struct vx_case_print p;
    int rc = vx_extract_case(&l->image, &l->labels, k, &p, err);
    if (rc != VX_OK) {
        return rc;
    }
    if (p.n_foreground == 0) {
        struct finding_key key = key_of(l, true, l->c->label, "labels", "no_foreground");
        rc = findings_add(l->findings, &key,
                          "no voxel has a label above 0; the case trains background only");
    }
    if (ret && rc == VX_OK) {
        *ret = p;
    } else {
        vx_case_print_release(&p);
    }
    return rc;
}

static bool files_there(const struct vx_dataset_desc *dataset, const struct vx_rawset_case *c) {
    bool all = c->label != NULL;
    for (int i = 0; i < dataset->n_channels && all; i++) {
        all = c->images[i] != NULL;
    }
    return all;
}

int vx_integrity_case(const struct vx_dataset_desc *dataset, const struct vx_rawset_case *c,
                      uint32_t k, struct vx_findings *ret, struct vx_case_print *ret_print,
                      bool *ret_usable, struct vx_err *err) {
    struct look l = {.dataset = dataset, .c = c, .findings = ret};
    int rc = VX_OK;
    l.usable = files_there(dataset, c); /* what is missing is a finding of the set */
    if (l.usable) {
        rc = look_at_headers(&l);
        if (l.usable && rc == VX_OK) {
            rc = look_at_voxels(&l);
        }
        if (l.usable && rc == VX_OK) {
            rc = print_of(&l, k, ret_print, err);
        }
        vx_volume_release(&l.image);
        vx_labelmap_release(&l.labels);
    }
    if (rc != VX_OK) {
        return vx_fail(err, rc, NULL, "no memory to look at case %s", c->name);
    }
    if (ret_usable) {
        *ret_usable = l.usable;
    }
    return VX_OK;
}

uint64_t vx_integrity_memory(const struct vx_rawset_case *c, int n_channels) {
    struct vx_nifti_info info;
    if (!c->images[0] || vx_nifti_read_header(c->images[0], &info, NULL) != VX_OK) {
        return 0;
    }
    /* Channels as float, labels, mask; and 28 bytes per foreground voxel for the draws, a quarter
     * of the volume being a generous guess for those. */
    uint64_t voxels = (uint64_t)vx_shape_count(info.shape);
    return voxels * ((uint64_t)n_channels * sizeof(float) + sizeof(int16_t) + 1) + voxels / 4 * 28;
}
