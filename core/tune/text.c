/* Sentences with places for figures: {wait} and the like. Both languages of a verdict stand side by
 * side, so that neither is forgotten. */
#include "tune/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct sentences {
    const char *say[2], *advise[2]; /* by enum vx_language */
};

/* {name}: a figure of the verdict as a plain number; {name%} in percent, {name:B} as bytes; {from}
 * and {to} of its action; {pid}, {foreign}, {cause}, {case}, {phase} from the window. What is not
 * known is a question mark. */
static const struct sentences texts[VX_VERDICTS] = {
    [VX_VERDICT_GPU_BOUND] =
        {{"The device is the limit, as it should be: it waits for samples {loader_wait_ratio%} of "
          "the time.",
          "瓶颈在计算设备本身，这是理想状态：等待数据的时间只占 {loader_wait_ratio%}。"},
         {"Nothing needs to be done.", "无需处理。"}},
    [VX_VERDICT_AUGMENT_BOUND] =
        {{"The device waits for samples {loader_wait_ratio%} of the time: a pool of {workers} "
          "cannot "
          "make them fast enough, and cores are idle.",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据：{workers} 个数据增强进程供不上，而 CPU "
          "还有空闲核心。"},
         {"More workers: {from} to {to}.", "增加数据增强进程：{from} → {to}。"}},
    [VX_VERDICT_AUGMENT_SATURATED] =
        {{"The device waits for samples {loader_wait_ratio%} of the time, and all {cores} cores "
          "are taken by augmentation: {workers_wanted} workers with a core each would be needed.",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据，而 {cores} 个核心已全部用于数据增强；"
          "需要 {workers_wanted} 个各占一个核心的进程。"},
         {"No more workers than cores; beyond that: fewer jobs at a time, more cores, or "
          "augmentation on the GPU.",
          "进程数不要超过核心数；此外只能减少并行任务、增加核心，或把数据增强移到 GPU。"}},
    [VX_VERDICT_READ_BOUND_COLD] =
        {{"The device waits for samples {loader_wait_ratio%} of the time because the data is read "
          "from the disk for the first time.",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据，因为数据是第一次从磁盘读取。"},
         {"This ends by itself in about {to} s, when the data is in memory.",
          "数据进入内存后会自行消失，约需 {to} 秒。"}},
    [VX_VERDICT_READ_BOUND] =
        {{"The device waits for samples {loader_wait_ratio%} of the time because workers wait for "
          "the disk: {read_ratio%} of their time goes into reading.",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据，因为进程在等磁盘：读取占其时间的 "
          "{read_ratio%}。"},
         {"Keep the prepared data in memory or in a folder on a faster local disk.",
          "把预处理数据放进内存，或放到更快的本地磁盘。"}},
    [VX_VERDICT_OPEN_BOUND] =
        {{"The device waits for samples {loader_wait_ratio%} of the time because files are opened "
          "and closed {opens_per_sample} times a sample.",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据，因为每个样本要打开、关闭文件 "
          "{opens_per_sample} 次。"},
         {"Keep files open.", "保持文件打开。"}},
    [VX_VERDICT_MEMORY_PRESSURE] =
        {{"Memory is nearly used up: {memory_available:B} of {memory_limit:B} are left, and a "
          "worker needs {worker_bytes:B}.",
          "内存即将耗尽：{memory_limit:B} 中只剩 {memory_available:B}，而每个进程需要 "
          "{worker_bytes:B}。"},
         {"Fewer workers before the kernel kills one: {from} to {to}.",
          "在内核杀死进程之前减少数据增强进程：{from} → {to}。"}},
    [VX_VERDICT_NEIGHBOUR_CONTENTION] =
        {{"The device waits for samples {loader_wait_ratio%} of the time because other programs "
          "use {foreign_cores} cores, above all {foreign} (process {pid}, user {foreign_uid}).",
          "计算设备有 {loader_wait_ratio%} 的时间在等数据，因为其他程序占用了 {foreign_cores} "
          "个核心，主要是 {foreign}（进程 {pid}，用户 {foreign_uid}）。"},
         {"Move or pause that program, or give this job cores of its own.",
          "请移走或暂停该程序，或给本任务划分专用核心。"}},
    [VX_VERDICT_H2D_BOUND] = {{"Copying samples to the device takes {h2d_ratio%} of each step.",
                               "把样本复制到设备占每步时间的 {h2d_ratio%}。"},
                              {"Check the PCIe link's width and generation.",
                               "请检查 PCIe 链路的宽度和代数。"}},
    [VX_VERDICT_LAUNCH_BOUND] =
        {{"The device has nothing queued for {launch_gap_ratio%} of its computing time: the work "
          "comes in pieces that are too small.",
          "设备在 {launch_gap_ratio%} 的计算时间里无事可做：每份任务太小。"},
         {"A larger batch, where memory allows.", "在显存允许时增大批量。"}},
    [VX_VERDICT_GPU_THROTTLED] =
        {{"The device has lowered its clocks: a step computes {compute_seconds} s where it once "
          "took {compute_seconds_best} s.",
          "设备降低了时钟频率：每步计算需 {compute_seconds} 秒，而最快时为 "
          "{compute_seconds_best} 秒。"},
         {"Check cooling and the power limit.", "请检查散热和功率限制。"}},
    [VX_VERDICT_PERIODIC_STALL] =
        {{"Every {period_steps} steps one takes {spike_seconds} s, which costs {spike_ratio%} of "
          "the time; the extra time is in: {phase}.",
          "每 {period_steps} 步就有一步长达 {spike_seconds} 秒，共占 {spike_ratio%} "
          "的时间；多出的时间在：{phase}。"},
         {"Look for what happens at that rhythm: a checkpoint, validation, a large case, a "
          "scheduled program.",
          "请查找以此节奏发生的事：保存检查点、验证、大病例或定时程序。"}},
    [VX_VERDICT_WORKER_LOST] =
        {{"{workers_lost} workers died; the last: {cause}, at case {case}. Others made their "
          "samples again, unchanged.",
          "{workers_lost} 个数据增强进程异常结束；最近一次：{cause}，病例 "
          "{case}。其样本已由其他进程原样重做。"},
         {"The job's events have the evidence.", "证据见任务的事件列表。"}},
    [VX_VERDICT_HANG] =
        {{"No step has ended for {seconds_without_step} s; it never took more than "
          "{deadline_seconds} s before.",
          "已有 {seconds_without_step} 秒没有完成任何一步；以往从未超过 {deadline_seconds} 秒。"},
         {"The loader is restarted, then the trainer from its checkpoint.",
          "先重启数据加载，再从检查点重启训练进程。"}},
    [VX_VERDICT_DRIFT] =
        {{"It gets slower or fatter: a step grows by {step_growth_per_hour%} an hour, the "
          "memory of trainer and workers by {rss_bytes_per_hour:B}.",
          "逐渐变慢或占用内存增加：每步每小时增长 "
          "{step_growth_per_hour%}，训练与增强进程的内存每小时增长 "
          "{rss_bytes_per_hour:B}。"},
         {"Compare with the start of the job; a restart of the loader costs a second.",
          "请与任务开始时比较；重启数据加载只需一秒。"}},
    [VX_VERDICT_CACHE_CORRUPT] = {
        {"{entries} entries of the prepared data fail their checksum, the last: {case}.",
         "{entries} 个预处理数据条目校验失败，最近一个：{case}。"},
        {"They are made again from the raw data, alone.", "将单独从原始数据重新生成。"}}};

static const char *const phases[VX_TUNE_PHASES][2] = {{"waiting for samples", "等待数据"},
                                                      {"copying to the device", "复制到设备"},
                                                      {"computing", "计算"},
                                                      {"synchronising", "同步"},
                                                      {"checkpoint", "检查点"},
                                                      {"validation", "验证"},
                                                      {"everything else", "其他"}};

/* What a healthy run is told whose device has memory to spare. */
static const char *const larger_batch[2] = {
    "Nothing needs to be done. The device's memory has room for a batch of {largest_batch}, "
    "at which it would compute {largest_batch_utilisation%} of the time; that changes the results, "
    "so it is "
    "yours to choose.",
    "无需处理。设备显存可容纳的最大批量为 {largest_batch}，届时预计有 {largest_batch_utilisation%} "
    "的时间在计算；批量会改变训练结果，因此由您决定。"};

enum vx_language vx_language_of(const char *accept) {
    for (const char *p = accept; p && *p;) {
        while (*p == ' ' || *p == ',') {
            p++;
        }
        if (strncmp(p, "zh", 2) == 0) {
            return VX_CHINESE;
        }
        if (strncmp(p, "en", 2) == 0) {
            return VX_ENGLISH;
        }
        p = strchr(p, ',');
    }
    return VX_ENGLISH;
}

/* --- filling in --- */

struct writer {
    char *buf;
    size_t size, used;
};

static void put(struct writer *o, const char *text, size_t n) {
    /* a character of several bytes goes in whole or not at all */
    for (size_t i = 0; i < n;) {
        size_t bytes = 1;
        while (i + bytes < n && ((unsigned char)text[i + bytes] & 0xc0u) == 0x80u) {
            bytes++;
        }
        if (o->used + bytes + 1 > o->size) {
            o->size = o->used + 1; /* nothing more after the first that does not fit */
            break;
        }
        memcpy(o->buf + o->used, text + i, bytes);
        o->used += bytes;
        i += bytes;
    }
    o->buf[o->used] = '\0';
}

static void put_bytes(struct writer *o, double value) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char text[32];
    int u = 0;
    for (; (value >= 1024 || value <= -1024) && u < 4; u++) {
        value /= 1024;
    }
    snprintf(text, sizeof text, u ? "%.1f %s" : "%.0f %s", value, units[u]);
    put(o, text, strlen(text));
}

