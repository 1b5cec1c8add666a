/* Backends by name, and the public functions that call through their tables.
 *
 * "cpu" is linked in; "cuda" is a module, voxeld_cuda.so, opened on first use and never closed;
 * vx_device_register adds others. A module is looked for in $VOXELD_MODULE_DIR where that is set,
 * else beside the executable, in ../lib/voxeld from it and in the library folder of the
 * installation. Its entry is a function whose name ends in the ABI number, so a module of another
 * ABI is refused by name, before any of its code runs. Thread: any for open and register. */
#include "device/device.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "device/cpu/backend.h"
#include "device/oplist.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(x)   #x
#define TEXT(x)      TEXT_OF(x)
#define MODULE_ENTRY "vx_device_module_v" TEXT(VX_DEVICE_ABI)

typedef const struct vx_device_api *(*module_entry_fn)(void);

enum { MAX_BACKENDS = 8 };

/* Guards the table below; a leaf lock: nothing else is locked while it is held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct vx_device_api *backends[MAX_BACKENDS] = {&vx_cpu_device_api};
static int n_backends = 1;

static const struct vx_device_api *find(const char *name) {
    for (int i = 0; i < n_backends; i++) {
        if (strcmp(backends[i]->name, name) == 0) {
            return backends[i];
        }
    }
    return NULL;
}

static int add(const struct vx_device_api *api, struct vx_err *err) {
    if (api->abi != VX_DEVICE_ABI) {
        return vx_fail(err, VX_E_UNSUPPORTED, "abi_mismatch",
                       "device backend %s speaks ABI %u, this voxeld needs %d: install both from "
                       "one build",
                       api->name, api->abi, VX_DEVICE_ABI);
    }
    if (find(api->name)) {
        return vx_fail(err, VX_E_EXISTS, NULL, "there is a device backend %s already", api->name);
    }
    if (n_backends == MAX_BACKENDS) {
        return vx_fail(err, VX_E_LIMIT, NULL, "no room for device backend %s: the limit is %d",
                       api->name, MAX_BACKENDS);
    }
    backends[n_backends++] = api;
    return VX_OK;
}

int vx_device_register(const struct vx_device_api *api, struct vx_err *err) {
    pthread_mutex_lock(&lock);
    int rc = add(api, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* The path of the module's file, or NULL; the caller frees it. */
static char *module_path(const char *name) {
    const char *dir = getenv("VOXELD_MODULE_DIR");
    if (dir && *dir) {
        char *path = vx_strf("%s/voxeld_%s.so", dir, name);
        return path && vx_path_exists(path) ? path : (free(path), NULL);
    }
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    self[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = '\0';
    }
    for (int i = 0; slash && i < 2; i++) {
        char *path =
            vx_strf(i == 0 ? "%s/voxeld_%s.so" : "%s/../lib/voxeld/voxeld_%s.so", self, name);
        if (path && vx_path_exists(path)) {
            return path;
        }
        free(path);
    }
    char *path = vx_strf("%s/voxeld_%s.so", VX_MODULE_DIR, name);
    return path && vx_path_exists(path) ? path : (free(path), NULL);
}

static int open_module(const char *name, struct vx_err *err) {
    vx_auto_free char *path = module_path(name);
    if (!path) {
        return vx_fail(err, VX_E_NOT_FOUND, "device_module_absent",
                       "no device \"%s\": its module voxeld_%s.so is not installed (looked in %s)",
                       name, name,
                       getenv("VOXELD_MODULE_DIR") ? "$VOXELD_MODULE_DIR" : VX_MODULE_DIR);
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        return vx_fail(err, VX_E_NOT_FOUND, "device_module_unusable", "no device \"%s\": %s", name,
                       dlerror());
    }
    module_entry_fn entry = (module_entry_fn)dlsym(module, MODULE_ENTRY);
    const struct vx_device_api *api = entry ? entry() : NULL;
    if (!api || strcmp(api->name, name) != 0) {
        dlclose(module);
        return vx_fail(err, VX_E_UNSUPPORTED, "abi_mismatch",
                       "%s does not offer %s for \"%s\": install it from the same build as voxeld",
                       path, MODULE_ENTRY, name);
    }
    return add(api, err);
}

static const struct vx_device_api *find_or_load(const char *name, struct vx_err *err) {
    pthread_mutex_lock(&lock);
    const struct vx_device_api *api = find(name);
    if (!api && strcmp(name, "cuda") == 0) {
        api = open_module(name, err) == VX_OK ? find(name) : NULL;
    } else if (!api) {
        vx_fail(err, VX_E_NOT_FOUND, NULL, "no device \"%s\": there is auto, cpu and cuda", name);
    }
    pthread_mutex_unlock(&lock);
    return api;
}

