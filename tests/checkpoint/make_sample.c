/* Writes the sample checkpoint of the current format: make_sample FILE. Run once per format; the
 * file is then kept. */
#include "sample.h"

#include "base/err.h"

#include <stdio.h>

int main(int argc, char **argv) {
    struct vx_err e = {0};
    vx_auto_ckpt struct vx_ckpt c;
    if (argc != 2) {
        fprintf(stderr, "usage: make_sample FILE\n");
        return 2;
    }
    if (!sample_fill(&c) || vx_ckpt_write(argv[1], &c, &e) != VX_OK) {
        fprintf(stderr, "make_sample: %s\n", e.text);
        return 1;
    }
    return 0;
}
