/* From a job to its parameters: what cannot be trained is refused before anything is prepared. */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/config.h"
#include "daemon/resolve.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char with_ignore[] =
    "{\"channel_names\": {\"0\": \"CT\"}, \"labels\": {\"background\": 0, \"organ\": 1, "
    "\"ignore\": 2}, \"numTraining\": 2, \"file_ending\": \".nii.gz\"}";

static int resolve(const char *dir, const char *type, struct vx_err *err) {
    vx_auto_free char *raw = vx_strf("%s/Dataset001_X", dir);
    vx_auto_free char *json = vx_strf("%s/dataset.json", raw);
    vx_auto_free char *spec = vx_strf("{\"spec_version\": 1, \"type\": \"%s\", \"dataset\": "
                                      "\"Dataset001_X\"}",
                                      type);
    vx_auto_free char *job = vx_strf("%s/job", dir);
    cr_assert_eq(vx_mkdirs(raw, 0755, NULL), VX_OK);
    cr_assert_eq(vx_write_file_atomic(json, with_ignore, strlen(with_ignore), 0644, NULL), VX_OK);
    struct vx_config config = {0};
    struct vx_resolve_input in = {1, spec, job, raw, NULL, NULL, &config};
    struct vx_resolved r = {0};
    return vx_resolve(&in, &r, err);
}

Test(daemon_resolve, an_ignore_label_is_refused_for_training_only) {
    char dir[] = "/tmp/voxeld-resolve-XXXXXX";
    struct vx_err err = {0};
    cr_assert(mkdtemp(dir));
    cr_assert_eq(resolve(dir, "train", &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "ignore_label_unsupported");
    cr_assert_str_eq(err.where, "/dataset");
    cr_assert(strstr(err.text, "Dataset001_X"), "%s", err.text);
    /* preparing goes on to the next question: is there a plan? */
    cr_assert_eq(resolve(dir, "prepare", &err), VX_E_STATE);
    cr_assert_str_eq(err.reason, "dataset_not_ready");
    vx_remove_tree(dir, NULL);
}
