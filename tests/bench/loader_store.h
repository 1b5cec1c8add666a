/* A prepared store for the loader benchmark: the cases of Dataset004_Hippocampus (1 mm everywhere,
 * so preparing means z-scoring), or made-up ones of the same size where that data set is absent. */
#ifndef TESTS_BENCH_LOADER_STORE_H
#define TESTS_BENCH_LOADER_STORE_H

#include <stdbool.h>
#include <stddef.h>

struct vx_err;

struct bench_store {
    char *dir;    /* owned */
    char **names; /* owned */
    size_t n_cases;
    bool real;
};

/* Writes at most max_cases cases below root. raw_dir: the raw data set's folder, or NULL. */
int bench_store_make(const char *root, const char *raw_dir, size_t max_cases,
                     struct bench_store *ret, struct vx_err *err);
void bench_store_release(struct bench_store *s);

#endif