static void put_number(struct writer *o, double value, const char *kind) {
    char text[32];
    double magnitude = value < 0 ? -value : value;
    if (*kind == '%') {
        snprintf(text, sizeof text, value < 0.0995 ? "%.1f %%" : "%.0f %%", 100 * value);
    } else if (*kind == ':') {
        put_bytes(o, value);
        return;
    } else if (magnitude < 1e15 && value == (double)(int64_t)value) {
        snprintf(text, sizeof text, "%lld", (long long)value);
    } else {
        snprintf(text, sizeof text,
                 magnitude >= 100 ? "%.0f"
                 : magnitude >= 1 ? "%.1f"
                                  : "%.3g",
                 value);
    }
    put(o, text, strlen(text));
}

static const char *word_of(const char *name, size_t n, const struct vx_tune_window *w,
                           enum vx_language language) {
    const struct {
        const char *name, *text;
    } words[] = {{"foreign", w->host.foreign_name},
                 {"cause", w->event.lost_cause},
                 {"phase", phases[w->event.period_phase % VX_TUNE_PHASES][language]}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i].name) == n && strncmp(words[i].name, name, n) == 0) {
            return words[i].text[0] ? words[i].text : "?";
        }
    }
    return NULL;
}

static void put_place(struct writer *o, const char *name, size_t n, const struct vx_verdict *v,
                      const struct vx_tune_window *w, enum vx_language language) {
    const char *word = word_of(name, n, w, language);
    if (!word && n == 4 && strncmp(name, "case", 4) == 0) {
        word = v->code == VX_VERDICT_CACHE_CORRUPT ? w->event.corrupt_case : w->event.lost_case;
        word = word[0] ? word : "?";
    }
    if (word) {
        put(o, word, strlen(word));
        return;
    }
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"from", v->from}, {"to", v->to}, {"pid", w->host.foreign_pid}};
    for (int i = 0; i < (w->host.foreign_pid ? 3 : 2); i++) {
        if (strlen(numbers[i].name) == n && strncmp(numbers[i].name, name, n) == 0) {
            put_number(o, numbers[i].value, "");
            return;
        }
    }
    const char *end = name + n, *kind = "";
    if (n && end[-1] == '%') {
        kind = "%";
        n--;
    } else if (n > 2 && end[-2] == ':') {
        kind = ":";
        n -= 2;
    }
    for (int i = 0; i < v->n_figures; i++) {
        if (strlen(v->figure[i].name) == n && strncmp(v->figure[i].name, name, n) == 0) {
            put_number(o, v->figure[i].value, kind);
            return;
        }
    }
    put(o, "?", 1); /* this host does not say */
}

static void fill(const char *text, const struct vx_verdict *v, const struct vx_tune_window *w,
                 enum vx_language language, char *buf, size_t size) {
    struct writer o = {buf, size, 0};
    if (size) {
        buf[0] = '\0';
    }
    while (size && *text) {
        const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;
        put(&o, text, close ? (size_t)(open - text) : strlen(text));
        if (!close) {
            return;
        }
        put_place(&o, open + 1, (size_t)(close - open - 1), v, w, language);
        text = close + 1;
    }
}

void vx_verdict_say(const struct vx_verdict *v, const struct vx_tune_window *w,
                    enum vx_language language, char *buf, size_t size) {
    fill(texts[v->code].say[language], v, w, language, buf, size);
}

static bool has_figure(const struct vx_verdict *v, const char *name) {
    for (int i = 0; i < v->n_figures; i++) {
        if (strcmp(v->figure[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

void vx_verdict_advise(const struct vx_verdict *v, const struct vx_tune_window *w,
                       enum vx_language language, char *buf, size_t size) {
    bool room = v->code == VX_VERDICT_GPU_BOUND && has_figure(v, "largest_batch_utilisation");
    fill(room ? larger_batch[language] : texts[v->code].advise[language], v, w, language, buf,
         size);
}
