/* Memory, streams, events and graphs of a GPU that is not there. A stream is a queue that is worked
 * off as late as possible, when the host waits for it or another stream that is waited for needs
 * it: host memory that is reused too early, or read too early, shows. */
#include "recorder.h"

#include "base/err.h"
#include "recorder_calls.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_NAMES = 48, MAX_EVENTS = 64 };

struct CUevent_st {
    int stream; /* -1: never recorded */
    int position;
    struct clock clock;
};

struct CUstream_st {
    bool used, capturing;
    struct call **queue;
    int n, done;
    struct clock clock;
    struct CUgraphExec_st *graph; /* being captured */
};

struct CUgraphExec_st {
    struct call **calls;
    int n;
};

static struct recorder_options options;
static _Thread_local bool entered; /* the device is this thread's */
static struct CUstream_st streams[STREAMS];
static struct clock host;
static size_t used;
static bool opened_fast;
static int alive, problems;
static char first_problem[400];
static struct {
    const char *name;
    int asked, done;
} names[MAX_NAMES];

void problem(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    if (problems++ == 0) {
        vsnprintf(first_problem, sizeof first_problem, fmt, args);
    }
    va_end(args);
}

int recorder_problems(void) {
    return problems;
}

const char *recorder_problem(void) {
    return first_problem;
}

bool recorder_fast(void) {
    return opened_fast;
}

int recorder_leaks(void) {
    return alive;
}

static int name_of(const char *name) {
    int i = 0;
    while (i < MAX_NAMES - 1 && names[i].name && strcmp(names[i].name, name) != 0) {
        i++;
    }
    names[i].name = name;
    return i;
}

int recorder_calls(const char *name) {
    return names[name_of(name)].done;
}

int call_fails(const char *name) {
    if (!entered) {
        problem("%s in a thread that has no device", name);
    }
    int i = name_of(name);
    names[i].asked++;
    return options.fail_call && strcmp(options.fail_call, name) == 0 &&
                   names[i].asked > options.fail_after
               ? options.fail_code
               : 0;
}

bool recorder_executes(void) {
    return options.execute;
}

static void join(struct clock *a, const struct clock *b) {
    for (int i = 0; i < STREAMS; i++) {
        a->at[i] = a->at[i] > b->at[i] ? a->at[i] : b->at[i];
    }
}

/* --- streams --- */

static void work_off(int stream, int position);

static void perform(struct call *c, int stream) {
    if (c->waits_for >= 0) {
        work_off(c->waits_for, c->position);
        return;
    }
    if (!c->run) {
        return;
    }
    names[name_of(c->name)].done++;
    if (c->begins) {
        shadow_new_run(c->begins, options.execute);
    }
    shadow_check(c->name, &c->touched, c->step, stream, &c->now);
    int code = options.execute ? c->run(c->args) : 0;
    if (code) {
        problem("%s refuses its arguments (%d)", c->name, code);
    }
}

/* Everything of the stream before that position. */
static void work_off(int stream, int position) {
    struct CUstream_st *s = &streams[stream];
    while (s->done < position) {
        struct call *c = s->queue[s->done++];
        perform(c, stream);
        free(c);
    }
}

static void enqueue(struct CUstream_st *s, const struct call *call) {
    struct call *c = malloc(sizeof *c);
    *c = *call;
    int stream = (int)(s - streams);
    s->clock.at[stream]++;
    c->now = s->clock;
    s->queue = realloc(s->queue, (size_t)(s->n + 1) * sizeof(struct call *));
    s->queue[s->n++] = c;
}

int submit(struct call *c, struct CUstream_st *stream) {
    c->step = shadow_step(&c->touched);
    if (!stream->capturing) {
        enqueue(stream, c);
        return 0;
    }
    struct CUgraphExec_st *g = stream->graph;
    g->calls = realloc(g->calls, (size_t)(g->n + 1) * sizeof(struct call *));
    g->calls[g->n] = malloc(sizeof *c);
    *g->calls[g->n++] = *c;
    return 0;
}

static int stream_create(struct CUstream_st **ret) {
    int code = call_fails("stream_create");
    for (int i = 0; i < STREAMS && !code; i++) {
        if (!streams[i].used) {
            streams[i] = (struct CUstream_st){.used = true};
            *ret = &streams[i];
            alive++;
            return 0;
        }
    }
    return code ? code : 999;
}

static void stream_free(struct CUstream_st *s) {
    if (s) {
        work_off((int)(s - streams), s->n);
        free(s->queue);
        *s = (struct CUstream_st){0};
        alive--;
    }
}

