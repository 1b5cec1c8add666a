/* The ring under everything at once: workers that fill, die and are replaced, a trainer that dies
 * and is rewound, cases that are taken out on the way, a telemetry reader. Every sample the trainer
 * sees must be the right one, and nothing may hang.
 *
 * A worker's death is played by a thread that returns with its claim open; only then, joined, is it
 * reclaimed. */
#include "session/ring.h"
#include "base/err.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 4, VOXELS = 64, CASES = 240, OUTS = 220, SAMPLES = 2 * 120 * 100 };

static struct vx_ring ring;
static uint32_t stop_reader;
static uint32_t hold;            /* the trainer takes nothing while it is set */
static uint64_t out_from[CASES]; /* first sample that does not show the case; 0: it is in */
/* 1 + the case that the trainer saw when it came by last; trainers only */
static uint8_t shown[SAMPLES];

struct worker {
    pthread_t thread;
    uint16_t id;
    uint32_t seed;
    uint32_t dead; /* set by the thread when it died */
};

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void fail(const char *what, uint64_t q) {
    fprintf(stderr, "ring race: %s at q=%llu\n", what, (unsigned long long)q);
    abort();
}

/* What sample q shows: the first of its draws that is not out by then. */
static uint32_t case_of(uint64_t q) {
    uint32_t seed = (uint32_t)q * 2654435761u;
    for (;;) {
        uint32_t c = next_random(&seed) % CASES;
        uint64_t from = __atomic_load_n(&out_from[c], __ATOMIC_ACQUIRE);
        if (from == 0 || q < from) {
            return c;
        }
    }
}

static float voxel(uint64_t q, uint32_t case_index, uint32_t i) {
    return (float)(q * 3 + i + 1000000 * case_index);
}

static void *work(void *arg) {
    struct worker *w = arg;
    for (;;) {
        uint64_t q;
        uint32_t mark = vx_ring_work_mark(&ring);
        int rc = vx_ring_claim(&ring, w->id, next_random(&w->seed) % 12, &q);
        if (rc == VX_E_CANCELLED) {
            return NULL;
        }
        if (rc == VX_E_BUSY) {
            vx_ring_wait_work(&ring, mark, 5000000);
            continue;
        }
        float *image = vx_ring_image(&ring, q);
        uint32_t c = case_of(q);
        uint32_t die_at = next_random(&w->seed) % (VOXELS * 20);
        for (uint32_t i = 0; i < VOXELS; i++) {
            if (i == die_at) {
                __atomic_store_n(&w->dead, 1, __ATOMIC_RELEASE);
                return NULL;
            }
            image[i] = voxel(q, c, i);
        }
        vx_ring_slot(&ring, q)->q = q;
        vx_ring_slot(&ring, q)->case_index = c;
        if (!vx_ring_publish(&ring, w->id, q)) {
            fail("a living worker lost its claim", q);
        }
    }
}

struct trainer {
    uint64_t first; /* q it must start with */
    uint64_t steps; /* samples to take before it dies */
    uint64_t end;   /* out: one past the last sample taken */
};

static void *train(void *arg) {
    struct trainer *t = arg;
    uint64_t held = t->first;
    for (uint64_t n = 0; n < t->steps; n++) {
        uint64_t q;
        struct vx_sample s;
        while (__atomic_load_n(&hold, __ATOMIC_ACQUIRE)) {
        }
        int rc = vx_ring_take(&ring, 20000000000ull, &q, &s);
        if (rc == VX_E_NOT_FOUND) {
            break;
        }
        if (rc != VX_OK || q != t->first + n || s.head->q != q) {
            fail("wrong sample", q);
        }
        for (uint32_t i = 0; i < VOXELS; i++) {
            if (s.image[i] != voxel(q, s.head->case_index, i)) {
                fail("wrong bytes", q);
            }
        }
        shown[q] = (uint8_t)(1 + s.head->case_index);
        t->end = q + 1;
        if (q % 2 == 1) { /* a batch is done */
            while (held <= q) {
                vx_ring_release(&ring, held++);
            }
        }
    }
    return NULL;
}

static void *watch(void *arg) {
    (void)arg;
    uint32_t counts[4];
    while (!__atomic_load_n(&stop_reader, __ATOMIC_ACQUIRE)) {
        vx_ring_counts(&ring, counts);
        if (counts[0] + counts[1] + counts[2] + counts[3] != ring.slots ||
            vx_ring_depth(&ring) > ring.slots) {
            fail("impossible counts", 0);
        }
    }
    return NULL;
}

