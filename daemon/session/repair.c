/* Damaged cases of the prepared store: each is made again by a `voxeld prepare --repair` child, one
 * at a time, while the pool goes on. Workers that met the damage wait for the answer with their
 * sample in hand and read once more: the bytes are the same as before, so nothing of the training
 * changes. Where the repair fails they end with their error, and the pool decides. */
#include "daemon/session/internal.h"

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/session/brief.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A case that is damaged again and again lies on a disk that nobody should train from. */
#define MAX_TIMES 3

static const char *case_name(const struct session *s, uint32_t case_index) {
    const json_t *cases = json_object_get(s->o->brief->recipe, "cases");
    const char *name = json_string_value(json_array_get(cases, case_index));
    return name ? name : "?";
}

static void answer(struct session *s, uint64_t asked) {
    for (uint32_t w = 0; w < VX_WORKERS_MAX; w++) {
        if (asked >> w & 1) {
            vx_control_answer(&s->control, w);
        }
    }
}

/* How often the case was made again, counting now as one more; UINT32_MAX: not countable. */
static uint32_t count(struct repairs *r, uint32_t case_index) {
    for (size_t i = 0; i < r->n_mended; i++) {
        if (r->mended[i].case_index == case_index) {
            return ++r->mended[i].times;
        }
    }
    struct repair_count *more = realloc(r->mended, (r->n_mended + 1) * sizeof *more);
    if (!more) {
        return UINT32_MAX;
    }
    r->mended = more;
    r->mended[r->n_mended++] = (struct repair_count){case_index, 1};
    return 1;
}

static void tell(struct session *s, uint32_t case_index, bool made, const struct vx_err *err) {
    const char *name = case_name(s, case_index);
    vx_auto_json json_t *line =
        err ? json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "event", "repair", "case", name, "made",
                        false, "code", err->reason, "message", err->text, "where", err->where)
            : json_pack("{s:s, s:s, s:b}", "event", "repair", "case", name, "made", (int)made);
    vx_log_warn("session", "case_repair case=\"%s\" made=%d text=\"%s\"", name, made,
                err ? err->text : "");
    if (line && s->o->events.line) {
        s->o->events.line(s->o->events.ctx, line);
    }
}

/* --- the child --- */

/* The data set's folder in the preprocessed root: the store is DIR/voxeld/KEY. */
static char *dataset_dir(const char *store_dir) {
    char *dir = strdup(store_dir);
    for (int up = 0; dir && up < 2; up++) {
        char *slash = strrchr(dir, '/');
        if (slash) {
            *slash = '\0';
        }
    }
    return dir;
}

static int spawn(struct session *s, uint32_t case_index, struct vx_err *err) {
    const struct vx_brief *b = s->o->brief;
    char verb[] = "prepare", raw[] = "--raw", out[] = "--out", plans[] = "--plans",
         configuration[] = "--configuration", repair[] = "--repair";
    vx_auto_free char *dir = dataset_dir(b->cache_dir);
    vx_auto_free char *plans_path = vx_strf("%s/plans.json", b->dir);
    vx_auto_free char *name = strdup(case_name(s, case_index));
    if (!dir || !plans_path || !name) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting a repair");
    }
    char *args[] = {verb,       raw,           b->raw_dir,       out,    dir,  plans,
                    plans_path, configuration, b->configuration, repair, name, NULL};
    static const char *const env[] = {"OMP_WAIT_POLICY=passive", "OMP_NUM_THREADS=1", NULL};
    struct vx_proc_options options = {
        .args = args,
        .env = env,
        .fds = {s->control.shm.fd, s->timeline.shm.fd, s->ring.shm.fd},
        .death_signal = SIGKILL,
        .nice = b->nice,
        .oom_score_adj = 500};
    return vx_proc_spawn(&s->repairs.proc, &options, err);
}

/* ctx: struct repairs */
static void on_line(void *ctx, const char *text, size_t len) {
    struct repairs *r = ctx;
    vx_auto_json json_t *line = NULL;
    const char *event = NULL, *code = "", *message = "", *where = "";
    if (vx_json_parse(text, len, 1 << 20, 16, &line, NULL) != VX_OK) {
        return;
    }
    if (json_unpack(line, "{s:s}", "event", &event) == 0 && strcmp(event, "repaired") == 0) {
        r->made = json_is_true(json_object_get(line, "made"));
    } else if (json_unpack(line, "{s:{s:s, s:s, s?s}}", "error", "code", &code, "message", &message,
                           "where", &where) == 0) {
        vx_fail(&r->error, VX_E_STATE, code, "%s", message);
        vx_err_at(&r->error, "%s", where);
    }
}

