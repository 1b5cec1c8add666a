#include "device/kernels/machine.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

bool machine_open(char *name, size_t size) {
    int count = 0;
    cudaError_t rc = cudaGetDeviceCount(&count);
    if (rc != cudaSuccess || count == 0) {
        snprintf(name, size, "%s", rc != cudaSuccess ? cudaGetErrorString(rc) : "no GPU");
        return false;
    }
    struct cudaDeviceProp p;
    if (cudaSetDevice(0) != cudaSuccess || cudaGetDeviceProperties(&p, 0) != cudaSuccess) {
        snprintf(name, size, "the GPU cannot be opened");
        return false;
    }
    snprintf(name, size, "%s, %d multiprocessors", p.name, p.multiProcessorCount);
    return true;
}

static void must(cudaError_t rc) {
    if (rc != cudaSuccess) {
        fprintf(stderr, "gpu_kernels: %s\n", cudaGetErrorString(rc));
        exit(1);
    }
}

void *machine_new(size_t bytes) {
    void *p = NULL;
    must(cudaMalloc(&p, bytes));
    return p;
}

void machine_free(void *p) {
    must(cudaFree(p));
}

void machine_put(void *device, const void *host, size_t bytes) {
    must(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
}

void machine_get(void *host, const void *device, size_t bytes) {
    must(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

void machine_copy(void *to, const void *from, size_t bytes) {
    must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, NULL));
}

const char *machine_wait(void) {
    cudaError_t rc = cudaDeviceSynchronize();
    rc = rc == cudaSuccess ? cudaGetLastError() : rc;
    return rc == cudaSuccess ? NULL : cudaGetErrorString(rc);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double machine_time(void (*call)(void *context), void *context, int times) {
    enum { MOST = 64 };
    float ms[MOST];
    cudaEvent_t start, end;
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&end));
    times = times < MOST ? times : MOST;
    call(context);
    for (int i = 0; i < times; i++) {
        must(cudaEventRecord(start, NULL));
        call(context);
        must(cudaEventRecord(end, NULL));
        must(cudaEventSynchronize(end));
        must(cudaEventElapsedTime(&ms[i], start, end));
    }
    must(cudaEventDestroy(start));
    must(cudaEventDestroy(end));
    qsort(ms, (size_t)times, sizeof *ms, by_value);
    return (double)ms[times / 2];
}
