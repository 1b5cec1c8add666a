/* Ownership helpers: cleanup attributes and explicit hand-over. Thread: any. */
#ifndef VX_BASE_OWN_H
#define VX_BASE_OWN_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void vx_own_free(void *p) {
    free(*(void **)p);
}
static inline void vx_own_close(int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
}
static inline void vx_own_fclose(FILE **f) {
    if (*f) {
        fclose(*f);
    }
}
static inline void vx_own_json(json_t **j) {
    json_decref(*j);
}

/* `vx_auto_free char *p = NULL;` frees p when it goes out of scope; the others close or drop a
 * reference. */
#define vx_auto_free   __attribute__((cleanup(vx_own_free)))
#define vx_auto_close  __attribute__((cleanup(vx_own_close)))
#define vx_auto_fclose __attribute__((cleanup(vx_own_fclose)))
#define vx_auto_json   __attribute__((cleanup(vx_own_json)))

/* Takes a pointer or descriptor out of an owner and leaves NULL or -1 there. */
#define vx_steal(p)                                                                                \
    __extension__({                                                                                \
        __typeof__(p) vx_stolen_ = (p);                                                            \
        (p) = NULL;                                                                                \
        vx_stolen_;                                                                                \
    })
static inline int vx_steal_fd(int *fd) {
    int out = *fd;
    *fd = -1;
    return out;
}

#define VX_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

#endif
