/* A discrete-event engine: virtual time, processes that sleep or work on shared resources.
 *
 * A process is a number; it does one thing at a time, and when that is done the engine calls
 * resume(ctx, process), which starts the next one. A resource is shared equally: with n shares in
 * use each advances at min(limit, capacity / n) units a second. So cores are {capacity = cores,
 * limit = 1} with seconds as units, and a disk is {capacity = limit = bytes a second} with bytes.
 * Nothing here knows what the processes are; no code of core/ is used. Equal times are served by
 * the lower process number first, so a run is a function of its inputs. Thread: one. */
#ifndef TESTS_SIM_DES_H
#define TESTS_SIM_DES_H

#include <stdbool.h>

enum { DES_PROCESSES = 80, DES_RESOURCES = 4 };

enum des_doing { DES_NOTHING, DES_SLEEPING, DES_WORKING };

struct des_process {
    enum des_doing doing;
    double until;  /* DES_SLEEPING: seconds since the start */
    int resource;  /* DES_WORKING */
    double left;   /* units of the resource, per share */
    double shares; /* how many equal shares it takes, e.g. the threads of a trainer */
};

struct des_resource {
    double capacity, limit; /* units a second: of all together, of one share */
    double load;            /* shares taken by others for ever: a neighbour's threads */
    double used, load_used; /* units delivered so far: to the processes, to the others */
};

struct des {
    double now; /* seconds */
    struct des_process process[DES_PROCESSES];
    struct des_resource resource[DES_RESOURCES];
    void (*resume)(void *ctx, int process);
    void *ctx;
};

/* The process must be doing nothing. Zero seconds or units: resumed before time moves on. */
void des_sleep(struct des *d, int process, double seconds);
void des_work(struct des *d, int process, int resource, double units, double shares);

/* Units a second that one share of the resource gets now. */
double des_rate(const struct des *d, int resource);

/* Runs until the given time, or until *stop is true after some event (NULL: never). False where
 * nothing is left to happen before the given time; time stands at the last event then. */
bool des_run(struct des *d, double until, const bool *stop);

#endif
