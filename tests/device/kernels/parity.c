/* gpu_kernels: our kernels on the GPU against the same source on the CPU, bit for bit, then their
 * speed beside a copy's.
 *   gpu_kernels           both
 *   gpu_kernels --parity  the first part only (also under compute-sanitizer)
 * Exit status: 0 all bits agree, 1 not, 77 no GPU (one line says why). */
#include "device/kernels/machine.h"
#include "device/kernels/scenes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SCENES = 32, TIMES = 20 };

/* Largest difference, where the elements are numbers. */
static double difference(const struct scene_array *a, const void *x, const void *y) {
    double worst = 0;
    for (size_t i = 0; i < a->count; i++) {
        float u = 0, v = 0;
        if (a->type == SCENE_FLOAT) {
            u = ((const float *)x)[i];
            v = ((const float *)y)[i];
        } else if (a->type == SCENE_BF16) {
            uint32_t p = (uint32_t)((const uint16_t *)x)[i] << 16;
            uint32_t q = (uint32_t)((const uint16_t *)y)[i] << 16;
            memcpy(&u, &p, sizeof u);
            memcpy(&v, &q, sizeof v);
        }
        double d = fabs((double)u - (double)v);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/* What one array came out as on both machines; true where no bit differs. */
static bool same(const struct scene *s, int i, const void *host, const void *device) {
    const struct scene_array *a = &s->arrays[i];
    size_t bytes = scene_array_bytes(a), wrong = 0;
    for (size_t b = 0; b < bytes; b++) {
        wrong += ((const unsigned char *)host)[b] != ((const unsigned char *)device)[b];
    }
    if (wrong > 0) {
        printf("%-22s array %d: %zu of %zu bytes differ, by at most %g\n", s->name, i, wrong, bytes,
               difference(a, host, device));
    }
    return wrong == 0;
}

/* Fills both machines' arrays alike. */
static void place(const struct scene *s, void **host, void **device) {
    for (int i = 0; i < s->n_arrays; i++) {
        size_t bytes = scene_array_bytes(&s->arrays[i]);
        host[i] = malloc(bytes);
        if (!host[i]) {
            abort();
        }
        scene_array_fill(&s->arrays[i], s->classes, 1 + (uint64_t)i, host[i]);
        device[i] = machine_new(bytes);
        machine_put(device[i], host[i], bytes);
    }
}

static bool compare(const struct scene *s) {
    void *host[SCENE_ARRAYS], *device[SCENE_ARRAYS];
    place(s, host, device);
    int rc = s->run(s, &device_kernels, device);
    const char *trouble = machine_wait();
    bool ok = rc == 0 && !trouble;
    if (!ok) {
        printf("%-22s failed: %d %s\n", s->name, rc, trouble ? trouble : "");
    }
    void *got[SCENE_ARRAYS] = {0};
    for (int i = 0; i < s->n_arrays && ok; i++) {
        size_t bytes = scene_array_bytes(&s->arrays[i]);
        got[i] = malloc(bytes);
        if (!got[i]) {
            abort();
        }
        machine_get(got[i], device[i], bytes);
    }
    ok = ok && s->run(s, &host_kernels, host) == 0;
    for (int i = 0; i < s->n_arrays; i++) {
        ok = ok && (!s->arrays[i].compared || same(s, i, host[i], got[i]));
        free(got[i]);
        free(host[i]);
        machine_free(device[i]);
    }
    if (ok) {
        printf("%-22s the same bits\n", s->name);
    }
    return ok;
}

struct timed {
    const struct scene *scene;
    void **device;
    size_t bytes;
};

static void run_scene(void *context) {
    struct timed *t = context;
    t->scene->run(t->scene, &device_kernels, t->device);
}

static void run_copy(void *context) {
    struct timed *t = context;
    machine_copy(t->device[0], t->device[1], t->bytes);
}

/* Bytes a second of a copy, read and written. */
static double copy_rate(void) {
    void *two[2] = {machine_new((size_t)1 << 30), machine_new((size_t)1 << 30)};
    struct timed t = {.device = two, .bytes = (size_t)1 << 30};
    double ms = machine_time(run_copy, &t, TIMES);
    machine_free(two[0]);
    machine_free(two[1]);
    return ms > 0 ? 2 * (double)t.bytes / ms * 1e3 : 0;
}

/* Random numbers over and over: large enough to be no special case, cheap enough to draw. */
static void fill_large(const struct scene_array *a, int classes, void *device) {
    size_t bytes = scene_array_bytes(a), step = (size_t)1 << 22;
    struct scene_array piece = *a;
    piece.count = a->type == SCENE_SCRATCH || bytes < step ? a->count : a->count * step / bytes;
    size_t length = scene_array_bytes(&piece);
    void *content = malloc(length);
    if (!content) {
        abort();
    }
    scene_array_fill(&piece, classes, 5, content);
    for (size_t at = 0; at < bytes; at += length) {
        machine_put((char *)device + at, content, bytes - at < length ? bytes - at : length);
    }
    free(content);
}

static void clock_scene(const struct scene *s, double copy) {
    void *device[SCENE_ARRAYS];
    for (int i = 0; i < s->n_arrays; i++) {
        device[i] = machine_new(scene_array_bytes(&s->arrays[i]));
        fill_large(&s->arrays[i], s->classes, device[i]);
    }
    struct timed t = {.scene = s, .device = device};
    double ms = machine_time(run_scene, &t, TIMES);
    const char *trouble = machine_wait();
    double rate = s->bytes / ms * 1e3;
    printf("%-22s %9.1f us %7.0f GB/s %5.0f %% of a copy %s\n", s->name, ms * 1e3, rate / 1e9,
           100 * rate / copy, trouble ? trouble : "");
    for (int i = 0; i < s->n_arrays; i++) {
        machine_free(device[i]);
    }
}

static int skip(const char *why) {
    const char *path = getenv("VX_SKIP_LOG");
    FILE *log = path ? fopen(path, "ae") : NULL;
    if (log) {
        fprintf(log, "gpu-kernels tests/device/kernels/parity.c\n");
        fclose(log);
    }
    printf("gpu_kernels: skipped: %s\n", why);
    return 77;
}

int main(int argc, char **argv) {
    char name[256];
    if (!machine_open(name, sizeof name)) {
        return skip(name);
    }
    printf("%s\n", name);
    struct scene scenes[MOST_SCENES];
    int n = scenes_make(false, scenes, MOST_SCENES), bad = 0;
    for (int i = 0; i < n; i++) {
        bad += !compare(&scenes[i]);
    }
    bool parity_only = argc > 1 && strcmp(argv[1], "--parity") == 0;
    double copy = parity_only ? 0 : copy_rate();
    if (copy > 0) {
        printf("%-22s %9s    %7.0f GB/s\n", "copy", "", copy / 1e9);
        n = scenes_make(true, scenes, MOST_SCENES);
        for (int i = 0; i < n; i++) {
            clock_scene(&scenes[i], copy);
        }
    }
    printf("%d kernels differ\n", bad);
    return bad > 0;
}
