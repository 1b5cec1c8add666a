/* Is a raw data set what its dataset.json says? Case by case, so that one bad case hides no other,
 * and in the same pass over the voxels the case's fingerprint (extract.h).
 *
 * Errors make a data set unusable; warnings do not. Codes: missing_channel, missing_label,
 * extra_channel, bad_name, bad_mapping, case_count, unreadable (with the reader's own reason in
 * the text), channel_mismatch, shape_mismatch, spacing_mismatch, unexpected_label, not_finite,
 * no_cases;
 * warnings: orphan_label, affine_mismatch, no_foreground. Thread: any; one case each. */
#ifndef VX_PREPARE_INTEGRITY_H
#define VX_PREPARE_INTEGRITY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_case_print;
struct vx_dataset_desc;
struct vx_err;
struct vx_rawset;
struct vx_rawset_case;

struct vx_finding {
    bool warning;
    char case_name[256];
    char file[512]; /* the file it is about; may be empty */
    char field[32]; /* "shape", "spacing", "labels", "voxels", "file", "numTraining", ... */
    char code[48];
    char text[512]; /* what is wrong, with the values, and what to do */
};

struct vx_findings {
    size_t n;
    struct vx_finding *list; /* owned */
};
void vx_findings_release(struct vx_findings *f);
bool vx_findings_ok(const struct vx_findings *f); /* warnings at most */

/* What names and counts tell, without opening a file: the set's problems, numTraining. */
int vx_integrity_set(const struct vx_dataset_desc *dataset, const struct vx_rawset *set,
                     struct vx_findings *ret, struct vx_err *err);
/* Reads the files of one case and checks them; findings are appended to ret. ret_print (may be
 * NULL): its fingerprint with k draws, filled in only where the case is usable, which *ret_usable
 * (may be NULL) tells. A finding is no error of the call: it fails only where memory runs out. */
int vx_integrity_case(const struct vx_dataset_desc *dataset, const struct vx_rawset_case *c,
                      uint32_t k, struct vx_findings *ret, struct vx_case_print *ret_print,
                      bool *ret_usable, struct vx_err *err);
/* Peak bytes of memory that vx_integrity_case needs, from the headers; 0 where they cannot be read
 * (then the check itself ends quickly). */
uint64_t vx_integrity_memory(const struct vx_rawset_case *c, int n_channels);

/* {"ok", "cases", "errors", "warnings", "findings": [{"severity", "case", "file", "field", "code",
 * "message"}]}; new reference. */
json_t *vx_findings_to_json(const struct vx_findings *f, size_t n_cases);
/* The list of such a document appended to f. */
int vx_findings_from_json(const json_t *json, struct vx_findings *f, struct vx_err *err);

#define vx_auto_findings __attribute__((cleanup(vx_findings_release)))

#endif
