/* Inside daemon/session only: the running state of one session. Thread: the supervisor's. */
#ifndef VX_DAEMON_SESSION_INTERNAL_H
#define VX_DAEMON_SESSION_INTERNAL_H

#include "base/budget.h"
#include "base/err.h"
#include "daemon/session/death.h"
#include "daemon/session/live.h"
#include "daemon/session/proc.h"
#include "daemon/session/supervisor.h"
#include "session/control.h"
#include "session/ring.h"
#include "session/timeline.h"

enum step_stage {
    STEP_NONE,    /* not running; restart_at_ns says when the next try is due */
    STEP_LOADING, /* running, has not said where it is; the gate is closed unless this is the first
                     start */
    STEP_REWINDING, /* said where it is; waiting until no slot is being written */
    STEP_WORKING,   /* the ring stands where the step needs it, the gate is open */
};

/* Damaged cases made again, one at a time, by a child; see repair.c. */
struct repairs {
    struct vx_proc proc;
    uint32_t running;       /* the case in work, while proc runs */
    uint64_t running_asked; /* workers that wait for it, one bit each */
    struct vx_err error;    /* what the child said before it ended */
    bool made;              /* it said that the case was damaged and is whole again */
    size_t n_waiting;       /* entries of waiting */
    struct repair_request {
        uint32_t case_index;
        uint64_t asked;        /* workers, one bit each */
    } waiting[VX_WORKERS_MAX]; /* a worker waits for one case at a time */
    size_t n_mended;           /* entries of mended */
    struct repair_count {
        uint32_t case_index, times;
    } * mended; /* owned; how often a case was made again in this session */
};

/* The process that brings the store nearer; see nearing.c. */
struct nearing {
    struct vx_proc proc;
    int held_fd; /* memory that it fills and the workers read; 0: none */
    bool began;  /* one has run */
    bool careful, given_up;
    char why[512];     /* it was given up */
    uint32_t answered; /* the cache mode that something was last said about */
    unsigned deaths;   /* in a row */
    uint64_t restart_at_ns;
    struct vx_err error; /* what it said before it ended */
};

struct pool_entry {
    struct session *session; /* that it belongs to */
    struct vx_proc proc;
    bool leaving;
    bool restarting;      /* killed by pool_restart */
    uint64_t leave_by_ns; /* killed then, where it is leaving and does not */
    uint64_t retry_at_ns; /* with no process: when to spawn again; 0: not wanted */
    char error_code[48], error_status[48], error_text[512],
        error_where[512]; /* what the worker said before it ended */
};

/* A dead worker; see loss.c. */
struct loss {
    struct vx_proc_end end;
    const char *reason; /* session/death.h */
    bool at_work;       /* with a sample in hand: record says which */
    bool by_work;       /* which may be what it died of */
    struct vx_worker_record record;
    unsigned deaths_on_case; /* in a row, this one included; 0: the case is not to blame */
};

/* Cases that workers die over; see quarantine.c. */
#define BLAMED_MAX    16
#define CONDEMNED_MAX 4
struct quarantine {
    size_t n_blamed;
    struct blame {
        uint32_t case_index;
        unsigned deaths; /* in a row */
        uint64_t q;      /* sample of the last */
    } blamed[BLAMED_MAX];
    size_t n_condemned;
    struct condemned {
        uint32_t case_index;
        json_t *evidence;       /* of the last death; owned */
    } condemned[CONDEMNED_MAX]; /* to be taken out as soon as no slot is being filled */
    struct vx_exclusions out;
};

struct session {
    const struct vx_session_options *o;
    struct vx_control control;
    struct vx_timeline timeline;
    struct vx_ring ring;
    struct vx_knobs knobs;
    struct vx_live live;
    struct vx_recipe *recipe; /* owned; with the cases that are out by now */
    struct vx_cpus cpus;      /* of this process */
    uint32_t cores;

    struct vx_proc step;
    enum step_stage stage;
    bool closed;         /* no sample may be made or taken until the step and the ring have met */
    uint64_t first_q;    /* where the ring was made to begin */
    uint64_t wanted_q;   /* where the step said it is */
    bool started_before; /* a step of this session has said where it is, or has died */
    uint64_t restart_at_ns;
    unsigned restarts;   /* in a row, for the pause before the next */
    bool new_checkpoint; /* since the last crash */
    bool result_seen;
    json_t *result;
    struct vx_err step_error; /* from the step's {"error": ...} line */
    bool step_error_retry;

    struct pool_entry pool[VX_WORKERS_MAX];
    uint32_t pool_size;     /* entries in use: 0 .. pool_size - 1 */
    unsigned deaths;        /* of workers in a row, without a sample consumed between */
    uint64_t next_at_death; /* ring's next at the last death */
    struct repairs repairs;
    struct nearing nearing;
    struct quarantine quarantine;
    struct vx_oom_watch oom;

    bool stopping, cancelling; /* asked */
    bool device_gone;          /* somebody knows */
    uint64_t kill_at_ns;       /* step is killed then; 0: no deadline */
    bool ended;
    enum vx_session_end end;
    struct vx_err failure;
};

/* pool.c: keeps the wanted number of workers alive. */
void pool_reap(struct session *s);
void pool_balance(struct session *s);
uint64_t pool_next_due_ns(const struct session *s); /* UINT64_MAX: nothing is due */
/* Kills every worker; they are made anew. */
void pool_restart(struct session *s);
void pool_stop(struct session *s);

/* loss.c: of worker w, whose process pid was just reaped. */
void loss_examine(struct session *s, uint32_t w, const struct vx_proc_end *end, pid_t pid,
                  struct loss *ret);
json_t *loss_json(struct session *s, uint32_t w, const struct loss *l); /* new reference */

/* quarantine.c */
int quarantine_load(struct session *s, struct vx_err *err); /* what an earlier session decided */
unsigned quarantine_blame(struct session *s, const struct loss *l); /* its deaths_on_case */
void quarantine_consider(struct session *s, const struct loss *l, const json_t *evidence);
void quarantine_duties(struct session *s);
void quarantine_release(struct session *s);

/* knobs.c */
void knobs_load(struct session *s); /* the brief's, and those turned before */
void knobs_take(struct session *s); /* those asked for */
void knobs_pin(struct session *s, pid_t pid);
void knobs_tell(struct session *s); /* listeners, how they are */

/* repair.c: a worker that meets a damaged case reports it with a line {"event":"damaged"} and waits
 * (vx_control_answer) while the others go on. */
void repair_line(struct pool_entry *e, const json_t *line); /* a line of that worker */
void repair_forget(struct session *s, uint32_t w);          /* the worker is gone */
void repair_duties(struct session *s);
void repair_stop(struct session *s);

/* nearing.c */
int nearing_start(struct session *s, struct vx_err *err); /* before anything is spawned */
void nearing_wish(struct session *s); /* the knob cache_mode was set: what is read meanwhile */
/* What comes of the knob cache_mode is not known yet. */
bool nearing_decides(const struct session *s);
void nearing_duties(struct session *s);
void nearing_stop(struct session *s);

/* supervisor.c */
void session_fail(struct session *s, const struct vx_err *err);
/* Opens or closes the gates by what is under way. */
void session_gates(struct session *s);

#endif
