/* The engine fed by the session's ring, with workers that finish out of order. */
#include "checkpoint/checkpoint.h"
#include "session/ring.h"
#include "toy_job.h"

#include <criterion/new/assert.h>
#include <pthread.h>

static const uint32_t SIZE[3] = {1, 1, 2};

struct worker {
    struct vx_ring *ring;
    uint16_t id;
    uint64_t made;
};

/* Writes what toy_source would give for the same number; uneven pauses shuffle the order. */
static void *work(void *arg) {
    struct worker *w = arg;
    for (;;) {
        uint32_t mark = vx_ring_work_mark(w->ring);
        uint64_t q;
        int rc = vx_ring_claim(w->ring, w->id, 0, &q);
        if (rc == VX_E_CANCELLED) {
            return NULL;
        }
        if (rc != VX_OK) {
            vx_ring_wait_work(w->ring, mark, 100000000);
            continue;
        }
        struct timespec t = {.tv_nsec = (long)(q * 7919 % 5) * 100000};
        nanosleep(&t, NULL);
        vx_ring_image(w->ring, q)[0] = sinf((float)q * 1.7f);
        vx_ring_label(w->ring, q)[0] = (int16_t)(q * 7 % 5);
        w->made += vx_ring_publish(w->ring, w->id, q);
    }
}

static void live_on_a_ring(struct toy_job *job, uint64_t first_q) {
    struct vx_sample_schedule schedule = {.batch = TOY_BATCH,
                                          .train_iterations = TOY_TRAIN,
                                          .val_iterations = TOY_VAL,
                                          .epochs = TOY_EPOCHS};
    struct vx_ring ring;
    struct vx_err err = {0};
    cr_assert_eq(vx_ring_create(1, SIZE, &schedule, 5, first_q, &ring, &err), VX_OK, "%s",
                 err.text);
    struct vx_ring_source source;
    vx_ring_source_init(&source, &ring);
    job->config.source = &source.base;
    struct worker workers[3];
    pthread_t threads[3];
    for (uint16_t i = 0; i < 3; i++) {
        workers[i] = (struct worker){&ring, i, 0};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    struct vx_train_outcome out = {0};
    int rc = toy_job_live(job, &out, &err);
    vx_ring_set_gate(&ring, VX_GATE_STOPPED);
    uint64_t made = 0;
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        made += workers[i].made;
    }
    cr_assert_eq(rc, VX_OK, "%s", err.text);
    cr_assert(out.finished);
    cr_assert(eq(u64, made, TOY_SAMPLES - first_q), "each sample was made once");
    uint32_t counts[4];
    vx_ring_counts(&ring, counts);
    cr_assert(eq(u32, counts[VX_SLOT_HELD], 0));
    vx_ring_close(&ring);
}

/* Weights of the final checkpoint depend on every sample and its place. */
static void final_weights(const char *dir, float out[6]) {
    char *path = vx_strf("%s/%s", dir, VX_CHECKPOINT_FINAL);
    struct vx_ckpt c;
    cr_assert(eq(int, vx_ckpt_read(path, &c, NULL), VX_OK));
    memcpy(out, c.tensors[0].param, 6 * sizeof(float));
    vx_ckpt_release(&c);
    free(path);
}

Test(train_ring_source, same_as_in_order) {
    char *plain = toy_dir(), *ringed = toy_dir();
    struct toy_job job;
    struct vx_train_outcome out = {0};
    toy_job_init(&job, plain);
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    toy_job_init(&job, ringed);
    live_on_a_ring(&job, 0);
    float a[6], b[6];
    final_weights(plain, a);
    final_weights(ringed, b);
    cr_assert(eq(int, memcmp(a, b, sizeof(a)), 0));
    vx_remove_tree(ringed, NULL);
    free(ringed);

    /* Stopped in the middle of an epoch, then a ring that begins there. */
    ringed = toy_dir();
    toy_job_init(&job, ringed);
    job.source.stop_at = 9;
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    toy_job_init(&job, ringed);
    live_on_a_ring(&job, job.source.next);
    final_weights(ringed, b);
    cr_assert(eq(int, memcmp(a, b, sizeof(a)), 0));
    vx_remove_tree(ringed, NULL);
    vx_remove_tree(plain, NULL);
    free(ringed);
    free(plain);
}

/* A gate that the supervisor has stopped ends the run like a stop request. */
Test(train_ring_source, stopped_gate) {
    char *dir = toy_dir();
    struct toy_job job;
    toy_job_init(&job, dir);
    struct vx_sample_schedule schedule = {TOY_BATCH, TOY_TRAIN, TOY_VAL, TOY_EPOCHS};
    struct vx_ring ring;
    cr_assert(eq(int, vx_ring_create(1, SIZE, &schedule, 8, 0, &ring, NULL), VX_OK));
    vx_ring_set_gate(&ring, VX_GATE_STOPPED);
    struct vx_ring_source source;
    vx_ring_source_init(&source, &ring);
    job.config.source = &source.base;
    struct vx_train_outcome out = {.finished = true};
    cr_assert(eq(int, toy_job_live(&job, &out, NULL), VX_OK));
    cr_assert(not(out.finished));
    vx_ring_close(&ring);
    vx_remove_tree(dir, NULL);
    free(dir);
}
