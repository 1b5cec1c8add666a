#include "net_maker.h"

#include "base/err.h"
#include "base/rng.h"
#include "ref/ref.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

void rig_init(struct rig *r, const char *device, int threads, const struct vx_oplist *net) {
    struct vx_err err = {0};
    struct vx_device_options options = {.threads = threads, .deterministic = true};
    cr_assert_eq(vx_ref_register(&err), VX_OK, "%s", err.text);
    *r = (struct rig){.net = net};
    cr_assert_eq(vx_device_open(device, &options, &r->device, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_state_create(r->device, net, &r->state, &err), VX_OK, "%s", err.text);
}

void rig_randomize(struct rig *r, uint64_t seed) {
    for (int i = 0; i < r->net->n_params; i++) {
        const struct vx_param *p = &r->net->params[i];
        struct vx_rng rng = vx_rng_at(seed, 2, 0, (uint32_t)i, 0);
        float *values = malloc(p->count * sizeof *values);
        for (size_t k = 0; k < p->count; k++) {
            double x = vx_rng_normal(&rng);
            values[k] = p->init == VX_INIT_HE    ? (float)(x * sqrt(2.0 / 1.0001 / p->fan_in))
                        : p->init == VX_INIT_ONE ? (float)(1 + 0.2 * x)
                                                 : (float)(0.2 * x);
        }
        struct vx_err err = {0};
        cr_assert_eq(vx_state_upload(r->state, i, VX_PART_WEIGHT, values, &err), VX_OK, "%s",
                     err.text);
        free(values);
    }
}

void rig_release(struct rig *r) {
    vx_state_free(r->state);
    vx_device_close(r->device);
}

struct vx_program *rig_compile(struct rig *r, enum vx_mode mode, enum vx_precision precision) {
    struct vx_err err = {0};
    struct vx_program *p = NULL;
    cr_assert_eq(vx_program_compile(r->state, r->net, mode, precision, &p, &err), VX_OK, "%s",
                 err.text);
    return p;
}

struct vx_run_result rig_run(struct vx_program *p, const struct vx_run_input *in) {
    struct vx_err err = {0};
    struct vx_run_result result;
    uint64_t ticket = 0;
    cr_assert_eq(vx_program_run(p, in, &ticket, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_program_wait(p, ticket, &result, &err), VX_OK, "%s", err.text);
    return result;
}

float *rig_download(struct rig *r, int param, enum vx_state_part part) {
    struct vx_err err = {0};
    float *values = malloc(r->net->params[param].count * sizeof *values);
    cr_assert_eq(vx_state_download(r->state, param, part, values, &err), VX_OK, "%s", err.text);
    return values;
}

double rig_difference(struct rig *a, struct rig *b, enum vx_state_part part, double floor,
                      int *ret_param) {
    double worst = -1;
    for (int i = 0; i < a->net->n_params; i++) {
        float *x = rig_download(a, i, part), *y = rig_download(b, i, part);
        double top = floor, diff = 0;
        for (size_t k = 0; k < a->net->params[i].count; k++) {
            top = fmax(top, fabs((double)y[k]));
            double d = fabs((double)x[k] - (double)y[k]);
            diff = d > diff || isnan(d) ? d : diff;
        }
        if (!(diff / top <= worst)) {
            worst = diff / top;
            *ret_param = i;
        }
        free(x);
        free(y);
    }
    return worst;
}
