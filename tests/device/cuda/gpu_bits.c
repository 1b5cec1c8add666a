/* Equal bits: of the same steps twice, of graphs and single steps. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

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
    print_line(json_pack("{s:s, s:s, s:i, s:b}", "check", "determinism", "network", network,
                         "steps", steps + 3, "equal_bits", equal),
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
