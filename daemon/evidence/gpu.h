/* What NVIDIA's management library says of the GPUs. The library is opened when the daemon starts,
 * so that the same program runs on hosts without a driver; every function of it may be missing
 * (older drivers), every figure may be refused (the chip does not keep it): a sample says what it
 * has. Utilisation is published because people know it; verdicts never rest on it.
 *
 * Calls may take milliseconds and, for PCIe, 20 ms each: for the telemetry thread only. Thread: one
 * at a time. */
#ifndef VX_DAEMON_EVIDENCE_GPU_H
#define VX_DAEMON_EVIDENCE_GPU_H

#include <stdbool.h>
#include <stdint.h>

struct vx_err;
struct vx_gpus;

enum vx_gpu_has {
    VX_GPU_UTILISATION = 1u << 0,
    VX_GPU_MEMORY = 1u << 1,
    VX_GPU_POWER = 1u << 2,
    VX_GPU_TEMPERATURE = 1u << 3,
    VX_GPU_CLOCK = 1u << 4,
    VX_GPU_REASONS = 1u << 5,
    VX_GPU_PCIE = 1u << 6,
    VX_GPU_ACTIVITY = 1u << 7, /* GPM: Hopper and later */
    VX_GPU_PROCESSES = 1u << 8
};

#define VX_GPU_MAX_PROCESSES 32

struct vx_gpu {
    uint32_t has;
    bool lost; /* the library says that the GPU has fallen off the bus: nothing else is known */
    double utilisation;                              /* 0 to 1: some kernel ran */
    uint64_t memory_total, memory_used, memory_free; /* bytes */
    double power_watts, power_cap_watts;
    double temperature; /* degrees Celsius */
    double sm_clock_hz;
    bool throttled_thermal, throttled_power;
    double pcie_rx, pcie_tx; /* bytes a second, as the GPU sees it */
    double graphics_active, sm_active, tensor_active, dram_active; /* 0 to 1, since the last look */
    uint32_t n_processes;
    struct {
        int32_t pid;
        uint64_t bytes; /* 0: not told */
    } process[VX_GPU_MAX_PROCESSES];
    uint32_t xid_errors; /* since the start */
    uint32_t xid_last;   /* 0: none */
    uint32_t faults;     /* of xid_errors those that vx_xid_fault knows */
    uint32_t fault_last; /* 0: none */
};

/* What a GPU is; does not change. */
struct vx_gpu_card {
    char name[96], uuid[96]; /* "?" where the library does not say */
    uint64_t memory_bytes;   /* 0: not told */
    int major, minor;        /* compute capability; 0: not told */
    bool mig;                /* split into instances: programs see those, not the GPU */
    bool lost;               /* already when the library was opened */
};

/* library: a file name, or NULL for the driver's. VX_E_UNSUPPORTED "no_nvml" where there is none or
 * it does not work. */
int vx_gpus_open(const char *library, struct vx_gpus **ret, struct vx_err *err);
struct vx_gpus *vx_gpus_close(struct vx_gpus *g); /* NULL is fine; returns NULL */
uint32_t vx_gpus_count(const struct vx_gpus *g);
/* Borrowed. */
const struct vx_gpu_card *vx_gpus_card(const struct vx_gpus *g, uint32_t i);
/* slow: PCIe and processes too, which the caller asks for less often; without it their last figures
 * stand. A lost GPU is asked again in slow looks only, and is lost no more once it answers. */
void vx_gpus_look(struct vx_gpus *g, uint32_t i, bool slow, struct vx_gpu *ret);

/* What an Xid says about the GPU itself, in words; NULL for those that a program brings upon itself
 * (13, 31, 43, ...) and for unknown ones: NVIDIA, "Xid Errors". */
const char *vx_xid_fault(uint32_t xid);

#endif
