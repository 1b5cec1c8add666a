/* How long a sleeping trainer takes to see what became ready in another process: a sample of 40 x
 * 56 x 40, and a batch of two of 128 x 128 x 128, made in its slots or copied into them; and how
 * many samples a second the bare protocol passes. Prints one JSON object; tests/bench/ring.py holds
 * it against its targets and a peer. */
#include "session/ring.h"
#include "base/clock.h"
#include "base/err.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLEEPY = 3000, BUSY = 200000, BATCHES = 300 };

struct course {
    uint32_t size[3];
    uint32_t batch, slots;
    uint64_t sleepy; /* samples made after a pause, so that the trainer sleeps */
    uint64_t busy;   /* samples made without one, behind them */
    useconds_t pause;
    bool copied; /* samples come from elsewhere, as with a queue */
};

/* The last of each batch is stamped when the batch is made. */
static void work(struct vx_ring *ring, const struct course *c) {
    size_t bytes = ring->desc.slot_bytes - ring->desc.image_offset;
    char *elsewhere = calloc(1, bytes);
    for (uint64_t n = 0; n < c->sleepy + c->busy;) {
        uint64_t q;
        uint32_t mark = vx_ring_work_mark(ring);
        int rc = vx_ring_claim(ring, 0, 0, &q);
        if (rc == VX_E_CANCELLED) {
            break;
        }
        if (rc != VX_OK) {
            vx_ring_wait_work(ring, mark, 1000000000u);
            continue;
        }
        bool first = q % c->batch == 0;
        if (q < c->sleepy && first) {
            usleep(c->pause);
        }
        if (first) {
            vx_ring_slot(ring, q)->read_ns = vx_now_ns();
        }
        if (c->copied && elsewhere) {
            memcpy(vx_ring_image(ring, q), elsewhere, bytes);
        }
        vx_ring_slot(ring, q)->augment_ns = vx_now_ns();
        vx_ring_publish(ring, 0, q);
        n++;
    }
    free(elsewhere);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One batch in hand and given back; *ret_since: when it was made, or, where copied, when its
 * copying began. */
static int take(struct vx_ring *ring, const struct course *c, uint64_t *ret_since,
                uint64_t *ret_now) {
    uint64_t first = 0;
    for (uint32_t j = 0; j < c->batch; j++) {
        uint64_t q;
        struct vx_sample s;
        int rc = vx_ring_take(ring, 20000000000ull, &q, &s);
        if (rc != VX_OK) {
            return rc;
        }
        *ret_now = vx_now_ns();
        first = j == 0 ? q : first;
        *ret_since =
            c->copied ? vx_ring_slot(ring, first)->read_ns : vx_ring_slot(ring, q)->augment_ns;
    }
    for (uint32_t j = 0; j < c->batch; j++) {
        vx_ring_release(ring, first + j);
    }
    return VX_OK;
}

/* us: microseconds of each sleepy batch, sorted; *ret_rate: busy samples a second. */
static int run(const struct course *c, double *us, double *ret_rate) {
    struct vx_ring ring;
    struct vx_sample_schedule schedule = {c->batch, 1u << 20, 0, 1};
    struct vx_err err = {0};
    if (vx_ring_create(1, c->size, &schedule, c->slots, 0, &ring, &err) != VX_OK) {
        fprintf(stderr, "bench_ring: %s\n", err.text);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(&ring, c);
        _exit(0);
    }
    uint64_t since = 0, now = 0, batches = c->sleepy / c->batch;
    int rc = VX_OK;
    for (uint64_t i = 0; i < batches && rc == VX_OK; i++) {
        rc = take(&ring, c, &since, &now);
        us[i] = (double)(now - since) * 1e-3;
    }
    uint64_t start = vx_now_ns();
    for (uint64_t i = 0; i < c->busy / c->batch && rc == VX_OK; i++) {
        rc = take(&ring, c, &since, &now);
    }
    *ret_rate = (double)c->busy / ((double)(vx_now_ns() - start) * 1e-9);
    vx_ring_set_gate(&ring, VX_GATE_STOPPED);
    waitpid(pid, NULL, 0);
    vx_ring_close(&ring);
    if (rc != VX_OK) {
        fprintf(stderr, "bench_ring: no sample came\n");
        return -1;
    }
    qsort(us, batches, sizeof us[0], compare);
    return 0;
}

int main(void) {
    static double us[SLEEPY], made[BATCHES], copied[BATCHES];
    struct course small = {{40, 56, 40}, 1, 8, SLEEPY, BUSY, 300, false};
    struct course large = {{128, 128, 128}, 2, 8, 2 * BATCHES, 0, 3000, false};
    double rate, none;
    if (run(&small, us, &rate) != 0 || run(&large, made, &none) != 0) {
        return 1;
    }
    large.copied = true;
    if (run(&large, copied, &none) != 0) {
        return 1;
    }
    json_t *j = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:s}", "name", "ring",
                          "unit", "us from ready to awake, p50", "value", us[SLEEPY / 2], "target",
                          40.0, "p99_us", us[SLEEPY * 99 / 100], "samples_per_second", rate,
                          "batch_128_us", made[BATCHES / 2], "batch_128_p99_us",
                          made[BATCHES * 99 / 100], "batch_128_copied_us", copied[BATCHES / 2],
                          "machine", getenv("VXB_MACHINE") ? getenv("VXB_MACHINE") : "", "commit",
                          getenv("VXB_COMMIT") ? getenv("VXB_COMMIT") : "");
    json_dumpf(j, stdout, JSON_REAL_PRECISION(5));
    putchar('\n');
    json_decref(j);
    return 0;
}
