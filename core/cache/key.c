#include "cache/key.h"
#include "cache/cache.h"

#include "base/err.h"
#include "base/json.h"
#include "base/own.h"
#include "plan/plans.h"

#include <string.h>

static json_t *channel_json(const struct vx_plans *plans, const struct vx_plan_config *config,
                            int c) {
    json_t *o = json_pack("{s:s,s:b}", "scheme", vx_norm_name(config->norm[c]), "masked",
                          (int)config->use_mask_for_norm[c]);
    if (o && config->norm[c] == VX_NORM_CT) {
        const struct vx_intensity *p = &plans->intensity[c];
        json_object_set_new(o, "mean", json_real(p->mean));
        json_object_set_new(o, "std", json_real(p->std));
        json_object_set_new(o, "clip_low", json_real(p->percentile_00_5));
        json_object_set_new(o, "clip_high", json_real(p->percentile_99_5));
        if (json_object_size(o) != 6) { /* Jansson refuses NaN and infinity */
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

/* NULL where a number is not finite or memory ran out. */
static json_t *key_json(const struct vx_plans *plans, const struct vx_plan_config *config,
                        const struct vx_dataset_desc *dataset) {
    vx_auto_json json_t *channels = json_array();
    vx_auto_json json_t *labels = json_array();
    for (int c = 0; c < config->n_channels; c++) {
        if (json_array_append_new(channels, channel_json(plans, config, c)) != 0) {
            return NULL;
        }
    }
    for (int i = 0; i < dataset->n_labels; i++) {
        json_array_append_new(labels, json_integer(dataset->labels[i].value));
    }
    const int *t = plans->transpose_forward;
    const double *s = config->spacing;
    return json_pack("{s:i,s:i,s:[f,f,f],s:[i,i,i],s:O,s:[i,i],s:[i,i],s:O,s:i}", "format",
                     VX_CACHE_FORMAT, "dims", config->dims, "spacing", s[0], s[1], s[2],
                     "transpose", t[0], t[1], t[2], "normalisation", channels, "resample_data",
                     config->order_data, config->order_data_z, "resample_seg", config->order_seg,
                     config->order_seg_z, "labels", labels, "ignore", dataset->ignore_label);
}

int vx_cache_key(const struct vx_plans *plans, const struct vx_plan_config *config,
                 const struct vx_dataset_desc *dataset, struct vx_cache_key *ret,
                 struct vx_err *err) {
    vx_auto_json json_t *doc = key_json(plans, config, dataset);
    char *text = doc ? vx_json_canonical(doc) : NULL;
    if (!text) {
        return vx_fail(err, VX_E_INVALID, "bad_plan",
                       "the plan %s of %s holds a number that is not finite", config->name,
                       plans->dataset_name);
    }
    vx_sha256_hex(text, strlen(text), ret->hex);
    ret->text = text;
    return VX_OK;
}

void vx_cache_key_release(struct vx_cache_key *key) {
    free(key->text);
    memset(key, 0, sizeof *key);
}
