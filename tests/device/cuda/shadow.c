/* Who wrote what. A region is a piece of device memory; where it is a program's arena it is seen as
 * that program's buffers, else as one. Of every buffer: which bytes hold something (as ranges, or
 * as columns of rows where a view is a slice), and when it was read and written on which stream. */
#include "recorder_private.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REGIONS = 64, MAX_COLUMNS = 256 };

struct range {
    size_t from, to;
};

struct shadow {
    struct range *ranges; /* sorted, disjoint; owned */
    int n_ranges;
    size_t stride; /* of columns; 0: none */
    bool column[MAX_COLUMNS];
    long written[STREAMS], read[STREAMS]; /* last time, by stream; 0: never */
};

struct region {
    char *base;
    size_t bytes;
    const struct cuda_program *program; /* NULL: one buffer */
    struct shadow *shadows;             /* owned; [n_buffers] or [1] */
};

static struct region regions[MAX_REGIONS];
static int n_regions;

static void clear_shadow(struct shadow *s) {
    free(s->ranges);
    s->ranges = NULL;
    s->n_ranges = 0;
    s->stride = 0;
    memset(s->column, 0, sizeof s->column);
}

static int buffers_of(const struct region *r) {
    return r->program ? r->program->n_buffers : 1;
}

static void free_region(struct region *r) {
    for (int i = 0; i < buffers_of(r); i++) {
        clear_shadow(&r->shadows[i]);
    }
    free(r->shadows);
}

void shadow_reset(void) {
    n_regions = 0;
}

void shadow_add_region(void *base, size_t bytes) {
    regions[n_regions++] =
        (struct region){.base = base, .bytes = bytes, .shadows = calloc(1, sizeof(struct shadow))};
}

void shadow_remove_region(const void *base) {
    for (int i = 0; i < n_regions; i++) {
        if (regions[i].base == base) {
            free_region(&regions[i]);
            regions[i] = regions[--n_regions];
            return;
        }
    }
}

static struct region *region_of(const void *at) {
    for (int i = 0; i < n_regions; i++) {
        if ((const char *)at >= regions[i].base &&
            (const char *)at < regions[i].base + regions[i].bytes) {
            return &regions[i];
        }
    }
    return NULL;
}

bool shadow_is_device(const void *at) {
    return region_of(at) != NULL;
}

bool shadow_is_input(const void *at) {
    const struct region *r = region_of(at);
    return r && r->program &&
           cuda_at(r->program, &r->program->tensors[r->program->net.input].value) == at;
}

