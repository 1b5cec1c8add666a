/* How long a sleeping trainer takes to see a sample that became ready in another process, and how
 * many samples a second the bare protocol passes. Prints one JSON object; exit status 1 where p50
 * is above the target. */
#include "session/ring.h"
#include "base/clock.h"
#include "base/err.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLEEPY = 3000, BUSY = 200000 };
#define TARGET_US 40.0

static struct vx_ring ring;

/* Makes SLEEPY samples with pauses, so that the trainer is asleep each time, then BUSY ones
 * without. */
static void work(void) {
    for (uint64_t n = 0; n < SLEEPY + BUSY;) {
        uint64_t q;
        uint32_t mark = vx_ring_work_mark(&ring);
        int rc = vx_ring_claim(&ring, 0, 0, &q);
        if (rc == VX_E_CANCELLED) {
            return;
        }
        if (rc != VX_OK) {
            vx_ring_wait_work(&ring, mark, 1000000000u);
            continue;
        }
        if (q < SLEEPY) {
            usleep(300);
        }
        vx_ring_slot(&ring, q)->augment_ns = vx_now_ns();
        vx_ring_publish(&ring, 0, q);
        n++;
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int take(uint64_t *ret_published) {
    uint64_t q;
    struct vx_sample s;
    int rc = vx_ring_take(&ring, 20000000000ull, &q, &s);
    if (rc == VX_OK) {
        *ret_published = s.head->augment_ns;
        vx_ring_release(&ring, q);
    }
    return rc;
}

int main(void) {
    static double us[SLEEPY];
    const uint32_t size[3] = {40, 56, 40};
    struct vx_sample_schedule schedule = {2, 1u << 20, 0, 1};
    struct vx_err err = {0};
    if (vx_ring_create(1, size, &schedule, 8, 0, &ring, &err) != VX_OK) {
        fprintf(stderr, "bench_ring: %s\n", err.text);
        return 1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work();
        _exit(0);
    }
    uint64_t published = 0;
    int rc = VX_OK;
    for (int i = 0; i < SLEEPY && rc == VX_OK; i++) {
        rc = take(&published);
        us[i] = (double)(vx_now_ns() - published) * 1e-3;
    }
    uint64_t start = vx_now_ns();
    for (int i = 0; i < BUSY && rc == VX_OK; i++) {
        rc = take(&published);
    }
    double seconds = (double)(vx_now_ns() - start) * 1e-9;
    vx_ring_set_gate(&ring, VX_GATE_STOPPED);
    waitpid(pid, NULL, 0);
    if (rc != VX_OK) {
        fprintf(stderr, "bench_ring: no sample came\n");
        return 1;
    }
    qsort(us, SLEEPY, sizeof us[0], compare);
    json_t *j =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:s, s:s}", "name", "ring", "unit",
                  "us from ready to awake, p50", "value", us[SLEEPY / 2], "target", TARGET_US,
                  "p99_us", us[SLEEPY * 99 / 100], "samples_per_second", BUSY / seconds, "machine",
                  getenv("VXB_MACHINE") ? getenv("VXB_MACHINE") : "", "commit",
                  getenv("VXB_COMMIT") ? getenv("VXB_COMMIT") : "");
    json_dumpf(j, stdout, JSON_REAL_PRECISION(5));
    putchar('\n');
    json_decref(j);
    vx_ring_close(&ring);
    return us[SLEEPY / 2] <= TARGET_US ? 0 : 1;
}
