/* One running session under observation: once a second its last seconds are cut into a window,
 * judged, and the tuner asked. What comes of it is handed out by callbacks; the last window and
 * verdicts stay for who asks.
 *
 * Thread: one at a time (the telemetry thread), the json functions with it: they leave `pool`
 * alone, which is fed without the lock. */
#ifndef VX_DAEMON_TELEMETRY_DIAGNOSIS_H
#define VX_DAEMON_TELEMETRY_DIAGNOSIS_H

#include "daemon/evidence/host.h"
#include "daemon/telemetry/poollog.h"
#include "daemon/telemetry/pulse.h"
#include "daemon/telemetry/steplog.h"
#include "tune/text.h"
#include "tune/tuner.h"

#include <jansson.h>

#define VX_WINDOW_SECONDS 10.0
#define VX_HOST_LOOKS     64

/* What the daemon knows of the session and no record says. */
struct vx_session_facts {
    uint32_t batch, slots;
    double trainer_cores; /* that step keeps busy: its threads on the CPU, about one beside a GPU */
    uint64_t store_bytes;
    double sample_bytes; /* of the device's memory, by the plan; 0: not known */
    uint64_t read_limit; /* bytes a second from the store's disk, by the control group; 0: none */
    enum vx_tune_storage storage;
    bool storage_known;
    bool stage; /* there is a folder that the store may be copied to */
};

/* What is known of the job's GPU at a look. */
struct vx_device_look {
    uint32_t have; /* VX_TUNE_HAVE_GPU, _GPM */
    struct vx_tune_device device;
    double active;      /* share of the time in which it computed; _GPM */
    uint64_t own_bytes; /* of its memory, the trainer's; 0: not told */
};

struct vx_lost {
    uint64_t ns;
    char cause[24];
    char case_name[64];
};

struct vx_diagnosis {
    struct vx_session_facts facts;
    struct vx_steplog steps;
    struct vx_pulse pulse;
    struct vx_poollog pool;
    struct vx_host host[VX_HOST_LOOKS]; /* by look; n_host ever */
    uint64_t n_host;
    struct vx_lost lost[16]; /* by death; n_lost ever */
    uint64_t n_lost;
    struct vx_lost corrupt[4];
    uint64_t n_corrupt;
    struct {
        uint64_t cold, device; /* not in memory; read from the disk so far */
    } store[4];                /* by look at the store; n_store ever */
    uint64_t n_store;
    uint64_t store_cold_bytes;    /* that will be read once and then stay in memory; else 0 */
    struct vx_device_look device; /* as last seen */
    double device_active;         /* mean over the last looks with _GPM */
    uint32_t device_looks;        /* in it, at most VX_WINDOW_SECONDS of them */
    struct vx_tune_period period; /* looked for every ten seconds */
    bool has_period;
    bool deciding; /* where the store is read from is not known yet; by the caller */
    struct vx_tuner tuner;
    uint64_t began_ns;
    uint64_t looked_ns; /* for the rhythm */
    uint64_t look_ns;   /* the last look; 0: none yet */
    uint64_t tried_ns;  /* last window cut */
    struct vx_tune_window window;
    double transform_seconds[VX_TIMELINE_TRANSFORMS]; /* per sample, over the window */
    struct vx_verdict verdict[VX_VERDICTS];
    int n_verdicts;
    uint32_t said;             /* bits of verdicts that were announced and hold */
    uint8_t seen[VX_VERDICTS]; /* how many looks in a row a verdict held; or was gone, once said */
};

/* Figures only; a verdict came or went. */
struct vx_diagnosis_news {
    uint32_t began, ended;       /* bits 1u << enum vx_verdict_code */
    struct vx_decision decision; /* VX_DECISION_NONE where there is none */
};

void vx_diagnosis_init(struct vx_diagnosis *d, const struct vx_session_facts *facts,
                       const struct vx_tuner_limits *limits, const uint32_t setting[VX_KNOBS],
                       enum vx_tune_mode mode, uint64_t now_ns);
void vx_diagnosis_lost(struct vx_diagnosis *d, const char *cause, const char *case_name,
                       uint64_t now_ns);
/* How much of the store is not in memory, looked at every few seconds. */
void vx_diagnosis_cold(struct vx_diagnosis *d, uint64_t cold_bytes);
/* The job's GPU in this second; before vx_diagnosis_look. */
void vx_diagnosis_device(struct vx_diagnosis *d, const struct vx_device_look *look);
void vx_diagnosis_corrupt(struct vx_diagnosis *d, const char *case_name, uint64_t now_ns);

/* The session between from_ns and to_ns. False where nothing is known of it. */
bool vx_diagnosis_window(const struct vx_diagnosis *d, uint64_t from_ns, uint64_t to_ns,
                         struct vx_tune_window *ret);
/* The look of this second: host is the machine since the last one; pool and steps were fed by the
 * caller. */
void vx_diagnosis_look(struct vx_diagnosis *d, const struct vx_host *host, uint64_t now_ns,
                       struct vx_diagnosis_news *ret);

/* {"window", "transforms", "limits", "verdicts": [{code, severity, cost, text, action,
 * advice, gain, evidence, lacking}], "healthy", "evidence", "record"}; new reference, NULL when out
 * of memory. */
json_t *vx_diagnosis_json(const struct vx_diagnosis *d, enum vx_language language);
/* A window as figures for the time series; new reference. */
json_t *vx_window_json(const struct vx_tune_window *w);

#endif
