/* gpu_check on the GPU; see gpu_check.h. */
#include "gpu_check.h"

int main(int argc, char **argv) {
    return gpu_check_main(argc, argv, "cuda:0");
}
