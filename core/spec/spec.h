/* Job specs: what POST /v1/jobs takes. Parsed strictly, every problem at once, defaults as nnU-Net
 * would do, and written back as canonical JSON with "spec_version". Thread: any. */
#ifndef VX_SPEC_SPEC_H
#define VX_SPEC_SPEC_H

#include "base/json.h"
#include "plan/plans.h"

#include <stdbool.h>
#include <stdint.h>

struct vx_err;

#define VX_SPEC_VERSION   1    /* keys that may be absent are added without a new version */
#define VX_SPEC_AUTO      (-1) /* of numeric loader settings */
#define VX_SPEC_MAX_FOLDS 32

enum vx_job_type { VX_JOB_TRAIN, VX_JOB_PREPARE, VX_JOB_PREDICT, VX_JOB_BENCHMARK };
/* What a benchmark runs, one after the other; see struct vx_job_spec. */
enum vx_bench_run {
    VX_RUN_SYNTHETIC = 1, /* samples that cost nothing */
    VX_RUN_AS_IS = 2,     /* the prepared data wherever it is */
    VX_RUN_MEMORY = 4,    /* in the page cache from the start */
    VX_RUN_COLD = 8,      /* never in the page cache */
};
enum vx_spec_precision { VX_SPEC_PRECISION_AUTO, VX_SPEC_FP32, VX_SPEC_BF16 };

struct vx_job_spec {
    enum vx_job_type type;
    char dataset[128];      /* DatasetNNN_Name */
    char configuration[32]; /* of the plans; "3d_fullres" by default */
    char plans[64];         /* plans_name; "nnUNetPlans" by default */
    int fold;               /* 0..99 or VX_FOLD_ALL (-1, "all" in JSON) */
    struct {
        char device[32]; /* "auto", "cpu", "cpu:0", "cuda:1" */
        int count;       /* 1 in this version */
    } resources;
    int priority; /* -100..100, higher first */
    struct {
        char name[64]; /* first part of the results folder's name; "voxeld" */
        bool replace;  /* an existing fold is kept as fold_F.ID instead of a refusal */
    } results;
    struct {
        int epochs, iterations_per_epoch, val_iterations_per_epoch; /* 1000, 250, 50 */
        uint64_t seed;                                              /* 1 */
        double initial_lr, momentum, weight_decay;                  /* 1e-2, 0.99, 3e-5 */
        double oversample_foreground;                               /* 0.33 */
        double checkpoint_seconds;                                  /* 60 */
        char pretrained_weights[512]; /* path of a .pth or .safetensors; "": a random start */
    } training;
    struct vx_plan_override plan;
    struct {
        double gpu_memory_gb; /* 0: not asked for, as nnU-Net plans (8) */
        double spacing[3];    /* full-resolution target, z, y, x, mm; all 0: not asked for */
    } planning;               /* also under "plan": a plan of its own, named by plans */
    struct {
        int workers;         /* VX_SPEC_AUTO or 1..64 */
        int keep_files_open; /* VX_SPEC_AUTO, 0, 1 */
        int prefetch;        /* VX_SPEC_AUTO or samples ahead, 2..1024 */
        char cache[16];      /* one of vx_spec_caches */
        char stage[256];     /* with cache "stage": the folder that was given; "" where none was */
        /* Sharded epochs: so many training cases (a number, or below 1 a share of them) for so many
         * epochs; 0: all cases in every epoch. */
        double window_cases;
        int window_epochs;
        char tune[8]; /* "auto", "advise", "off": may the tuner turn these while it runs?
                         benchmarks: "off" */
    } loader;
    struct {
        char where[8]; /* "cpu" or "auto"; "gpu" is refused in this version */
        bool enabled;  /* false: no augmentation at all */
        bool mirror;   /* false: neither mirrored in training nor in inference */
    } augment;
    enum vx_spec_precision precision;
    struct {
        bool mirroring;          /* test-time mirroring over the plan's axes */
        double step_size;        /* of the sliding window, share of the patch, 0.5 */
        bool save_probabilities; /* predict only */
    } inference;
    struct {                          /* predict only */
        char input[512];              /* folder of images beneath the data root */
        char output[512];             /* folder beneath the results root; "": the job's own */
        char checkpoint[8];           /* "final" or "best" */
        int n_folds;                  /* 0: "auto", every fold there is */
        int folds[VX_SPEC_MAX_FOLDS]; /* 0..99, or VX_FOLD_ALL alone for "all" */
    } predict;
    struct {             /* benchmark only */
        double step_ms;  /* of the pretended device; 0: it takes no time */
        double seconds;  /* measured, of each run; 10 */
        unsigned runs;   /* bits of enum vx_bench_run; synthetic, memory and cold */
        int spike_every; /* steps; one of them takes spike_ms longer; 0: none */
        double spike_ms;
        double step_growth;   /* relative growth of step_ms per hour */
        double sample_ms;     /* pretended augmentation of a sample; 0: the real one */
        double sample_cpu_ms; /* of it on a core, the rest asleep */
        double leak_kib;      /* memory that each sample leaves behind in its worker */
    } benchmark;
};

/* How the prepared data may be read: "auto", "open", "keep", "warm", "stage", "memory";
 * NULL-terminated. */
extern const char *const vx_spec_caches[];

void vx_spec_defaults(struct vx_job_spec *spec);
/* json: the request's body. Collects every problem with its JSON pointer; VX_E_INVALID where there
 * is any. Types known to the contract but not to this version (validate) are a problem
 * "not_supported" at /type; keys that have no meaning for the job's type are "not_for_type". */
int vx_spec_parse(const json_t *json, struct vx_job_spec *ret, struct vx_json_problems *ps);
/* Canonical JSON object with spec_version; "auto" and defaults written out, keys of other types
 * left out. New reference, NULL when out of memory. */
json_t *vx_spec_to_json(const struct vx_job_spec *spec);
/* Reads a stored spec of any earlier spec_version (migrated step by step) or the present one. */
int vx_spec_from_stored(const json_t *json, struct vx_job_spec *ret, struct vx_err *err);
const char *vx_job_type_word(enum vx_job_type type);

#endif
