/* gpu_check on the recording device: the checks themselves, checked. */
#include "gpu_check.h"
#include "recorder.h"

int main(int argc, char **argv) {
    recorder_start(&(struct recorder_options){.execute = true});
    return gpu_check_main(argc, argv, "recorded");
}
