#include "gpu_check.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"
#include "device/device.h"
#include "device/net_maker.h"
#include "device/oplist.h"
#include "net/net.h"
#include "networks.h"
#include "ref/ref.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double OPERATOR_TOLERANCE = 1e-2; /* relative, L2, over a whole output */
static const double NETWORK_COSINE = 0.97;     /* activations near zero fall on either side */
static const double FOLLOW_TOLERANCE = 0.02;   /* of the loss, mean over the last quarter */

/* --- a network on a device; any failure ends the program --- */

static void must(int rc, const struct vx_err *err, const char *what) {
    if (rc != VX_OK) {
        printf("{\"check\": \"%s\", \"passed\": false}\n", what);
        fprintf(stderr, "gpu_check: %s: %s\n", what, err->text);
        exit(1);
    }
}

struct host {
    const struct vx_oplist *net;
    struct vx_device *device;
    struct vx_state *state;
};

static struct host open_host(const char *device, const struct vx_oplist *net) {
    struct host h = {.net = net};
    struct vx_err err = {0};
    struct vx_device_options options = {.deterministic = true};
    must(vx_ref_register(&err), &err, "reference");
    must(vx_device_open(device, &options, &h.device, &err), &err, device);
    must(vx_state_create(h.device, net, &h.state, &err), &err, "state");
    float **values = vx_net_values_create(net);
    vx_net_init(net, 11, values);
    for (int i = 0; i < net->n_params; i++) {
        must(vx_state_upload(h.state, i, VX_PART_WEIGHT, values[i], &err), &err, "upload");
    }
    vx_net_values_free(values);
    return h;
}

static void close_host(struct host *h) {
    vx_state_free(h->state);
    vx_device_close(h->device);
}

static struct vx_program *compile(struct host *h, enum vx_mode mode, enum vx_precision precision) {
    struct vx_program *p = NULL;
    struct vx_err err = {0};
    must(vx_program_compile(h->state, h->net, mode, precision, &p, &err), &err, "compile");
    return p;
}

static struct vx_run_result run(struct vx_program *p, const struct vx_run_input *in) {
    struct vx_run_result result;
    struct vx_err err = {0};
    uint64_t ticket = 0;
    must(vx_program_run(p, in, &ticket, &err), &err, "run");
    must(vx_program_wait(p, ticket, &result, &err), &err, "wait");
    return result;
}

/* All parameters of a part, one after the other; owned by the caller. */
static float *all_of(struct host *h, enum vx_state_part part, size_t *ret_n) {
    size_t n = 0;
    struct vx_err err = {0};
    float *all = malloc((size_t)vx_oplist_param_count(h->net) * sizeof *all);
    for (int i = 0; i < h->net->n_params; i++) {
        must(vx_state_download(h->state, i, part, all + n, &err), &err, "download");
        n += h->net->params[i].count;
    }
    *ret_n = n;
    return all;
}

static double distance(const float *x, const float *y, size_t n, double *ret_cosine) {
    double xx = 0, yy = 0, xy = 0, dd = 0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i], b = (double)y[i];
        xx += a * a;
        yy += b * b;
        xy += a * b;
        dd += (a - b) * (a - b);
    }
    *ret_cosine = xy / sqrt(xx * yy);
    return sqrt(dd / yy);
}

static void print_line(json_t *o, bool passed) {
    json_object_set_new(o, "passed", json_boolean(passed));
    char *text = json_dumps(o, JSON_REAL_PRECISION(6));
    printf("%s\n", text);
    fflush(stdout);
    free(text);
    json_decref(o);
}