static void ended(struct session *s, const struct vx_proc_end *end) {
    struct repairs *r = &s->repairs;
    if (end->exit_status != 0 && r->error.code == 0) {
        vx_fail(&r->error, VX_E_INTERNAL, "repair_lost",
                "the process that made case %s again ended (exit status %d, signal %d): %s",
                case_name(s, r->running), end->exit_status, end->signal,
                vx_proc_last_words(&r->proc));
    }
    tell(s, r->running, r->made, end->exit_status == 0 ? NULL : &r->error);
    answer(s, r->running_asked);
    r->running_asked = 0;
}

static void start_next(struct session *s) {
    struct repairs *r = &s->repairs;
    struct repair_request next = r->waiting[0];
    r->n_waiting--;
    memmove(r->waiting, r->waiting + 1, r->n_waiting * sizeof *r->waiting);
    r->running = next.case_index;
    r->running_asked = next.asked;
    r->made = false;
    r->error = (struct vx_err){0};
    int rc = VX_OK;
    if (count(r, next.case_index) > MAX_TIMES) {
        rc = vx_fail(&r->error, VX_E_STATE, "damaged_again",
                     "case %s was damaged %d times in this session: its disk cannot be trusted",
                     case_name(s, next.case_index), MAX_TIMES + 1);
    }
    rc = rc == VX_OK ? spawn(s, next.case_index, &r->error) : rc;
    if (rc != VX_OK) {
        tell(s, next.case_index, false, &r->error);
        answer(s, next.asked);
        r->running_asked = 0;
    }
}

/* --- called by the pool and the loop --- */

void repair_line(struct pool_entry *e, const json_t *line) {
    struct session *s = e->session;
    struct repairs *r = &s->repairs;
    const char *event = json_string_value(json_object_get(line, "event"));
    json_int_t i = json_integer_value(json_object_get(line, "case_index"));
    if (!event || strcmp(event, "damaged") != 0 || i < 0 || i > UINT32_MAX) {
        return;
    }
    uint64_t bit = (uint64_t)1 << (e - s->pool);
    vx_log_warn("session", "case_damaged worker=%d case=\"%s\" text=\"%s\"", (int)(e - s->pool),
                case_name(s, (uint32_t)i),
                json_string_value(json_object_get(line, "message"))
                    ? json_string_value(json_object_get(line, "message"))
                    : "");
    if (vx_proc_running(&r->proc) && r->running == (uint32_t)i) {
        r->running_asked |= bit;
        return;
    }
    size_t at = 0;
    while (at < r->n_waiting && r->waiting[at].case_index != (uint32_t)i) {
        at++;
    }
    if (at == r->n_waiting && at < VX_WORKERS_MAX) {
        r->waiting[r->n_waiting++] = (struct repair_request){(uint32_t)i, 0};
    }
    r->waiting[at].asked |= bit;
}

void repair_forget(struct session *s, uint32_t w) {
    struct repairs *r = &s->repairs;
    uint64_t bit = (uint64_t)1 << w;
    size_t kept = 0;
    r->running_asked &= ~bit;
    for (size_t i = 0; i < r->n_waiting; i++) {
        r->waiting[i].asked &= ~bit;
        if (r->waiting[i].asked) { /* who meets the case next asks again */
            r->waiting[kept++] = r->waiting[i];
        }
    }
    r->n_waiting = kept;
}

void repair_duties(struct session *s) {
    struct repairs *r = &s->repairs;
    struct vx_proc_end end;
    if (vx_proc_running(&r->proc)) {
        vx_proc_read(&r->proc, on_line, r);
        if (vx_proc_reap(&r->proc, on_line, r, &end)) {
            ended(s, &end);
        }
    }
    while (!s->ended && !vx_proc_running(&r->proc) && r->n_waiting > 0) {
        start_next(s);
    }
}

void repair_stop(struct session *s) {
    vx_proc_release(&s->repairs.proc);
    free(s->repairs.mended);
    s->repairs.mended = NULL;
    s->repairs.n_mended = s->repairs.n_waiting = 0;
}
