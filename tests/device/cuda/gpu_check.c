/* The program: which check, on which network. */
#include "gpu_check.h"
#include "gpu_host.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const char usage[] =
    "usage: gpu_check device | parity\n"
    "       gpu_check determinism | graph | layers NETWORK STEPS\n"
    "       gpu_check speed NETWORK STEPS\n"
    "       gpu_check follow NETWORK STEPS BATCH [RECORD]   (BATCH 0: the network's own)\n"
    "       gpu_check record NETWORK STEPS BATCH RECORD     (on the CPU, for follow)\n";

int gpu_check_main(int argc, char **argv, const char *device) {
    const char *what = argc > 1 ? argv[1] : "", *network = argc > 2 ? argv[2] : "small";
    const char *fourth = argc > 4 ? argv[4] : NULL, *fifth = argc > 5 ? argv[5] : NULL;
    int steps = argc > 3 ? atoi(argv[3]) : 20, batch = fourth ? atoi(fourth) : 0;
    if (strcmp(what, "record") == 0 && fifth) {
        return record_follow(network, batch, steps, fifth) ? 0 : 1;
    }
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
    } else if (strcmp(what, "layers") == 0) {
        passed = check_layers(device, network, steps);
    } else if (strcmp(what, "follow") == 0) {
        passed = check_follow(device, network, batch, steps, fifth);
    } else {
        fputs(usage, stderr);
        return 2;
    }
    return passed ? 0 : 1;
}
