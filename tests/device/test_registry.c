/* Names, "auto", the absent module, description. */
#include "device/device.h"

#include "base/err.h"
#include "ref/ref.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(device_registry, opens_the_cpu_and_describes_it) {
    struct vx_device *device = NULL;
    struct vx_device_info info;
    struct vx_device_options options = {.threads = 3};
    const char *names[] = {"cpu", "cpu:0"};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(vx_device_open(names[i], &options, &device, NULL), VX_OK);
        vx_device_describe(device, &info);
        cr_assert_str_eq(info.name, "cpu:0");
        cr_assert_eq(info.threads, 3);
        cr_assert(strncmp(info.library, "oneDNN ", 7) == 0);
        cr_assert(strncmp(info.isa, "avx", 3) == 0);
        cr_assert_gt(strlen(info.model), 2u);
        cr_assert_gt(info.memory_bytes, (size_t)1 << 20);
        vx_device_close(device);
    }
    cr_assert_eq(vx_device_open("auto", NULL, &device, NULL), VX_OK);
    vx_device_describe(device, &info);
    cr_assert_geq(info.threads, 1);
    vx_device_close(device);
}

static struct {
    void *memory;
    size_t bytes;
} lent;

static int take_memory(struct vx_device *device, void *memory, size_t bytes, struct vx_err *err) {
    (void)device;
    lent.memory = memory;
    lent.bytes = bytes;
    return bytes > 4096 ? vx_fail(err, VX_E_LIMIT, "memlock", "too much to lock") : VX_OK;
}

Test(device_registry, a_device_is_told_where_its_inputs_lie) {
    static char ring[8192];
    struct vx_device_api locking = vx_ref_api;
    struct vx_err err = {0};
    struct vx_device *cpu = NULL;
    struct vx_device behind_a_bus = {&locking};
    cr_assert_eq(vx_device_open("cpu", NULL, &cpu, NULL), VX_OK);
    cr_assert_eq(vx_device_use_memory(cpu, ring, sizeof ring, &err), VX_OK, "it does not care");
    vx_device_close(cpu);
    locking.use_memory = take_memory;
    cr_assert_eq(vx_device_use_memory(&behind_a_bus, ring, 4096, &err), VX_OK);
    cr_assert(lent.memory == ring && lent.bytes == 4096);
    cr_assert_eq(vx_device_use_memory(&behind_a_bus, ring, sizeof ring, &err), VX_E_LIMIT);
}

Test(device_registry, says_what_is_missing) {
    struct vx_device *device = NULL;
    struct vx_err err = {0};
    setenv("VOXELD_MODULE_DIR", "/nonexistent", 1);
    cr_assert_eq(vx_device_open("cuda:1", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_str_eq(err.reason, "device_module_absent");
    cr_assert(strstr(err.text, "voxeld_cuda.so"));
    cr_assert_eq(vx_device_open("tpu", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_eq(vx_device_open("cpu:1", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_eq(vx_device_open("cpu:x", NULL, &device, &err), VX_E_INVALID);
    cr_assert_eq(vx_device_open("cpu:", NULL, &device, &err), VX_E_INVALID);
    cr_assert_eq(vx_device_open("", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_eq(vx_device_open("a-name-that-is-far-too-long", NULL, &device, &err), VX_E_INVALID);
    cr_assert_null(device);
}

Test(device_registry, registers_once_and_only_its_own_abi) {
    struct vx_device *device = NULL;
    struct vx_device_info info;
    struct vx_err err = {0};
    cr_assert_eq(vx_device_open("ref", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_eq(vx_device_register(&vx_ref_api, &err), VX_OK);
    cr_assert_eq(vx_device_register(&vx_ref_api, &err), VX_E_EXISTS);
    cr_assert_eq(vx_ref_register(&err), VX_OK);
    cr_assert_eq(vx_device_open("ref", NULL, &device, &err), VX_OK);
    vx_device_describe(device, &info);
    cr_assert_str_eq(info.name, "ref:0");
    vx_device_close(device);
    struct vx_device_api old = vx_ref_api;
    old.name = "old";
    old.abi = VX_DEVICE_ABI + 1;
    cr_assert_eq(vx_device_register(&old, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "abi_mismatch");
}
