/* Operations and small networks against the reference in double precision. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>

static const double OPERATOR_TOLERANCE = 1e-2; /* relative, L2, over a whole output */
static const double NETWORK_COSINE = 0.97;     /* activations near zero fall on either side */

static void make_conv(struct maker *m, int kernel, int stride, int out) {
    struct conv_args args = {out, {kernel, kernel, kernel}, {stride, stride, stride}};
    maker_init(m, 2, 16, 12, 10, 14, 3);
    maker_head(m, maker_conv(m, 0, &args), 1);
}

static void make_case(struct maker *m, int which) {
    static const struct unet_args flat = {.batch = 2,
                                          .channels = 3,
                                          .size = {1, 32, 24},
                                          .classes = 5,
                                          .stages = 3,
                                          .features = {16, 32, 32},
                                          .kernel = {{1, 3, 3}, {1, 3, 3}, {1, 3, 3}},
                                          .stride = {{0}, {1, 2, 2}, {1, 2, 2}},
                                          .batch_dice = true};
    int x, y;
    switch (which) {
    case 0:
        make_conv(m, 3, 1, 32);
        return;
    case 1:
        make_conv(m, 3, 2, 32);
        return;
    case 2:
        make_conv(m, 1, 1, 24);
        return;
    case 3:
        maker_init(m, 2, 1, 8, 10, 6, 4);
        maker_head(m, maker_transpose(m, 0, 16, 2, 2, 2), 1);
        return;
    case 4:
        maker_init(m, 2, 8, 12, 10, 14, 3);
        maker_head(m, maker_norm(m, 0, 1), 1);
        return;
    case 5:
        maker_init(m, 2, 8, 8, 10, 6, 3);
        x = maker_conv(m, 0, &(struct conv_args){16, {3, 3, 3}, {1, 1, 1}});
        y = maker_conv(m, x, &(struct conv_args){8, {3, 3, 3}, {1, 1, 1}});
        maker_head(
            m, maker_conv(m, maker_concat(m, x, y), &(struct conv_args){8, {1, 1, 1}, {1, 1, 1}}),
            1);
        return;
    case 6:
        maker_init(m, 2, 8, 12, 10, 14, 40);
        maker_head(m, 0, 1);
        return;
    case 7:
        named("small", m);
        return;
    default:
        maker_unet(m, &flat);
    }
}

static const char *const cases[] = {"conv 3x3x3",
                                    "conv 3x3x3 stride 2",
                                    "conv 1x1x1",
                                    "transposed conv",
                                    "instance norm",
                                    "concatenation",
                                    "head of 40 classes, loss",
                                    "U-Net",
                                    "U-Net 2d, batch dice"};

enum { N_CASES = sizeof cases / sizeof *cases, FIRST_NETWORK = 7 };

static double logits_error(struct host *a, struct host *b, const struct vx_run_input *in) {
    const struct vx_oplist *net = a->net;
    const int *s = net->tensors[net->output].shape;
    size_t n = (size_t)s[0] * (size_t)s[1] * (size_t)s[2] * (size_t)s[3] * (size_t)s[4];
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    struct host *hosts[] = {a, b};
    float *out[] = {x, y};
    struct vx_err err = {0};
    for (int i = 0; i < 2; i++) {
        struct vx_program *p = compile(hosts[i], VX_MODE_INFER, i ? VX_FP32 : VX_BF16);
        run(p, in);
        must(vx_program_read_logits(p, out[i], &err), &err, "logits");
        vx_program_free(p);
    }
    double cosine, error = distance(x, y, n, &cosine);
    free(x);
    free(y);
    return error;
}

static bool check_case(const char *device, int which) {
    struct maker m;
    struct samples s;
    make_case(&m, which);
    samples_init(&s, &m.net, 6);
    struct vx_run_input in = samples_input(&s, 0);
    struct host a = open_host(device, &m.net), b = open_host("ref", &m.net);
    double logits = logits_error(&a, &b, &in), cosine;
    struct vx_program *p = compile(&a, VX_MODE_GRADIENT, VX_BF16);
    struct vx_program *q = compile(&b, VX_MODE_GRADIENT, VX_FP32);
    struct vx_run_result x = run(p, &in), y = run(q, &in);
    size_t n;
    float *g = all_of(&a, VX_PART_GRADIENT, &n), *h = all_of(&b, VX_PART_GRADIENT, &n);
    double gradient = distance(g, h, n, &cosine);
    bool network = which >= FIRST_NETWORK;
    bool passed = fabs(x.loss - y.loss) <= OPERATOR_TOLERANCE * fmax(1, fabs(y.loss)) &&
                  (network ? cosine >= NETWORK_COSINE && logits <= 5 * OPERATOR_TOLERANCE
                           : gradient <= OPERATOR_TOLERANCE && logits <= OPERATOR_TOLERANCE);
    print_line(json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "check", "parity", "of",
                         cases[which], "logits_error", real(logits), "gradient_error",
                         real(gradient), "gradient_cosine", real(cosine), "loss", real(x.loss),
                         "loss_reference", real(y.loss)),
               passed);
    free(g);
    free(h);
    vx_program_free(p);
    vx_program_free(q);
    close_host(&a);
    close_host(&b);
    samples_release(&s);
    maker_release(&m);
    return passed;
}

bool check_parity(const char *device) {
    bool passed = true;
    for (int i = 0; i < N_CASES; i++) {
        passed &= check_case(device, i);
    }
    return passed;
}