static void spawn(struct worker *w) {
    w->dead = 0;
    pthread_create(&w->thread, NULL, work, w);
}

/* Reaps, reclaims and replaces the dead; returns how many there were. */
static unsigned tend(struct worker *workers) {
    unsigned n = 0;
    for (int i = 0; i < WORKERS; i++) {
        if (__atomic_load_n(&workers[i].dead, __ATOMIC_ACQUIRE)) {
            pthread_join(workers[i].thread, NULL);
            vx_ring_reclaim(&ring, workers[i].id);
            spawn(&workers[i]);
            n++;
        }
    }
    return n;
}

static void restart(struct worker *workers, uint64_t first) {
    vx_ring_set_gate(&ring, VX_GATE_PAUSED);
    while (vx_ring_rewind(&ring, first) == VX_E_BUSY) {
        tend(workers);
    }
    vx_ring_set_gate(&ring, VX_GATE_OPEN);
}

/* Takes out what one of the ready samples shows, at the very moment at which the trainer goes for
 * them. Returns how many cases that were: 0 where nothing lay ready. */
static unsigned take_out(struct worker *workers, uint32_t *seed) {
    __atomic_store_n(&hold, 1, __ATOMIC_RELEASE);
    vx_ring_set_gate(&ring, VX_GATE_PAUSED);
    while (!vx_ring_quiet(&ring)) {
        tend(workers);
    }
    uint32_t depth = vx_ring_depth(&ring), pick = next_random(seed) % 4, spin = next_random(seed);
    uint64_t q = vx_ring_next(&ring) + pick, from = 0;
    uint32_t c = pick < depth ? vx_ring_slot(&ring, q)->case_index : 0;
    __atomic_store_n(&hold, 0, __ATOMIC_RELEASE);
    for (volatile uint32_t i = 0; i < spin % 256; i++) {
    }
    /* one that is out already may lie ready before where that began, after the trainer died */
    bool out = pick < depth && __atomic_load_n(&out_from[c], __ATOMIC_ACQUIRE) == 0;
    if (out) {
        while (vx_ring_discard(&ring, c, &from) == VX_E_BUSY) {
            tend(workers);
        }
        __atomic_store_n(&out_from[c], from, __ATOMIC_RELEASE);
    }
    vx_ring_set_gate(&ring, VX_GATE_OPEN);
    return out;
}

static void check_shown(void) {
    for (uint64_t q = 0; q < SAMPLES; q++) {
        if (shown[q] != 1 + case_of(q)) {
            fail("not the case that the list of those taken out gives", q);
        }
    }
}

static bool ended(pthread_t thread) {
    return pthread_tryjoin_np(thread, NULL) == 0;
}

int main(void) {
    uint32_t size[3] = {4, 4, 4}, seed = 5;
    struct vx_sample_schedule schedule = {2, 100, 20, 100};
    struct vx_err err = {0};
    if (vx_ring_create(1, size, &schedule, 9, 0, &ring, &err) != VX_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){0, (uint16_t)i, (uint32_t)i * 77 + 1, 0};
        spawn(&workers[i]);
    }
    pthread_t reader, trainer;
    pthread_create(&reader, NULL, watch, NULL);
    unsigned deaths = 0, restarts = 0, outs = 0;
    struct trainer t = {0, 100, 0};
    while (t.end < vx_sample_end(&schedule)) {
        pthread_create(&trainer, NULL, train, &t);
        while (!ended(trainer)) {
            deaths += tend(workers);
            if (outs < OUTS && vx_ring_next(&ring) > (outs + 1) * (SAMPLES / CASES)) {
                outs += take_out(workers, &seed);
            }
        }
        /* the next one goes on from a checkpoint up to 40 samples back */
        uint64_t back = next_random(&seed) % 20 * 2;
        t.first = (t.end > back ? t.end - back : 0) / 2 * 2;
        t.steps = 60 + next_random(&seed) % 200;
        if (t.end < vx_sample_end(&schedule)) {
            restart(workers, t.first);
            restarts++;
        }
    }
    __atomic_store_n(&stop_reader, 1, __ATOMIC_RELEASE);
    pthread_join(reader, NULL);
    vx_ring_set_gate(&ring, VX_GATE_STOPPED);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    check_shown();
    vx_ring_close(&ring);
    printf("ring race: %llu samples, %u worker deaths, %u trainer restarts, %u cases taken out\n",
           (unsigned long long)vx_sample_end(&schedule), deaths, restarts, outs);
    return deaths && restarts && outs == OUTS ? 0 : 1;
}
