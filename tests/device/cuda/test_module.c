/* The module as the registry sees it: absent, without a driver, broken. The host goes on with the
 * CPU in every case. */
#include "device/device.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void check_auto_gives(const char *kind) {
    struct vx_device *device = NULL;
    struct vx_device_info info;
    struct vx_err err = {0};
    cr_assert_eq(vx_device_open("auto", NULL, &device, &err), VX_OK, "%s", err.text);
    vx_device_describe(device, &info);
    cr_assert_eq(strncmp(info.name, kind, strlen(kind)), 0, "%s", info.name);
    vx_device_close(device);
}

/* As built: there is no module, or no driver, or a GPU. */
Test(cuda_module, is_absent_or_refuses_or_opens) {
    struct vx_device *device = NULL;
    struct vx_err err = {0};
    vx_auto_free char *dir = vx_strf("%s/daemon", getenv("VX_BUILD_DIR"));
    vx_auto_free char *module = vx_strf("%s/voxeld_cuda.so", dir);
    setenv("VOXELD_MODULE_DIR", dir, 1);
    int rc = vx_device_open("cuda:0", NULL, &device, &err);
    if (rc == VX_OK) {
        struct vx_device_info info;
        vx_device_describe(device, &info);
        cr_assert_str_eq(info.name, "cuda:0");
        cr_assert(strncmp(info.isa, "sm_", 3) == 0 && info.bf16);
        vx_device_close(device);
        check_auto_gives("cuda");
        return;
    }
    cr_assert_eq(rc, VX_E_NOT_FOUND, "%s", err.text);
    cr_assert_str_eq(err.reason, vx_path_exists(module) ? "no_gpu" : "device_module_absent", "%s",
                     err.text);
    cr_assert(strstr(err.text, "no device \"cuda\""), "%s", err.text);
    cr_assert_null(strchr(err.text, '\n'));
    /* Asked again, it says the same and does no harm. */
    cr_assert_eq(vx_device_open("cuda:3", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_null(device);
    check_auto_gives("cpu");
}

Test(cuda_module, a_file_that_is_no_module_is_named) {
    struct vx_device *device = NULL;
    struct vx_err err = {0};
    char dir[] = "/tmp/vx-module-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    vx_auto_free char *path = vx_strf("%s/voxeld_cuda.so", dir);
    cr_assert_eq(vx_write_file_atomic(path, "not ELF", 7, 0644, &err), VX_OK);
    setenv("VOXELD_MODULE_DIR", dir, 1);
    cr_assert_eq(vx_device_open("cuda", NULL, &device, &err), VX_E_NOT_FOUND);
    cr_assert_str_eq(err.reason, "device_module_unusable");
    cr_assert(strstr(err.text, path), "%s", err.text);
    check_auto_gives("cpu");
    cr_assert_eq(vx_remove_tree(dir, &err), VX_OK);
}
