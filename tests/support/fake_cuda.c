/* A stand-in for the CUDA module: a voxeld_cuda.so whose GPUs compute on the CPU, in the CPU's
 * arithmetic, so that a job gives the same weights whichever of them it runs on.
 *
 * Which GPU a process has is what CUDA_VISIBLE_DEVICES says, as with the real one: one UUID, seen
 * as cuda:0. The folder $VX_FAKE_CUDA says how GPUs are doing; it is looked at whenever a GPU is
 * opened or a run is started. A file named UUID: the GPU is lost; with "run N [CODE]" in it only
 * from the process' run N on, with CUDA's number CODE for the error. UUID.model: its model's name,
 * "Fake GPU" without it. UUID.slow: milliseconds that every run takes longer. */
#include "device/cpu/backend.h"
#include "device/device.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(VX_DEVICE_ABI == 3, "the entry's name follows the ABI");

const struct vx_device_api *vx_device_module_v3(void);

static const struct vx_device_api table;
static long runs; /* of this process */

static const char *uuid(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible ? visible : "";
}

/* The file about this process' GPU, or NULL where there is none. */
static FILE *about(const char *ending) {
    const char *dir = getenv("VX_FAKE_CUDA");
    char path[512];
    snprintf(path, sizeof path, "%s/%s%s", dir ? dir : "/nonexistent", uuid(), ending);
    return fopen(path, "re");
}

static int check_health(struct vx_err *err) {
    FILE *f = about("");
    long from = 0;
    int code = 0, rc = VX_OK;
    if (f) {
        int n = fscanf(f, "run %ld %d", &from, &code);
        if (n < 1 || runs >= from) {
            rc = vx_fail(err, VX_E_DEVICE, "device_lost", "the fake GPU %s is lost at run %ld",
                         uuid(), runs);
        }
        fclose(f);
    }
    if (rc != VX_OK && err) {
        err->native = code;
    }
    return rc;
}

static void dawdle(void) {
    FILE *f = about(".slow");
    int ms = 0;
    if (f && fscanf(f, "%d", &ms) == 1) {
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
    }
    if (f) {
        fclose(f);
    }
}

static int fake_open(int index, const struct vx_device_options *options, struct vx_device **ret,
                     struct vx_err *err) {
    if (index != 0 || strncmp(uuid(), "GPU-", 4) != 0 || strchr(uuid(), ',')) {
        return vx_fail(err, VX_E_NOT_FOUND, "no_gpu",
                       "no device \"cuda:%d\": this process sees \"%s\"", index, uuid());
    }
    int rc = check_health(err);
    rc = rc == VX_OK ? vx_cpu_device_api.open(0, options, ret, err) : rc;
    if (rc == VX_OK) {
        (*ret)->api = &table;
    }
    return rc;
}

static void fake_info(struct vx_device *device, struct vx_device_info *ret) {
    vx_cpu_device_api.info(device, ret);
    snprintf(ret->name, sizeof ret->name, "cuda:0");
    snprintf(ret->model, sizeof ret->model, "Fake GPU");
    ret->bf16 = true;
    FILE *f = about(".model");
    if (f) {
        if (fgets(ret->model, sizeof ret->model, f)) {
            ret->model[strcspn(ret->model, "\n")] = '\0';
        }
        fclose(f);
    }
}

/* As the real one: bf16 is all it takes. */
static int fake_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                        enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    if (precision != VX_BF16) {
        return vx_fail(err, VX_E_UNSUPPORTED, "precision_unsupported", "bf16 only");
    }
    return vx_cpu_device_api.compile(state, net, mode, VX_FP32, ret, err);
}

static int fake_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
                    struct vx_err *err) {
    int rc = check_health(err);
    runs++;
    dawdle();
    return rc == VX_OK ? vx_cpu_device_api.run(program, in, ret_ticket, err) : rc;
}

/* The rest is the CPU's; its table is no constant that another could be made of. */
#define THROUGH(name, params, args)                                                                \
    static int fake_##name params {                                                                \
        return vx_cpu_device_api.name args;                                                        \
    }
THROUGH(state_create,
        (struct vx_device * d, const struct vx_oplist *n, struct vx_state **r, struct vx_err *e),
        (d, n, r, e))
THROUGH(state_upload,
        (struct vx_state * s, int p, enum vx_state_part t, const float *f, struct vx_err *e),
        (s, p, t, f, e))
THROUGH(state_download,
        (struct vx_state * s, int p, enum vx_state_part t, float *f, struct vx_err *e),
        (s, p, t, f, e))
THROUGH(wait, (struct vx_program * p, uint64_t t, struct vx_run_result *r, struct vx_err *e),
        (p, t, r, e))
THROUGH(read_logits, (struct vx_program * p, float *f, struct vx_err *e), (p, f, e))

static void fake_close(struct vx_device *device) {
    vx_cpu_device_api.close(device);
}

static void fake_state_free(struct vx_state *state) {
    vx_cpu_device_api.state_free(state);
}

static void fake_program_free(struct vx_program *program) {
    vx_cpu_device_api.program_free(program);
}

static size_t fake_program_memory(struct vx_program *program) {
    return vx_cpu_device_api.program_memory(program);
}

static const struct vx_device_api table = {
    .abi = VX_DEVICE_ABI,
    .name = "cuda",
    .open = fake_open,
    .close = fake_close,
    .info = fake_info,
    .state_create = fake_state_create,
    .state_free = fake_state_free,
    .state_upload = fake_state_upload,
    .state_download = fake_state_download,
    .compile = fake_compile,
    .program_free = fake_program_free,
    .program_memory = fake_program_memory,
    .run = fake_run,
    .wait = fake_wait,
    .read_logits = fake_read_logits,
};

__attribute__((visibility("default"))) const struct vx_device_api *vx_device_module_v3(void) {
    return &table;
}
