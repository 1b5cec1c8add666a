/* Between training and validation: the final and the best checkpoint once more, as nnU-Net's .pth.
 * A file that is there is whole and of the same weights (both checkpoints are then finished), so a
 * restart goes on where it was. */
#include "daemon/roles/step.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/pth_write.h"
#include "daemon/session/brief.h"
#include "plan/plans.h"
#include "train/engine.h"

static int export_one(const struct step *s, const char *from, const char *to, struct vx_err *err) {
    const struct vx_brief *b = s->brief;
    vx_auto_free char *src = vx_strf("%s/%s", b->dir, from);
    vx_auto_free char *dst = vx_strf("%s/%s", b->dir, to);
    if (!src || !dst) {
        return vx_fail(err, VX_E_NOMEM, NULL, "exporting the checkpoint");
    }
    /* without validation batches there is no best one */
    if (vx_path_exists(dst) || !vx_path_exists(src)) {
        return VX_OK;
    }
    struct vx_ckpt c;
    int rc = vx_ckpt_read(src, &c, err);
    if (rc != VX_OK) {
        return rc;
    }
    struct vx_pth_words words = {.plans = b->plans,
                                 .dataset_json = b->dataset_json,
                                 .configuration = b->configuration,
                                 .fold = b->fold,
                                 .dims = s->config->dims};
    rc = vx_pth_write(dst, &c, &words, err);
    vx_ckpt_release(&c);
    return rc;
}

int vx_step_export(struct step *s, struct vx_err *err) {
    int rc = export_one(s, VX_CHECKPOINT_FINAL, "checkpoint_final.pth", err);
    return rc == VX_OK ? export_one(s, VX_CHECKPOINT_BEST, "checkpoint_best.pth", err) : rc;
}
