#include "device/kernels/fixture.h"
#include "device/kernels/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool machine_open(char *name, size_t size) {
    snprintf(name, size, "no GPU: the CPU in another order");
    return true;
}

void *machine_new(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) {
        abort();
    }
    return p;
}

void machine_free(void *p) {
    free(p);
}

void machine_put(void *device, const void *host, size_t bytes) {
    memcpy(device, host, bytes);
    host_set_order(HOST_MIXED); /* what follows is the device's turn */
}

void machine_get(void *host, const void *device, size_t bytes) {
    memcpy(host, device, bytes);
    host_set_order(HOST_IN_ORDER);
}

void machine_copy(void *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
}

const char *machine_wait(void) {
    return NULL;
}

double machine_time(void (*call)(void *context), void *context, int times) {
    (void)call, (void)context, (void)times;
    return 0;
}