static int open_auto(const struct vx_device_options *options, struct vx_device **ret,
                     struct vx_err *err) {
    return vx_device_open("cuda:0", options, ret, NULL) == VX_OK
               ? VX_OK
               : vx_device_open("cpu:0", options, ret, err);
}

int vx_device_open(const char *name, const struct vx_device_options *options,
                   struct vx_device **ret, struct vx_err *err) {
    if (strcmp(name, "auto") == 0) {
        return open_auto(options, ret, err);
    }
    char backend[16];
    const char *colon = strchrnul(name, ':');
    char *end = NULL;
    long index = *colon ? strtol(colon + 1, &end, 10) : 0;
    if ((size_t)(colon - name) >= sizeof backend || (*colon && (end == colon + 1 || *end)) ||
        index < 0 || index > 1023) {
        return vx_fail(err, VX_E_INVALID, NULL,
                       "\"%.40s\" is no device name: write auto, cpu, cuda or cuda:1", name);
    }
    snprintf(backend, sizeof backend, "%.*s", (int)(colon - name), name);
    struct vx_err load = {0};
    const struct vx_device_api *api = find_or_load(backend, &load);
    if (!api) {
        if (err) {
            *err = load;
        }
        return load.code;
    }
    struct vx_device_options defaults = {.deterministic = true};
    return api->open((int)index, options ? options : &defaults, ret, err);
}

void vx_device_close(struct vx_device *device) {
    if (device) {
        device->api->close(device);
    }
}

void vx_device_describe(struct vx_device *device, struct vx_device_info *ret) {
    device->api->info(device, ret);
}

int vx_device_use_memory(struct vx_device *device, void *memory, size_t bytes, struct vx_err *err) {
    return device->api->use_memory ? device->api->use_memory(device, memory, bytes, err) : VX_OK;
}

int vx_state_create(struct vx_device *device, const struct vx_oplist *net, struct vx_state **ret,
                    struct vx_err *err) {
    return device->api->state_create(device, net, ret, err);
}

void vx_state_free(struct vx_state *state) {
    if (state) {
        state->device->api->state_free(state);
    }
}

int vx_state_upload(struct vx_state *state, int param, enum vx_state_part part, const float *src,
                    struct vx_err *err) {
    return state->device->api->state_upload(state, param, part, src, err);
}

int vx_state_download(struct vx_state *state, int param, enum vx_state_part part, float *dst,
                      struct vx_err *err) {
    return state->device->api->state_download(state, param, part, dst, err);
}

int vx_program_compile(struct vx_state *state, const struct vx_oplist *net, enum vx_mode mode,
                       enum vx_precision precision, struct vx_program **ret, struct vx_err *err) {
    return state->device->api->compile(state, net, mode, precision, ret, err);
}

static const struct vx_device_api *api_of(const struct vx_program *program) {
    return program->state->device->api;
}

void vx_program_free(struct vx_program *program) {
    if (program) {
        api_of(program)->program_free(program);
    }
}

size_t vx_program_memory(struct vx_program *program) {
    return api_of(program)->program_memory(program);
}

int vx_program_run(struct vx_program *program, const struct vx_run_input *in, uint64_t *ret_ticket,
                   struct vx_err *err) {
    return api_of(program)->run(program, in, ret_ticket, err);
}

int vx_program_wait(struct vx_program *program, uint64_t ticket, struct vx_run_result *ret,
                    struct vx_err *err) {
    return api_of(program)->wait(program, ticket, ret, err);
}

int vx_program_read_logits(struct vx_program *program, float *dst, struct vx_err *err) {
    return api_of(program)->read_logits(program, dst, err);
}

int vx_sums_begin(struct vx_program *program, const int64_t volume[3],
                  const float *const importance[3], struct vx_sums **ret, struct vx_err *err) {
    const struct vx_device_api *api = api_of(program);
    return api->sums_begin
               ? api->sums_begin(program, volume, importance, ret, err)
               : vx_fail(err, VX_E_UNSUPPORTED, NULL, "device %s adds up no tiles", api->name);
}

int vx_sums_image(struct vx_sums *sums, const float *image, struct vx_err *err) {
    return api_of(sums->program)->sums_image(sums, image, err);
}

int vx_sums_add(struct vx_sums *sums, const struct vx_tile *tiles, int n, struct vx_err *err) {
    return api_of(sums->program)->sums_add(sums, tiles, n, err);
}

int vx_sums_read(struct vx_sums *sums, const float *const weights[3], float passes, float *dst,
                 bool *ret_finite, struct vx_err *err) {
    return api_of(sums->program)->sums_read(sums, weights, passes, dst, ret_finite, err);
}

void vx_sums_free(struct vx_sums *sums) {
    if (sums) {
        api_of(sums->program)->sums_free(sums);
    }
}
