#include "loader/maker.h"

#include "augment/augment.h"
#include "base/clock.h"
#include "base/err.h"
#include "cache/cache.h"
#include "loader/cases.h"
#include "loader/pretend.h"
#include "session/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Opened cases kept by a worker: their shard indices stay in memory. */
#define OPEN_CASES 512

struct vx_maker {
    const struct vx_recipe_view *recipe; /* borrowed */
    struct vx_cache *cache;              /* borrowed */
    struct vx_cases cases;
    struct vx_aug_policy policies[2]; /* per stream: the recipe's, and none */
    void *memory;                     /* owned mapping that holds the three below */
    size_t memory_bytes;
    float *source;         /* [C][box with margins] */
    int16_t *source_label; /* [box with margins] */
    void *scratch;
    uint64_t augment_ns[16];
    const struct vx_pretence *pretence; /* borrowed; NULL: real augmentation */
};

static size_t round_up(size_t bytes) {
    return (bytes + 4095) / 4096 * 4096;
}

struct layout {
    size_t source, label, scratch, total;
};

static struct layout lay_out(const struct vx_aug_policy *p) {
    size_t voxels = vx_aug_box_voxels_max(p);
    struct layout l;
    l.source = 0;
    l.label = round_up(p->channels * voxels * sizeof(float));
    l.scratch = l.label + round_up((voxels + 1) * sizeof(int16_t));
    l.total = l.scratch + round_up(vx_aug_scratch_bytes(p));
    return l;
}

size_t vx_maker_bytes(const struct vx_recipe *recipe) {
    /* the process itself, the cache's scratch and the case table come on top */
    return lay_out(vx_recipe_view(recipe)->policy).total + (16u << 20);
}

static int map_memory(struct vx_maker *m, struct vx_err *err) {
    struct layout l = lay_out(&m->policies[VX_STREAM_TRAIN]);
    /* a mapping rather than malloc: pages nobody touches cost nothing */
    void *at = mmap(NULL, l.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return vx_fail_errno(err, errno, "", "no memory for the samples' buffers (%zu bytes)",
                             l.total);
    }
    /* Rotated rows cross hundreds of pages; where the kernel has large ones to give, few. */
    madvise(at, l.total, MADV_HUGEPAGE);
    m->memory = at;
    m->memory_bytes = l.total;
    m->source = (float *)((char *)at + l.source);
    m->source_label = (int16_t *)((char *)at + l.label);
    m->scratch = (char *)at + l.scratch;
    return VX_OK;
}

int vx_maker_create(const struct vx_recipe *recipe, struct vx_cache *cache, struct vx_maker **ret,
                    struct vx_err *err) {
    struct vx_maker *m = calloc(1, sizeof *m);
    if (!m) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory for a sample maker");
    }
    m->recipe = vx_recipe_view(recipe);
    m->cache = cache;
    const struct vx_aug_policy *p = m->recipe->policy;
    m->policies[VX_STREAM_TRAIN] = *p;
    int rc = vx_aug_policy_none(p->dims, p->channels, p->patch, &m->policies[VX_STREAM_VAL]);
    if (rc == VX_OK) {
        rc = map_memory(m, err);
    }
    if (rc == VX_OK) {
        rc = vx_cases_init(&m->cases, cache, m->recipe, OPEN_CASES, err);
    }
    if (rc != VX_OK) {
        vx_maker_free(m);
        return rc;
    }
    *ret = m;
    return VX_OK;
}

struct vx_maker *vx_maker_free(struct vx_maker *m) {
    if (m) {
        if (m->cases.entry) {
            vx_cases_release(&m->cases);
        }
        if (m->memory) {
            munmap(m->memory, m->memory_bytes);
        }
        free(m);
    }
    return NULL;
}

void vx_maker_follow(struct vx_maker *m, const struct vx_recipe *recipe) {
    m->recipe = m->cases.recipe = vx_recipe_view(recipe);
}

void vx_maker_pretend(struct vx_maker *m, const struct vx_pretence *p) {
    m->pretence = p;
}

/* Whom to tell how far a sample is. */
struct listener {
    void (*on_stage)(void *ctx, enum vx_making stage, uint32_t case_index);
    void *ctx;
    uint32_t case_index;
};

static void tell(const struct listener *l, enum vx_making stage) {
    if (l->on_stage) {
        l->on_stage(l->ctx, stage, l->case_index);
    }
}

/* What is read for a sample, and how it lies in memory. */
struct reading {
    struct vx_aug_box box;
    struct vx_aug_layout layout;
    struct vx_cache_region region; /* of the case; where interpolated */
    bool slanted;
};