/* JSON has no not-a-number. */
static json_t *real(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* --- parity --- */

static void make_conv(struct maker *m, int kernel, int stride, int out) {
    struct conv_args args = {out, {kernel, kernel, kernel}, {stride, stride, stride}};
    maker_init(m, 2, 16, 12, 10, 14, 3);
    maker_head(m, maker_conv(m, 0, &args), 1);
}

static void make_case(struct maker *m, int which) {
    static const struct unet_args plain = {.batch = 2,
                                           .channels = 1,
                                           .size = {16, 16, 16},
                                           .classes = 3,
                                           .stages = 3,
                                           .features = {16, 32, 40}};
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
        maker_unet(m, &plain);
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

/* --- equal bits --- */

/* Weights after so many steps over the same samples. */
static float *weights_after(const char *device, const struct vx_oplist *net,
                            const struct samples *s, int steps, double *ret_ms, size_t *ret_n) {
    struct host h = open_host(device, net);
    struct vx_program *p = compile(&h, VX_MODE_TRAIN, VX_BF16);
    struct vx_run_input in = samples_input(s, 0.01f);
    for (int i = 0; i < 3; i++) {
        run(p, &in); /* eager, captured, launched */
    }
    uint64_t start = vx_now_ns();
    for (int i = 0; i < steps; i++) {
        run(p, &in);
    }
    *ret_ms = (double)(vx_now_ns() - start) * 1e-6 / steps;
    float *w = all_of(&h, VX_PART_WEIGHT, ret_n);
    vx_program_free(p);
    close_host(&h);
    return w;
}

/* One of networks.c by name, "small" or "tiny" for a little one. */
static struct vx_oplist *named(const char *name, struct maker *m) {
    static const struct unet_args tiny = {.batch = 1,
                                          .channels = 1,
                                          .size = {8, 8, 8},
                                          .classes = 3,
                                          .stages = 2,
                                          .features = {8, 16}};
    if (strcmp(name, "tiny") == 0) {
        maker_unet(m, &tiny);
        return &m->net;
    }
    if (strcmp(name, "small") == 0) {
        make_case(m, FIRST_NETWORK);
        return &m->net;
    }
    for (int i = 0; i < network_count(); i++) {
        if (strcmp(network_name(i), name) == 0) {
            struct vx_oplist *net = network_build(i);
            m->net = *net;
            free(net);
            return &m->net;
        }
    }
    fprintf(stderr, "gpu_check: there is no network \"%s\"\n", name);
    exit(2);
}

bool check_determinism(const char *device, const char *network, int steps) {
    struct maker m;
    struct samples s;
    double ms;
    size_t n;
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    float *a = weights_after(device, net, &s, steps, &ms, &n);
    float *b = weights_after(device, net, &s, steps, &ms, &n);
    bool equal = memcmp(a, b, n * sizeof *a) == 0;
    print_line(json_pack("{s:s, s:i, s:b}", "check", "determinism", "steps", steps + 3,
                         "equal_bits", equal),
               equal);
    free(a);
    free(b);
    samples_release(&s);
    maker_release(&m);
    return equal;
}

bool check_graph(const char *device, const char *network, int steps) {
    struct maker m;
    struct samples s;
    double graph, eager;
    size_t n;
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    unsetenv("VOXELD_CUDA_EAGER");
    float *a = weights_after(device, net, &s, steps, &graph, &n);
    setenv("VOXELD_CUDA_EAGER", "1", 1);
    float *b = weights_after(device, net, &s, steps, &eager, &n);
    unsetenv("VOXELD_CUDA_EAGER");
    bool equal = memcmp(a, b, n * sizeof *a) == 0;
    print_line(json_pack("{s:s, s:s, s:i, s:o, s:o, s:b}", "check", "graph", "network", network,
                         "steps", steps, "graph_ms", real(graph), "eager_ms", real(eager),
                         "equal_bits", equal),
               equal);
    free(a);
    free(b);
    samples_release(&s);
    maker_release(&m);
    return equal;
}

/* --- speed --- */

/* Median over runs that follow each other as a training's do: started before the one before has
 * been waited for. */
static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double median_ms(struct vx_program *p, const struct vx_run_input *in, int steps) {
    double *ms = malloc((size_t)steps * sizeof *ms);
    struct vx_err err = {0};
    uint64_t ticket = 0, before = 0;
    for (int i = 0; i < 4; i++) {
        run(p, in);
    }
    must(vx_program_run(p, in, &ticket, &err), &err, "run");
    uint64_t last = vx_now_ns();
    for (int i = 0; i < steps; i++) {
        before = ticket;
        must(vx_program_run(p, in, &ticket, &err), &err, "run");
        must(vx_program_wait(p, before, NULL, &err), &err, "wait");
        uint64_t now = vx_now_ns();
        ms[i] = (double)(now - last) * 1e-6;
        last = now;
    }
    must(vx_program_wait(p, ticket, NULL, &err), &err, "wait");
    qsort(ms, (size_t)steps, sizeof *ms, by_value);
    double median = ms[steps / 2];
    free(ms);
    return median;
}

bool check_speed(const char *device, const char *network, int steps) {
    static const enum vx_mode modes[] = {VX_MODE_TRAIN, VX_MODE_VALIDATE, VX_MODE_INFER};
    struct maker m;
    struct samples s;
    double ms[3];
    struct vx_oplist *net = named(network, &m);
    samples_init(&s, net, 3);
    struct vx_run_input in = samples_input(&s, 0.01f);
    struct host h = open_host(device, net);
    size_t memory = 0;
    uint64_t start = vx_now_ns();
    double planned = 0;
    struct vx_run_result last = {0};
    for (int i = 0; i < 3; i++) {
        start = vx_now_ns();
        struct vx_program *p = compile(&h, modes[i], VX_BF16);
        planned += (double)(vx_now_ns() - start) * 1e-9;
        ms[i] = median_ms(p, &in, steps);
        last = i == 0 ? run(p, &in) : last;
        memory = i == 0 ? vx_program_memory(p) : memory;
        vx_program_free(p);
    }
    bool passed = isfinite(last.loss);
    print_line(json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:I}", "check", "speed",
                         "network", network, "batch", net->batch, "steps", steps, "train_ms",
                         real(ms[0]), "validate_ms", real(ms[1]), "infer_ms", real(ms[2]),
                         "plan_seconds", real(planned), "loss", real(last.loss), "memory_bytes",
                         (json_int_t)memory),
               passed);
    close_host(&h);
    samples_release(&s);
    maker_release(&m);
    return passed;
}

