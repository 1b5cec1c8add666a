/* What is measured about one running job over a stretch of time: the only input of verdicts and
 * tuner. Plain numbers, no pointers but names; who fills it (daemon/telemetry, the simulator in
 * tests, a recorded trace) is all one to this room.
 *
 * Durations are seconds, memory bytes, ratios 0 to 1. Evidence that this host does not give is
 * marked by its bit missing in `have`; its fields are then ignored, never taken for zero.
 * Thread: any. */
#ifndef VX_TUNE_WINDOW_H
#define VX_TUNE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/* Parts of a step, in the order of session/timeline.h. */
enum vx_tune_phase {
    VX_TUNE_WAIT_LOADER = 0,
    VX_TUNE_H2D,
    VX_TUNE_COMPUTE,
    VX_TUNE_SYNC,
    VX_TUNE_CHECKPOINT,
    VX_TUNE_VALIDATE,
    VX_TUNE_OTHER,
    VX_TUNE_PHASES
};

/* Bits of `have`: sources of evidence. */
enum vx_tune_evidence {
    VX_TUNE_HAVE_SCHEDSTAT = 1u << 0, /* run-queue waits */
    VX_TUNE_HAVE_PSI = 1u << 1,
    VX_TUNE_HAVE_IO = 1u << 2,      /* bytes that came from the device */
    VX_TUNE_HAVE_CGROUP = 1u << 3,  /* throttling, memory limit, OOM counter */
    VX_TUNE_HAVE_FOREIGN = 1u << 4, /* CPU time of processes that are not ours */
    VX_TUNE_HAVE_MEMORY = 1u << 5,
    VX_TUNE_HAVE_STORAGE = 1u << 6,
    VX_TUNE_HAVE_GPU = 1u << 7, /* clock reasons, power, memory */
    VX_TUNE_HAVE_GPM = 1u << 8  /* SM and tensor activity */
};

enum vx_tune_storage { VX_TUNE_SOLID, VX_TUNE_ROTATIONAL, VX_TUNE_NETWORK, VX_TUNE_MEMORY };
enum vx_tune_tier {
    VX_TUNE_TIER_OPEN,
    VX_TUNE_TIER_KEEP,
    VX_TUNE_TIER_STAGED,
    VX_TUNE_TIER_RAM,
    VX_TUNE_TIERS
};

/* The step timeline: training steps that ended within the window. */
struct vx_tune_steps {
    uint32_t n, batch;
    double phase[VX_TUNE_PHASES]; /* summed over the n steps; they add up to wall */
    double wall;
    double p50, p95, p99; /* of one step */
    double wait_p50;      /* of one step's wait for the loader */
    double deviation;     /* standard deviation of one step */
    double depth;         /* samples ready when a step came for its batch, mean */
    double since_last;    /* from the last step's end to now */
    double deadline;      /* learnt: longer without a step is a hang; 0: not learnt yet */
    double compute_best; /* the smallest mean compute of a step that the job ever had; 0: unknown */
};

/* The pool: sums over its workers and the window. */
struct vx_tune_loader {
    uint32_t workers, slots;
    uint64_t samples;
    double open, read, decompress, augment; /* working time; read is without the opens */
    double wait_slot;                       /* time with nothing to do */
    double cpu;                             /* CPU time used */
    double runqueue;                        /* ready to run, waiting for a core: SCHEDSTAT */
    uint64_t opens, bytes_read;
    uint64_t bytes_device; /* of bytes_read, those that no page cache had: IO */
    uint64_t major_faults;
    uint64_t store_bytes, store_cold_bytes; /* prepared store; what of it was never read yet */
    bool keep_files_open;
    enum vx_tune_tier tier;
    enum vx_tune_storage storage; /* where the store lies: STORAGE */
};

struct vx_tune_host {
    double cores;         /* schedulable for this job: cgroup, affinity, budget */
    double trainer_cores; /* cores the trainer itself keeps busy */
    double own_cores;     /* used by all that belongs to voxeld, mean */
    double foreign_cores; /* used by everybody else on the same cores: FOREIGN */
    int32_t foreign_pid;  /* the busiest of them; 0: none stands out */
    uint32_t foreign_uid;
    char foreign_name[32];
    double psi_cpu, psi_io, psi_memory, psi_memory_full; /* "some" and "full" shares: PSI */
    double throttled;                                    /* share of periods: CGROUP */
    uint64_t memory_limit, memory_available;             /* MEMORY */
    uint64_t worker_bytes;  /* private memory of one worker, mean, as measured; 0: none is known */
    double swap_in;         /* bytes a second */
    double available_trend; /* change of memory_available, bytes a second */
};

struct vx_tune_device {
    double sm_active, tensor_active;         /* GPM */
    double power_ratio;                      /* of the cap: GPU */
    bool throttled_thermal, throttled_power; /* clock reasons: GPU */
    uint64_t memory_free;                    /* GPU */
    double launch_gap;         /* share of compute in which the chip stood still: GPM, 0 without */
    uint32_t largest_batch;    /* that fits: GPU; 0: none larger, or unknown */
    double largest_batch_step; /* seconds that it would compute */
};

/* What happened, not what was measured. */
struct vx_tune_events {
    uint32_t workers_lost;
    char lost_cause[24]; /* "oom_killed", "killed", "bus_error", ... of the last one */
    char lost_case[64];
    uint32_t corrupt_entries;
    char corrupt_case[64];
    double period_steps, period_share, period_spike; /* tune/period.h over the steps; 0: none */
    enum vx_tune_phase period_phase;                 /* where the spikes are */
    double step_slope; /* relative growth of a step per hour, where significant; else 0 */
    double rss_slope;  /* bytes per hour, trainer and workers, where significant; else 0 */
};

struct vx_tune_window {
    uint32_t have; /* enum vx_tune_evidence */
    double seconds;
    bool warm; /* nothing was changed or restarted within the window or just before it */
    struct vx_tune_steps step;
    struct vx_tune_loader loader;
    struct vx_tune_host host;
    struct vx_tune_device device;
    struct vx_tune_events event;
};

#endif
