/* voxeld probe --device cuda:0 [--gpu UUID]: can the device be used? Opens it, says what it is in a
 * line {"event": "device", ...}, and ends; 1 with an error line where it cannot. Internal: the
 * daemon never touches CUDA itself, so it has GPUs looked at by this. */
#include "daemon/verbs.h"

#include "base/err.h"
#include "daemon/roles/say.h"
#include "device/device.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

int vx_role_probe(int argc, char **argv) {
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"gpu", required_argument, NULL, 'g'},
                                            {NULL, 0, NULL, 0}};
    const char *name = NULL, *gpu = NULL;
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        name = opt == 'd' ? optarg : name;
        gpu = opt == 'g' ? optarg : gpu;
    }
    if (!name || optind < argc) {
        fputs("voxeld probe is started by the daemon: --device NAME [--gpu UUID]\n", stderr);
        return 2;
    }
    if (gpu) {
        setenv("CUDA_VISIBLE_DEVICES", gpu, 1);
    }
    struct vx_err err = {0};
    struct vx_device *device = NULL;
    struct vx_device_info info;
    if (vx_device_open(name, NULL, &device, &err) != VX_OK) {
        return vx_say_error("probe", &err);
    }
    vx_device_describe(device, &info);
    vx_say(json_pack("{s:s, s:s, s:s, s:s, s:I}", "event", "device", "model", info.model, "isa",
                     info.isa, "library", info.library, "memory_bytes",
                     (json_int_t)info.memory_bytes));
    vx_device_close(device);
    return 0;
}
