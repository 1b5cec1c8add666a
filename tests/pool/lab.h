/* A prepared phantom data set and sessions on it, for programs that run the real supervisor with
 * the real worker processes. The program itself is all of them: it starts itself as `augment`, and
 * as `step` it is the consumer of consumer.c. */
#ifndef TESTS_POOL_LAB_H
#define TESTS_POOL_LAB_H

#include "daemon/session/supervisor.h"

#include <stdbool.h>
#include <stdint.h>

struct lab {
    char dir[256];    /* temporary folder */
    char *brief_path; /* of a job that nobody runs: the pattern for the scenes */
};

/* Writes cases small phantoms, checks, plans and prepares them: one channel, patch 16 x 16 x 16,
 * batch 2. Exits with a message where that fails. */
void lab_open(struct lab *lab, int cases);
void lab_close(struct lab *lab);

/* How one session is run. */
struct lab_session {
    const char *name;
    uint32_t workers, workers_max, epochs; /* an epoch: 45 training, 5 validation batches */
    uint32_t pace_us;                      /* the consumer's time for a batch */
    uint32_t keep_files_open;
    /* Runs beside the session until *over; NULL: nobody. */
    void (*meddle)(struct lab_session *s);
    struct vx_session_mailbox mailbox;
    volatile bool over;
    /* what came of it */
    uint32_t lost, lost_by_oom, lost_by_bus, lost_by_crash, crashes, changes, quarantined;
    uint64_t start_ns, first_batch_ns, end_ns;
    char *trace; /* one line per batch; owned */
};

/* Exits with a message where the session does not succeed. */
void lab_run(const struct lab *lab, struct lab_session *s);
void lab_release(struct lab_session *s);

/* Running workers of this program's sessions; returns how many. */
int lab_workers(int pids[64]);

/* consumer.c: `step --brief FILE`: takes every sample of the job and writes a line per batch,
 * "STREAM K SHA256", to the job's folder. */
int consumer_main(int argc, char **argv);
#define CONSUMER_TRACE "trace.txt"
#define CONSUMER_PACE  "VX_CONSUMER_PACE_US"

#endif
