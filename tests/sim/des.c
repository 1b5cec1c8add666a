#include "sim/des.h"

#include <assert.h>
#include <math.h>

void des_sleep(struct des *d, int process, double seconds) {
    assert(d->process[process].doing == DES_NOTHING && seconds >= 0);
    d->process[process] = (struct des_process){.doing = DES_SLEEPING, .until = d->now + seconds};
}

void des_work(struct des *d, int process, int resource, double units, double shares) {
    assert(d->process[process].doing == DES_NOTHING && units >= 0 && shares > 0);
    d->process[process] = (struct des_process){
        .doing = DES_WORKING, .resource = resource, .left = units, .shares = shares};
}

double des_rate(const struct des *d, int resource) {
    const struct des_resource *r = &d->resource[resource];
    double shares = r->load;
    for (int p = 0; p < DES_PROCESSES; p++) {
        if (d->process[p].doing == DES_WORKING && d->process[p].resource == resource) {
            shares += d->process[p].shares;
        }
    }
    return shares * r->limit <= r->capacity ? r->limit : r->capacity / shares;
}

/* The process that is done first, and when; -1 where all do nothing. */
static int first_done(const struct des *d, const double rate[DES_RESOURCES], double *ret_when) {
    int first = -1;
    *ret_when = INFINITY;
    for (int i = 0; i < DES_PROCESSES; i++) {
        const struct des_process *p = &d->process[i];
        double when = p->doing == DES_SLEEPING  ? p->until
                      : p->doing == DES_WORKING ? d->now + p->left / rate[p->resource]
                                                : INFINITY;
        if (when < *ret_when) {
            first = i;
            *ret_when = when;
        }
    }
    return first;
}

static void advance(struct des *d, const double rate[DES_RESOURCES], double when) {
    double seconds = when - d->now;
    for (int r = 0; r < DES_RESOURCES; r++) {
        d->resource[r].load_used += seconds * rate[r] * d->resource[r].load;
    }
    for (int i = 0; i < DES_PROCESSES; i++) {
        struct des_process *p = &d->process[i];
        if (p->doing == DES_WORKING) {
            double units = fmin(seconds * rate[p->resource], p->left);
            p->left -= units;
            d->resource[p->resource].used += units * p->shares;
        }
    }
    d->now = when;
}

bool des_run(struct des *d, double until, const bool *stop) {
    for (;;) {
        double rate[DES_RESOURCES], when;
        for (int r = 0; r < DES_RESOURCES; r++) {
            rate[r] = des_rate(d, r);
        }
        int first = first_done(d, rate, &when);
        if (first < 0) {
            return false;
        }
        if (when > until) {
            advance(d, rate, until);
            return true;
        }
        advance(d, rate, when);
        d->process[first] = (struct des_process){.doing = DES_NOTHING};
        d->resume(d->ctx, first);
        if (stop && *stop) {
            return true;
        }
    }
}
