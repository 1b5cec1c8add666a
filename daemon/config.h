/* What `voxeld serve` (and the other verbs) run with: command line over environment over
 * configuration file over defaults. One table in config.c names every key, its environment variable
 * and its range; the option --some-key is the key some_key of the section [voxeld] in the file.
 * Thread: main thread, before anything is started. */
#ifndef VX_DAEMON_CONFIG_H
#define VX_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct vx_err;

#define VX_DEVICE_RETRY_S 300

enum vx_config_files_open { VX_FILES_OPEN_AUTO = -1, VX_FILES_OPEN_NO = 0, VX_FILES_OPEN_YES = 1 };

struct vx_config {
    char *state;            /* state folder; required by serve */
    char *data;             /* root of DatasetXXX_Name folders; nnUNet_raw */
    char *preprocessed;     /* nnUNet_preprocessed; default STATE/preprocessed */
    char *results;          /* nnUNet_results; default STATE/results */
    char *listen;           /* HOST:PORT, port 0 picks a free one */
    char *unix_path;        /* second listener, NULL: none */
    char *port_file;        /* the bound port is written there, NULL: nowhere */
    char *stage;            /* folder that cases may be staged below; NULL: none */
    char *module_dir;       /* where device modules lie, NULL: device/registry.c's places; becomes
                               $VOXELD_MODULE_DIR */
    char *devices;          /* devices/list.h; NULL: "auto" */
    int64_t device_retry;   /* seconds, devices/health.h; 0: VX_DEVICE_RETRY_S */
    int64_t cores;          /* to plan for; 0: base/budget.h */
    int64_t cpu_jobs;       /* trainings on the CPU side by side; 0: one */
    int64_t cpu_threads;    /* threads of a step process; 0: every schedulable core */
    int64_t loader_workers; /* augment processes per training; 0: chosen from the cores;
                               nnUNet_n_proc_DA */
    int64_t prepare_processes; /* cases prepared side by side; 0: schedulable cores;
                                  nnUNet_def_n_proc */
    int64_t memory_limit;      /* bytes one child may have; 0: half of the memory found */
    int64_t keep_files_open;   /* enum vx_config_files_open; nnUNet_keep_files_open */
    char *nvml;                /* NULL: the driver's */
    int64_t dcgm_names;        /* 1: yes; 0 and -1: no */
    bool help;                 /* --help was given: print vx_config_usage and leave */
    char host[64];             /* of listen */
    int port;                  /* of listen */
};

/* Looks an environment variable up; getenv in the daemon, a table in tests. */
typedef const char *(*vx_env_fn)(const char *name);

/* Reads every source and checks every value. argv[0] is the verb. The file is --config, else
 * /etc/voxeld/voxeld.conf where it exists. Errors name the source (option, variable or file:line)
 * and the allowed range. On failure *ret is released. */
int vx_config_load(int argc, char **argv, vx_env_fn env, struct vx_config *ret, struct vx_err *err);
/* Fills the paths that depend on the state folder, makes them absolute, and checks that serve has
 * what it needs. */
int vx_config_finish_serve(struct vx_config *c, struct vx_err *err);
void vx_config_release(struct vx_config *c);
/* The option list for --help. */
const char *vx_config_usage(void);

#endif