/* --- losses beside the CPU's --- */

bool check_follow(const char *device, const char *network, int batch, int steps) {
    struct maker m;
    struct vx_oplist *net = named(network, &m);
    enum { SETS = 4 };
    struct samples s[SETS];
    for (int i = 0; batch > 0 && i < net->n_tensors; i++) {
        net->tensors[i].shape[0] = batch;
    }
    net->batch = batch > 0 ? batch : net->batch;
    for (int i = 0; i < SETS; i++) {
        samples_init(&s[i], net, 100 + (uint64_t)i);
    }
    struct host a = open_host(device, net), b = open_host("cpu", net);
    struct vx_program *p = compile(&a, VX_MODE_TRAIN, VX_BF16);
    struct vx_program *q = compile(&b, VX_MODE_TRAIN, VX_FP32);
    double apart = 0, x = 0, y = 0, first = 0;
    int last_quarter = steps - (steps + 3) / 4;
    for (int i = 0; i < steps; i++) {
        struct vx_run_input in = samples_input(&s[i % SETS], 0.01f);
        x = run(p, &in).loss;
        y = run(q, &in).loss;
        first = i == 0 ? y : first;
        apart += i >= last_quarter ? fabs(x - y) / fmax(fabs(y), 0.1) / (steps - last_quarter) : 0;
    }
    bool passed = apart <= FOLLOW_TOLERANCE;
    print_line(json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o}", "check", "follow", "network",
                         network, "batch", net->batch, "steps", steps, "first_loss", real(first),
                         "loss", real(x), "loss_cpu_fp32", real(y), "mean_difference", real(apart)),
               passed);
    vx_program_free(p);
    vx_program_free(q);
    close_host(&a);
    close_host(&b);
    for (int i = 0; i < SETS; i++) {
        samples_release(&s[i]);
    }
    maker_release(&m);
    return passed;
}

/* --- the program --- */

static int describe(const char *device) {
    struct vx_device *d = NULL;
    struct vx_device_info info;
    struct vx_err err = {0};
    if (vx_device_open(device, NULL, &d, &err) != VX_OK) {
        fprintf(stderr, "gpu_check: %s\n", err.text);
        return err.code == VX_E_NOT_FOUND ? 77 : 1;
    }
    vx_device_describe(d, &info);
    print_line(json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "check", "device", "name", info.name,
                         "model", info.model, "isa", info.isa, "library", info.library,
                         "memory_bytes", (json_int_t)info.memory_bytes),
               true);
    vx_device_close(d);
    return 0;
}

int gpu_check_main(int argc, char **argv, const char *device) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *network = argc > 2 ? argv[2] : "small";
    int steps = argc > 3 ? atoi(argv[3]) : 20, batch = argc > 4 ? atoi(argv[4]) : 0;
    int rc = describe(device);
    if (rc != 0) {
        return rc;
    }
    bool passed = true;
    if (strcmp(what, "device") == 0) {
        return 0;
    }
    if (strcmp(what, "parity") == 0) {
        passed = check_parity(device);
    } else if (strcmp(what, "determinism") == 0) {
        passed = check_determinism(device, network, steps);
    } else if (strcmp(what, "graph") == 0) {
        passed = check_graph(device, network, steps);
    } else if (strcmp(what, "speed") == 0) {
        passed = check_speed(device, network, steps);
    } else if (strcmp(what, "follow") == 0) {
        passed = check_follow(device, network, batch, steps);
    } else {
        fprintf(stderr,
                "usage: gpu_check device|parity|determinism|graph|speed|follow [NETWORK] [STEPS] "
                "[BATCH]\n");
        return 2;
    }
    return passed ? 0 : 1;
}
