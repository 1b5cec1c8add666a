/* Inside core/prepare: appending to a list of findings. */
#ifndef VX_PREPARE_VERIFY_FINDINGS_H
#define VX_PREPARE_VERIFY_FINDINGS_H

#include "prepare/integrity.h"

/* What a finding is about; text comes printf style. file and field may be NULL. */
struct finding_key {
    bool warning;
    const char *case_name, *file, *field, *code;
};
/* VX_OK or VX_E_NOMEM. */
int findings_add(struct vx_findings *f, const struct finding_key *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
