/* The part of NVML's binary interface that gpu.c uses, stated from its public documentation: the
 * header comes with the driver's toolkit and is not free to ship. Inside daemon/evidence and for
 * the player in tests only. */
#ifndef VX_DAEMON_EVIDENCE_NVML_H
#define VX_DAEMON_EVIDENCE_NVML_H

typedef void *nvml_device;
typedef void *nvml_gpm_sample;
typedef void *nvml_event_set;

enum { NVML_OK = 0, NVML_LOST = 15 };
enum { NVML_SENSOR_GPU = 0, NVML_CLOCK_SM = 1, NVML_PCIE_TX = 0, NVML_PCIE_RX = 1 };
enum { NVML_EVENT_XID = 8, NVML_MIG_ON = 1 };
/* Reasons for lower clocks. */
enum {
    NVML_REASON_SW_POWER = 0x04,
    NVML_REASON_HW_SLOWDOWN = 0x08,
    NVML_REASON_SW_THERMAL = 0x20,
    NVML_REASON_HW_THERMAL = 0x40,
    NVML_REASON_POWER_BRAKE = 0x80
};
/* GPM metrics, in percent. */
enum { NVML_GPM_GRAPHICS = 1, NVML_GPM_SM = 2, NVML_GPM_TENSOR = 5, NVML_GPM_DRAM = 10 };

struct nvml_utilisation {
    unsigned gpu, memory; /* percent */
};
struct nvml_memory {
    unsigned long long total, free, used;
};
struct nvml_process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
};
struct nvml_event {
    nvml_device device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};
struct nvml_gpm_support {
    unsigned version, supported;
};
struct nvml_gpm_metric {
    unsigned id;
    int result;
    double value;
    struct {
        char *short_name, *long_name, *unit;
    } info;
};
struct nvml_gpm_get {
    unsigned version, count;
    nvml_gpm_sample before, after;
    struct nvml_gpm_metric metric[512]; /* the library reads and writes `count` of them */
};

#define NVML_FUNCTIONS(X)                                                                          \
    X(init, "nvmlInit_v2", (void))                                                                 \
    X(shutdown, "nvmlShutdown", (void))                                                            \
    X(count, "nvmlDeviceGetCount_v2", (unsigned *))                                                \
    X(by_index, "nvmlDeviceGetHandleByIndex_v2", (unsigned, nvml_device *))                        \
    X(name, "nvmlDeviceGetName", (nvml_device, char *, unsigned))                                  \
    X(uuid, "nvmlDeviceGetUUID", (nvml_device, char *, unsigned))                                  \
    X(capability, "nvmlDeviceGetCudaComputeCapability", (nvml_device, int *, int *))               \
    X(mig, "nvmlDeviceGetMigMode", (nvml_device, unsigned *, unsigned *))                          \
    X(utilisation, "nvmlDeviceGetUtilizationRates", (nvml_device, struct nvml_utilisation *))      \
    X(memory, "nvmlDeviceGetMemoryInfo", (nvml_device, struct nvml_memory *))                      \
    X(power, "nvmlDeviceGetPowerUsage", (nvml_device, unsigned *))                                 \
    X(power_cap, "nvmlDeviceGetEnforcedPowerLimit", (nvml_device, unsigned *))                     \
    X(temperature, "nvmlDeviceGetTemperature", (nvml_device, int, unsigned *))                     \
    X(clock, "nvmlDeviceGetClockInfo", (nvml_device, int, unsigned *))                             \
    X(reasons, "nvmlDeviceGetCurrentClocksEventReasons", (nvml_device, unsigned long long *))      \
    X(reasons_old, "nvmlDeviceGetCurrentClocksThrottleReasons",                                    \
      (nvml_device, unsigned long long *))                                                         \
    X(pcie, "nvmlDeviceGetPcieThroughput", (nvml_device, int, unsigned *))                         \
    X(processes, "nvmlDeviceGetComputeRunningProcesses_v3",                                        \
      (nvml_device, unsigned *, struct nvml_process *))                                            \
    X(gpm_support, "nvmlGpmQueryDeviceSupport", (nvml_device, struct nvml_gpm_support *))          \
    X(gpm_alloc, "nvmlGpmSampleAlloc", (nvml_gpm_sample *))                                        \
    X(gpm_free, "nvmlGpmSampleFree", (nvml_gpm_sample))                                            \
    X(gpm_sample, "nvmlGpmSampleGet", (nvml_device, nvml_gpm_sample))                              \
    X(gpm_get, "nvmlGpmMetricsGet", (struct nvml_gpm_get *))                                       \
    X(event_set, "nvmlEventSetCreate", (nvml_event_set *))                                         \
    X(event_free, "nvmlEventSetFree", (nvml_event_set))                                            \
    X(event_register, "nvmlDeviceRegisterEvents",                                                  \
      (nvml_device, unsigned long long, nvml_event_set))                                           \
    X(event_wait, "nvmlEventSetWait_v2", (nvml_event_set, struct nvml_event *, unsigned))

#endif