static bool overlap(const struct vx_span *a, const struct vx_span *b) {
    return a->first >= 0 && b->first >= 0 && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

static void check_plan(const struct cuda_program *p) {
    for (int i = 0; i < p->n_buffers; i++) {
        const struct vx_span *a = &p->buffers[i];
        if (a->first >= 0 && a->offset + a->bytes > p->arena_bytes) {
            problem("buffer %d ends behind the arena", i);
        }
        for (int k = 0; k < i; k++) {
            const struct vx_span *b = &p->buffers[k];
            if (overlap(a, b) && a->first <= b->last && b->first <= a->last) {
                problem("buffers %d and %d overlap while both are in use", k, i);
            }
        }
    }
}

/* The arena was cleared as a whole when it was made; only what is kept may count on that. */
void shadow_watch(const struct cuda_program *p) {
    struct region *r = region_of(p->arena);
    free_region(r);
    r->program = p;
    r->shadows = calloc((size_t)p->n_buffers, sizeof *r->shadows);
    for (int i = 0; i < p->n_buffers; i++) {
        if (p->buffers[i].first == 0 && p->buffers[i].last == CUDA_ALWAYS) {
            r->shadows[i].ranges = malloc(sizeof(struct range));
            r->shadows[i].ranges[0] = (struct range){0, p->buffers[i].bytes};
            r->shadows[i].n_ranges = 1;
        }
    }
    check_plan(p);
}

static void add_range(struct shadow *s, size_t from, size_t to) {
    struct range *list = malloc((size_t)(s->n_ranges + 1) * sizeof *list);
    int n = 0;
    struct range new = {from, to};
    for (int i = 0; i < s->n_ranges; i++) {
        struct range r = s->ranges[i];
        if (r.to < new.from || r.from > new.to) {
            list[n++] = r;
        } else {
            new.from = r.from < new.from ? r.from : new.from;
            new.to = r.to > new.to ? r.to : new.to;
        }
    }
    list[n++] = new;
    free(s->ranges);
    s->ranges = list;
    s->n_ranges = n;
}

static bool has_range(const struct shadow *s, size_t from, size_t to) {
    for (int i = 0; i < s->n_ranges; i++) {
        if (s->ranges[i].from <= from && to <= s->ranges[i].to) {
            return true;
        }
    }
    return false;
}

static bool all_columns(const struct shadow *s, size_t from, size_t to) {
    for (size_t c = from / 16; c < to / 16; c++) {
        if (!s->column[c]) {
            return false;
        }
    }
    return s->stride > 0;
}

static void write_bytes(struct shadow *s, const struct access *a, size_t offset) {
    if (a->rows == 1 || a->row_bytes == a->stride) {
        add_range(s, offset, offset + a->rows * a->stride - (a->stride - a->row_bytes));
        return;
    }
    if (s->stride != a->stride) {
        s->stride = a->stride;
        memset(s->column, 0, sizeof s->column);
    }
    for (size_t c = offset / 16; c < (offset + a->row_bytes) / 16; c++) {
        s->column[c] = true;
    }
}

static bool holds(const struct shadow *s, const struct access *a, size_t offset) {
    size_t end = offset + (a->rows - 1) * a->stride + a->row_bytes;
    if (has_range(s, offset, end)) {
        return true;
    }
    if (a->rows == 1 || a->row_bytes == a->stride) {
        /* Whole, made of slices? */
        return offset == 0 && s->stride > 0 && end % s->stride == 0 && all_columns(s, 0, s->stride);
    }
    return s->stride == a->stride && all_columns(s, offset, offset + a->row_bytes);
}

/* Outside of the steps (step < 0) things are written before the first and read after the last. */
static bool in_use(const struct vx_span *b, int step, bool write) {
    if (b->first < 0 || step >= 0) {
        return b->first >= 0 && b->first <= step && step <= b->last;
    }
    return write ? b->first == 0 : b->last == CUDA_ALWAYS;
}

static int buffer_at(const struct region *r, size_t offset, int step, bool write) {
    for (int i = 0; r->program && i < r->program->n_buffers; i++) {
        const struct vx_span *b = &r->program->buffers[i];
        if (in_use(b, step, write) && offset >= b->offset && offset < b->offset + b->bytes) {
            return i;
        }
    }
    return r->program ? -1 : 0;
}

/* What shares bytes with a buffer that is written holds nothing any more. */
static void clobber(struct region *r, int buffer) {
    for (int i = 0; r->program && i < r->program->n_buffers; i++) {
        if (i != buffer && overlap(&r->program->buffers[i], &r->program->buffers[buffer])) {
            struct shadow *s = &r->shadows[i];
            clear_shadow(s);
        }
    }
}

/* Of all buffers that share bytes with this one. */
static void check_order(const char *call, const struct region *r, int buffer, bool write,
                        int stream, const struct clock *now) {
    for (int i = 0; i < buffers_of(r); i++) {
        if (i != buffer && !overlap(&r->program->buffers[i], &r->program->buffers[buffer])) {
            continue;
        }
        for (int s = 0; s < STREAMS; s++) {
            const struct shadow *h = &r->shadows[i];
            if (s != stream && (h->written[s] > now->at[s] || (write && h->read[s] > now->at[s]))) {
                problem("%s %s buffer %d while stream %d may still be %s it", call,
                        write ? "writes" : "reads", buffer, s,
                        h->written[s] > now->at[s] ? "writing" : "reading");
            }
        }
    }
}

/* Of memory that nobody watches only the bounds are known: a slice counts as all that it spans. */
static struct access spanned(const struct access *a) {
    struct access whole = *a;
    whole.row_bytes = whole.stride = (a->rows - 1) * a->stride + a->row_bytes;
    whole.rows = 1;
    return whole;
}

static void check_one(const char *call, const struct access *given, int step, int stream,
                      const struct clock *now) {
    const struct region *watched = region_of(given->at);
    struct access whole = spanned(given);
    const struct access *a = watched && watched->program ? given : &whole;
    struct region *r = region_of(a->at);
    if (!r) {
        problem("%s %s at %p, which is no device memory", call, a->write ? "writes" : "reads",
                a->at);
        return;
    }
    size_t offset = (size_t)((const char *)a->at - r->base);
    int buffer = buffer_at(r, offset, step, a->write);
    const char *name = r->program && step >= 0 ? r->program->steps[step].name : "outside";
    if (buffer < 0) {
        problem("%s (step %d, %s) %s where no buffer is in use", call, step, name,
                a->write ? "writes" : "reads");
        return;
    }
    size_t start = r->program ? r->program->buffers[buffer].offset : 0;
    size_t bytes = r->program ? r->program->buffers[buffer].bytes : r->bytes;
    size_t inside = offset - start;
    if (inside + (a->rows - 1) * a->stride + a->row_bytes > bytes) {
        problem("%s (step %d, %s) %s past the end of buffer %d", call, step, name,
                a->write ? "writes" : "reads", buffer);
        return;
    }
    struct shadow *s = &r->shadows[buffer];
    if (!a->write && !holds(s, a, inside)) {
        problem("%s (step %d, %s) reads buffer %d where nothing was written", call, step, name,
                buffer);
    }
    check_order(call, r, buffer, a->write, stream, now);
    if (a->write) {
        clobber(r, buffer);
        write_bytes(s, a, inside);
        s->written[stream] = now->at[stream];
    } else {
        s->read[stream] = now->at[stream];
    }
}

int shadow_step(const struct touched *t) {
    for (int i = 0; i < t->n; i++) {
        const struct region *r = region_of(t->list[i].at);
        if (r && r->program) {
            return r->program->step < r->program->n_steps ? r->program->step : -1;
        }
    }
    return 0;
}

void shadow_new_run(const void *at, bool poison) {
    struct region *r = region_of(at);
    for (int i = 0; r && r->program && i < r->program->n_buffers; i++) {
        const struct vx_span *b = &r->program->buffers[i];
        if (b->first >= 0 && !(b->first == 0 && b->last == CUDA_ALWAYS)) {
            clear_shadow(&r->shadows[i]);
            if (poison) {
                memset(r->base + b->offset, 0xff, b->bytes);
            }
        }
    }
}

void shadow_check(const char *call, const struct touched *t, int step, int stream,
                  const struct clock *now) {
    /* What a call reads is there before it writes. */
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < t->n; i++) {
            if (t->list[i].write == (w == 1)) {
                check_one(call, &t->list[i], step, stream, now);
            }
        }
    }
}
