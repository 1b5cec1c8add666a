/* Small operations on a finished op list: lookup, sizes, host arrays for its parameters. */
#include "device/oplist.h"
#include "net/net.h"

#include <stdlib.h>
#include <string.h>

void vx_oplist_free(struct vx_oplist *net) {
    if (!net) {
        return;
    }
    free(net->tensors);
    free(net->params);
    free(net->ops);
    free(net);
}

int vx_oplist_param(const struct vx_oplist *net, const char *name) {
    for (int i = 0; i < net->n_params; i++) {
        if (strcmp(net->params[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int64_t vx_oplist_param_count(const struct vx_oplist *net) {
    int64_t n = 0;
    for (int i = 0; i < net->n_params; i++) {
        n += (int64_t)net->params[i].count;
    }
    return n;
}

/* The pointers and the numbers share one block: pointers first, floats after them. */
float **vx_net_values_create(const struct vx_oplist *net) {
    size_t heads = ((size_t)net->n_params * sizeof(float *) + 63) / 64 * 64;
    size_t numbers = (size_t)vx_oplist_param_count(net) * sizeof(float);
    float **values = calloc(1, heads + numbers);
    if (!values) {
        return NULL;
    }
    float *next = (float *)((char *)values + heads);
    for (int i = 0; i < net->n_params; i++) {
        values[i] = next;
        next += net->params[i].count;
    }
    return values;
}

void vx_net_values_free(float **values) {
    free(values);
}