static struct reading plan_reading(const struct vx_aug_policy *p, const struct vx_aug_params *a,
                                   const struct vx_place *place) {
    struct reading r = {.slanted = a->spatial};
    struct vx_aug_region region;
    vx_aug_source_box(p, a, &r.box);
    vx_aug_source_layout(p, a, &r.box, &r.layout);
    vx_aug_source_region(p, a, &region);
    memcpy(r.region.row, region.row, sizeof r.region.row);
    memcpy(r.region.half, region.half, sizeof r.region.half);
    for (int i = 0; i < 3; i++) {
        r.region.centre[i] = place->lo[i] + region.centre[i];
    }
    return r;
}

/* Reads the box's voxels to where the augmentation wants them. */
static int read_box(struct vx_open_case *c, const struct vx_place *place, const struct reading *r,
                    float *image, int16_t *label, const struct listener *listener,
                    struct vx_err *err) {
    const struct vx_cache_region *region = r->slanted ? &r->region : NULL;
    int64_t lo[3], hi[3];
    for (int i = 0; i < 3; i++) {
        lo[i] = place->lo[i] + r->box.lo[i];
        hi[i] = lo[i] + r->box.size[i];
    }
    tell(listener, VX_MAKING_IMAGE);
    int rc = vx_cache_read_region(c->handle, VX_CACHE_IMAGE, lo, hi, region,
                                  image + r->layout.first, r->layout.stride, err);
    if (rc == VX_OK) {
        tell(listener, VX_MAKING_LABEL);
        rc = vx_cache_read_region(c->handle, VX_CACHE_SEG, lo, hi, region, label + r->layout.first,
                                  r->layout.stride, err);
    }
    return rc;
}

/* Counted as the transform that costs most. */
static void pretend(struct vx_maker *m) {
    uint64_t start = vx_now_ns();
    vx_pretend_augment(m->pretence);
    m->augment_ns[VX_T_SPATIAL] += vx_now_ns() - start;
}

int vx_maker_make(struct vx_maker *m, uint32_t stream, uint64_t k, uint32_t j, float *image,
                  int16_t *label, uint32_t *ret_case, struct vx_made *ret,
                  void (*on_stage)(void *ctx, enum vx_making stage, uint32_t case_index), void *ctx,
                  struct vx_err *err) {
    struct vx_open_case *c = NULL;
    struct vx_made made = {0};
    int rc = vx_sample_case(m->recipe, stream, k, j, &made.case_index);
    if (rc != VX_OK) {
        return vx_fail(err, rc, "no_cases_left", "every %s case is quarantined",
                       stream == VX_STREAM_TRAIN ? "training" : "validation");
    }
    *ret_case = made.case_index;
    const struct listener listener = {on_stage, ctx, made.case_index};
    tell(&listener, VX_MAKING_CASE);
    rc = vx_cases_get(&m->cases, made.case_index, &c, err);
    if (rc == VX_OK) {
        rc = vx_sample_place(m->recipe, stream, k, j, &c->source, &made.place, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    const struct vx_aug_policy *p = &m->policies[stream];
    struct vx_aug_params a;
    if (stream == VX_STREAM_TRAIN) {
        vx_aug_draw(p, m->recipe->seed, stream, k, j, &a);
    } else {
        vx_aug_identity(&a);
    }
    struct reading reading = plan_reading(p, &a, &made.place);
    /* what needs no interpolation is read where it belongs */
    float *source = a.spatial ? m->source : image;
    int16_t *source_label = a.spatial ? m->source_label : label;
    rc = read_box(c, &made.place, &reading, source, source_label, &listener, err);
    if (rc != VX_OK) {
        return rc;
    }
    tell(&listener, VX_MAKING_AUGMENT);
    if (m->pretence) {
        pretend(m);
    } else {
        vx_aug_box_clear_margins(&reading.box, p->channels, source, source_label);
        vx_aug_apply(p, &a, &reading.box, source, source_label, image, label, m->scratch,
                     m->augment_ns);
    }
    made.forced = vx_sample_forced(m->recipe, j);
    made.spatial = a.spatial;
    *ret = made;
    return VX_OK;
}

void vx_maker_forget(struct vx_maker *m, uint32_t case_index) {
    vx_cases_forget(&m->cases, case_index);
}

void vx_maker_times(const struct vx_maker *m, struct vx_maker_times *ret) {
    const struct vx_cache_counters *c = vx_cache_counters(m->cache);
    *ret = (struct vx_maker_times){.read_ns = c->open_ns + c->read_ns,
                                   .open_ns = c->open_ns,
                                   .decompress_ns = c->decompress_ns,
                                   .bytes_read = c->bytes_read,
                                   .opens = c->opens,
                                   .bytes_decoded = c->bytes_decoded,
                                   .bytes_held = c->bytes_held,
                                   .stage_faults = c->stage_faults};
    memcpy(ret->augment_ns, m->augment_ns, sizeof ret->augment_ns);
}
