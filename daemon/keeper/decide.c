/* How the store is read from now on: the facts, the choice, and letting go of what served before.
 */
#include "daemon/keeper/keeper.h"

#include "base/budget.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/roles/say.h"
#include "daemon/session/brief.h"
#include "daemon/session/proc.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

static bool worth_staging(const struct keeper *k, enum vx_reading asked) {
    bool slow = k->storage.kind == VX_STORAGE_NETWORK || k->storage.kind == VX_STORAGE_ROTATIONAL;
    return k->brief->stage_dir && (asked == VX_READ_STAGE || (asked == VX_READ_AUTO && slow));
}

/* The folder, what it lies on, and the room it has for this store; room is made where it is short.
 */
static void look_at_stage(struct keeper *k, struct vx_cache_facts *f) {
    const char *root = k->brief->stage_dir;
    struct vx_storage storage;
    struct statvfs fs;
    struct vx_err err = {0};
    uint64_t there = 0;
    unsigned removed = 0;
    if (!k->stage && vx_stage_open(root, k->brief->dataset, k->cache, &k->stage, &err) != VX_OK) {
        vx_log_warn("keeper", "no_stage folder=\"%s\" text=\"%s\"", root, err.text);
        return;
    }
    for (size_t i = 0; i < k->n_cases; i++) {
        there += vx_stage_has(k->stage, i) ? k->file_bytes[i] : 0;
    }
    uint64_t wanted = k->store_bytes - there + k->store_bytes / 50 + ((uint64_t)512 << 20);
    vx_stage_tidy(root, there < k->store_bytes ? wanted : 0, (int64_t)time(NULL), &removed, NULL);
    if (removed) {
        vx_log_notice("keeper", "stage_tidied folder=\"%s\" removed=%u", root, removed);
    }
    if (statvfs(root, &fs) == 0 && vx_storage_probe(root, &storage, NULL) == VX_OK) {
        f->stage = true;
        f->stage_storage = storage.kind;
        f->stage_free = (uint64_t)fs.f_bavail * fs.f_frsize + there;
    }
}

static void gather(struct keeper *k, enum vx_reading asked, struct vx_cache_facts *ret) {
    struct vx_memory memory;
    *ret = (struct vx_cache_facts){.n_files = 3 * k->n_cases,
                                   .store_bytes = k->store_bytes,
                                   .dense_bytes = k->decoded_bytes,
                                   .resident_bytes = keeper_has_windows(k) ? keeper_window_bytes(k)
                                                                           : k->decoded_bytes,
                                   .windows = keeper_has_windows(k),
                                   .storage = k->storage.kind,
                                   .files_max = vx_budget_files()};
    if (!k->careful && vx_budget_memory("", &memory)) {
        ret->memory_available = memory.available_bytes;
        ret->memory_share = vx_budget_memory_share();
    }
    if (worth_staging(k, asked)) {
        look_at_stage(k, ret);
    }
}

static void say(const struct keeper *k, const struct vx_cache_facts *f) {
    vx_log_notice("keeper", "reading job=%lld asked=%s mode=%s reason=\"%s\"",
                  (long long)k->brief->job_id, vx_reading_word(k->asked), vx_reading_word(k->mode),
                  k->reason);
    vx_say(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "event", "cache", "asked",
                     vx_reading_word(k->asked), "mode", vx_reading_word(k->mode), "reason",
                     k->reason, "storage", vx_storage_word(k->storage.kind), "device",
                     k->storage.name, "store_bytes", (json_int_t)f->store_bytes, "decoded_bytes",
                     (json_int_t)f->dense_bytes, "memory_available_bytes",
                     (json_int_t)f->memory_available));
}

/* What an earlier keeper or mode left in memory. */
static void let_go_of_memory(struct keeper *k) {
    if (!k->held && vx_held_map(VX_FD_HELD, k->cache, &k->held, NULL) == VX_OK) {
        k->held = vx_held_close(k->held);
        vx_held_fill(VX_FD_HELD, k->cache, &k->held, NULL);
    }
    for (size_t i = 0; k->held && i < k->n_cases; i++) {
        if (vx_held_has(k->held, i)) {
            vx_held_drop(k->held, i);
        }
    }
    k->held = vx_held_close(k->held);
}

static void choose(struct keeper *k, const struct vx_cache_facts *f, const char *because) {
    struct vx_cache_choice choice;
    vx_cache_choose(k->asked, f, &choice);
    k->mode = choice.mode;
    snprintf(k->reason, sizeof k->reason, "%.60s%s", because, choice.reason);
}

int keeper_decide(struct keeper *k, enum vx_reading asked, struct vx_err *err) {
    struct vx_cache_facts facts;
    struct vx_err why = {0};
    k->asked = asked;
    k->served = true;
    gather(k, asked, &facts);
    choose(k, &facts, k->careful ? "what kept the data near before was killed; " : "");
    if (k->mode != VX_READ_MEMORY) {
        let_go_of_memory(k);
    } else if (!k->held && vx_held_fill(VX_FD_HELD, k->cache, &k->held, &why) != VX_OK) {
        vx_log_warn("keeper", "no_memory text=\"%s\"", why.text);
        facts.memory_share = 0;
        choose(k, &facts, "memory cannot be shared here; ");
    }
    if (k->mode != VX_READ_STAGE) {
        k->stage = vx_stage_close(k->stage);
    }
    if (k->mode == VX_READ_STAGE && !k->stage) {
        return vx_fail(err, VX_E_INTERNAL, NULL, "a stage was chosen that is not open");
    }
    k->finished = k->mode == VX_READ_OPEN || k->mode == VX_READ_KEEP;
    k->began_ns = vx_now_ns();
    k->record =
        (struct vx_keeper_record){.bytes_total = k->finished                 ? 0
                                                 : k->mode == VX_READ_MEMORY ? k->decoded_bytes
                                                                             : k->store_bytes,
                                  .cases_total = k->finished ? 0 : (uint32_t)k->n_cases,
                                  .mode = (uint32_t)k->mode,
                                  .state = k->finished ? VX_NEARING_NOTHING : VX_NEARING_WORKING};
    vx_timeline_set_keeper(&k->timeline, &k->record);
    say(k, &facts);
    return VX_OK;
}
