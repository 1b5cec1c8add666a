/* gpu_check on the recording device, which computes by naive loops, so that a tiny network stands
 * in for each that is named: the checks themselves, checked. */
#include "gpu_check.h"
#include "gpu_host.h"
#include "recorder.h"

int main(int argc, char **argv) {
    network_stand_in = true;
    recorder_start(&(struct recorder_options){.execute = true});
    return gpu_check_main(argc, argv, "recorded");
}