static int stream_sync(struct CUstream_st *s) {
    int code = call_fails("stream_sync");
    if (s->capturing) {
        problem("a stream that is captured is waited for");
    }
    work_off((int)(s - streams), s->n);
    join(&host, &s->clock);
    return code;
}

static int event_create(struct CUevent_st **ret) {
    int code = call_fails("event_create");
    if (!code) {
        *ret = calloc(1, sizeof **ret);
        (*ret)->stream = -1;
        alive++;
    }
    return code;
}

static void event_free(struct CUevent_st *e) {
    alive -= e != NULL;
    free(e);
}

static int event_record(struct CUevent_st *e, struct CUstream_st *s) {
    int code = call_fails("event_record");
    if (s->capturing) {
        problem("an event is recorded while a graph is captured");
    }
    enqueue(s, &(struct call){.name = "event_record", .waits_for = -1});
    *e = (struct CUevent_st){.stream = (int)(s - streams), .position = s->n, .clock = s->clock};
    return code;
}

static int event_wait(struct CUstream_st *s, struct CUevent_st *e) {
    int code = call_fails("event_wait");
    if (e->stream >= 0) {
        join(&s->clock, &e->clock);
        enqueue(s, &(struct call){
                       .name = "event_wait", .waits_for = e->stream, .position = e->position});
    }
    return code;
}

static int event_sync(struct CUevent_st *e) {
    int code = call_fails("event_sync");
    if (e->stream >= 0) {
        work_off(e->stream, e->position);
        join(&host, &e->clock);
    }
    return code;
}

static int event_ms(float *ret, struct CUevent_st *a, struct CUevent_st *b) {
    if (a->stream < 0 || b->stream < 0) {
        problem("the time of an event that was never recorded");
    }
    *ret = 0;
    return call_fails("event_ms");
}

static int capture_begin(struct CUstream_st *s) {
    int code = call_fails("capture_begin");
    if (!code) {
        s->capturing = true;
        s->graph = calloc(1, sizeof *s->graph);
    }
    return code;
}

static void graph_free(struct CUgraphExec_st *g) {
    for (int i = 0; i < g->n; i++) {
        free(g->calls[i]);
    }
    free(g->calls);
    free(g);
    alive--;
}

static int capture_end(struct CUstream_st *s, struct CUgraphExec_st **ret) {
    int code = call_fails("capture_end");
    s->capturing = false;
    alive++;
    if (code || options.no_capture) {
        graph_free(s->graph);
        return code ? code : 900;
    }
    *ret = s->graph;
    return 0;
}

static int graph_launch(struct CUgraphExec_st *g, struct CUstream_st *s) {
    int code = call_fails("graph_launch");
    for (int i = 0; i < g->n && !code; i++) {
        enqueue(s, g->calls[i]);
    }
    names[name_of("graph_launch")].done++;
    return code;
}

/* --- memory --- */

static int allocate(void **ret, size_t bytes) {
    int code = call_fails("allocate");
    if (!code && options.memory && used + bytes > options.memory) {
        code = 2;
    }
    if (code) {
        return code;
    }
    size_t *head =
        mmap(NULL, bytes + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (head == MAP_FAILED) {
        return 2;
    }
    mprotect(head, options.execute ? bytes + 4096 : 4096, PROT_READ | PROT_WRITE);
    *head = bytes;
    used += bytes;
    alive++;
    *ret = (char *)head + 4096;
    if (options.execute) {
        memset(*ret, 0xff, bytes);
    }
    shadow_add_region(*ret, bytes);
    return 0;
}

static void release(void *memory) {
    size_t *head = (void *)((char *)memory - 4096);
    for (int i = 0; i < STREAMS; i++) {
        if (streams[i].used && streams[i].done < streams[i].n) {
            problem("memory is released while stream %d still has work", i);
        }
    }
    shadow_remove_region(memory);
    used -= *head;
    alive--;
    munmap(head, *head + 4096);
}

static int allocate_host(void **ret, size_t bytes) {
    int code = call_fails("allocate_host");
    *ret = code ? NULL : malloc(bytes);
    alive += !code;
    return code;
}

static void release_host(void *memory) {
    free(memory);
    alive--;
}

static int lock_memory(void *memory, size_t bytes) {
    (void)memory;
    (void)bytes;
    int code = call_fails("lock");
    alive += !code;
    return code;
}

static void unlock_memory(void *memory) {
    (void)memory;
    alive--;
}

static int room(size_t *ret_free, size_t *ret_total) {
    size_t total = options.memory ? options.memory : (size_t)1 << 40;
    *ret_free = total - used;
    *ret_total = total;
    return call_fails("room");
}

/* --- the device --- */

static int open_device(int index, bool fast, struct vx_device_info *ret_info, void **ret_engine,
                       struct vx_err *err) {
    opened_fast = fast;
    if (index > 0) {
        return vx_fail(err, VX_E_NOT_FOUND, NULL, "there is one recorded device");
    }
    *ret_info = (struct vx_device_info){.bf16 = true, .memory_bytes = options.memory};
    snprintf(ret_info->name, sizeof ret_info->name, "recorded:0");
    snprintf(ret_info->model, sizeof ret_info->model, "no GPU");
    *ret_engine = &streams;
    alive++;
    entered = true;
    return VX_OK;
}

static void close_device(void *engine) {
    int open = 0;
    for (int i = 0; i < STREAMS; i++) {
        open += streams[i].used;
    }
    if (engine && open == 0) {
        problem("cuDNN's context is closed after the streams it worked on");
    }
    alive -= engine != NULL;
}

static int enter(int index) {
    entered = index == 0;
    return call_fails("enter");
}

static const char *error_text(int code) {
    return code == 2 ? "out of memory" : "an error made up by the test";
}

static const struct cuda_api api = {
    .open = open_device,
    .close = close_device,
    .enter = enter,
    .allocate = allocate,
    .release = release,
    .allocate_host = allocate_host,
    .release_host = release_host,
    .lock = lock_memory,
    .unlock = unlock_memory,
    .room = room,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .stream_sync = stream_sync,
    .event_create = event_create,
    .event_free = event_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_sync = event_sync,
    .event_ms = event_ms,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_free = graph_free,
    .copy = record_copy,
    .clear = record_clear,
    .conv_plan = record_conv_plan,
    .conv_run = record_conv_run,
    .conv_free = record_conv_free,
    .norm_forward = record_norm_forward,
    .norm_backward = record_norm_backward,
    .bias_forward = record_bias_forward,
    .bias_backward = record_bias_backward,
    .load_images = record_load_images,
    .load_targets = record_load_targets,
    .loss_forward = record_loss_forward,
    .loss_backward = record_loss_backward,
    .gradient_norm = record_gradient_norm,
    .update = record_update,
    .filter_pack = record_filter_pack,
    .filter_unpack = record_filter_unpack,
    .filter_unpack_bf16 = record_filter_unpack_bf16,
    .read_logits = record_read_logits,
    .cut_tile = record_cut_tile,
    .add_tile = record_add_tile,
    .divide_tiles = record_divide_tiles,
    .norm_workspace = vx_cuda_norm_workspace,
    .bias_workspace = vx_cuda_bias_workspace,
    .loss_workspace = vx_cuda_loss_workspace,
    .optimizer_workspace = vx_cuda_optimizer_workspace,
    .error_text = error_text,
};

void count_alive(int more) {
    alive += more;
}

static int table_open(int index, const struct vx_device_options *o, struct vx_device **ret,
                      struct vx_err *err);

static const struct vx_device_api table = {
    .abi = VX_DEVICE_ABI,
    .name = "recorded",
    .open = table_open,
    .close = cuda_device_close,
    .info = cuda_device_info,
    .state_create = cuda_state_create,
    .state_free = cuda_state_free,
    .state_upload = cuda_state_upload,
    .state_download = cuda_state_download,
    .compile = cuda_compile,
    .program_free = cuda_program_free,
    .program_memory = cuda_program_memory,
    .run = cuda_run,
    .wait = cuda_wait,
    .read_logits = cuda_read_logits,
    .use_memory = cuda_use_memory,
    .sums_begin = cuda_sums_begin,
    .sums_image = cuda_sums_image,
    .sums_add = cuda_sums_add,
    .sums_read = cuda_sums_read,
    .sums_free = cuda_sums_free,
};

static int table_open(int index, const struct vx_device_options *o, struct vx_device **ret,
                      struct vx_err *err) {
    return cuda_device_open(&api, &table, index, o, ret, err);
}

void recorder_change(const struct recorder_options *o) {
    options = *o;
    memset(names, 0, sizeof names);
}

void recorder_start(const struct recorder_options *o) {
    recorder_change(o);
    memset(streams, 0, sizeof streams);
    problems = alive = 0;
    used = 0;
    first_problem[0] = '\0';
    shadow_reset();
    vx_device_register(&table, NULL);
}

void recorder_watch(const struct vx_program *program) {
    shadow_watch((const struct cuda_program *)program);
}
