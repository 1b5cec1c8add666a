/* The session's keeper: the one process that warms, stages or holds the prepared store (`voxeld
 * keeper`). It decides, and says what it decided in a line {"event":"cache"}; here that becomes the
 * knob that the workers follow. The training does not depend on it: a keeper that dies comes back,
 * careful about memory where it was killed, and after too many deaths files are read as they lie.
 */
#include "daemon/session/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "cache/held.h"
#include "cache/policy.h"
#include "daemon/session/brief.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIRST_PAUSE_NS 1000000000ull
#define MAX_DEATHS     4

static bool from_files(uint32_t mode) {
    return mode == VX_CACHE_OPEN || mode == VX_CACHE_KEEP;
}

static void give_up(struct nearing *n, const char *why) {
    n->given_up = true;
    n->answered = VX_CACHE_MODES;
    snprintf(n->why, sizeof n->why, "%s", why);
}

int nearing_start(struct session *s, struct vx_err *err) {
    const json_t *bench = s->o->brief->bench;
    if (bench && !json_is_true(json_object_get(bench, "nearer"))) {
        give_up(&s->nearing, "this run of a benchmark reads the files of the store");
    }
    return vx_held_create(&s->nearing.held_fd, err);
}

bool nearing_decides(const struct session *s) {
    const struct nearing *n = &s->nearing;
    return !from_files(s->knobs.cache_mode) && n->answered != s->knobs.cache_mode;
}

void nearing_wish(struct session *s) {
    struct vx_knobs *k = &s->knobs;
    if (k->cache_mode >= VX_CACHE_MODES) {
        k->cache_mode = VX_CACHE_AUTO; /* of a newer version */
    }
    if (from_files(k->cache_mode)) {
        k->reading = k->cache_mode;
    } else if (k->reading == VX_CACHE_AUTO) {
        k->reading = VX_CACHE_KEEP; /* until the keeper has decided */
    }
}

static void read_from(struct session *s, uint32_t mode) {
    s->knobs.reading = mode;
    vx_control_set_knobs(&s->control, &s->knobs);
    vx_ring_kick(&s->ring);
    knobs_tell(s);
}

/* --- its lines --- */

/* ctx: struct session */
static void on_line(void *ctx, const char *text, size_t len) {
    struct session *s = ctx;
    vx_auto_json json_t *line = NULL;
    if (vx_json_parse(text, len, 1 << 20, 16, &line, NULL) != VX_OK || !json_is_object(line)) {
        return;
    }
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *asked = json_string_value(json_object_get(line, "asked"));
    const char *mode = json_string_value(json_object_get(line, "mode"));
    const char *code = "", *message = "";
    if (json_unpack(line, "{s:{s:s, s:s}}", "error", "code", &code, "message", &message) == 0) {
        vx_fail(&s->nearing.error, VX_E_STATE, code, "%s", message);
        return;
    }
    if (event && strcmp(event, "cache") == 0 && asked && mode) {
        int wanted = vx_reading_of_word(asked), now = vx_reading_of_word(mode);
        s->nearing.deaths = 0;
        s->nearing.answered = wanted > 0 ? (uint32_t)wanted : VX_CACHE_AUTO;
        /* an answer to a wish that is no longer */
        if (now > 0 && wanted == (int)s->knobs.cache_mode) {
            read_from(s, (uint32_t)now);
        }
    }
    if (event && s->o->events.line) {
        s->o->events.line(s->o->events.ctx, line);
    }
}

/* --- its life --- */

static int spawn(struct session *s, struct vx_err *err) {
    char verb[] = "keeper", brief[] = "--brief", careful[] = "--careful";
    vx_auto_free char *path = strdup(s->o->brief_path);
    if (!path) {
        return vx_fail(err, VX_E_NOMEM, NULL, "starting the keeper");
    }
    char *args[] = {verb, brief, path, s->nearing.careful ? careful : NULL, NULL};
    static const char *const env[] = {"OMP_WAIT_POLICY=passive", "OMP_NUM_THREADS=1", NULL};
    struct vx_proc_options options = {
        .args = args,
        .env = env,
        .fds = {s->control.shm.fd, s->timeline.shm.fd, s->ring.shm.fd, s->nearing.held_fd},
        .death_signal = SIGKILL,
        .nice = 19,
        .oom_score_adj = 900};
    s->nearing.error = (struct vx_err){0};
    s->nearing.began = true;
    return vx_proc_spawn(&s->nearing.proc, &options, err);
}

/* Nobody brings anything nearer: files are read, and who wishes otherwise is told why. */
static void answer_without(struct session *s) {
    uint32_t asked = s->knobs.cache_mode;
    s->nearing.answered = asked;
    read_from(s, VX_CACHE_KEEP);
    vx_log_notice("session", "no_keeper job=%lld asked=%s text=\"%s\"",
                  (long long)s->o->brief->job_id, vx_reading_word((enum vx_reading)asked),
                  s->nearing.why);
    vx_auto_json json_t *line =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "event", "cache", "asked",
                  vx_reading_word((enum vx_reading)asked), "mode", vx_reading_word(VX_READ_KEEP),
                  "state", "stopped", "reason", s->nearing.why);
    if (line && s->o->events.line) {
        s->o->events.line(s->o->events.ctx, line);
    }
}

static void on_death(struct session *s, const struct vx_proc_end *end) {
    struct nearing *n = &s->nearing;
    const char *said = n->error.code ? n->error.text : vx_proc_last_words(&n->proc);
    char why[512];
    n->deaths++;
    n->careful |= end->signal != 0;
    n->restart_at_ns = vx_now_ns() + (FIRST_PAUSE_NS << n->deaths);
    vx_log_warn("session", "keeper_lost exit_status=%d signal=%d in_row=%u said=\"%s\"",
                end->exit_status, end->signal, n->deaths, said);
    if (n->deaths >= MAX_DEATHS) {
        snprintf(why, sizeof why,
                 "what keeps the data near ended %u times (exit status %d, signal %d): %.300s",
                 n->deaths, end->exit_status, end->signal, said);
        vx_log_warn("session", "keeper_given_up text=\"%s\"", why);
        give_up(n, why);
    }
}

void nearing_duties(struct session *s) {
    struct nearing *n = &s->nearing;
    struct vx_proc_end end;
    struct vx_err err = {0};
    if (vx_proc_running(&n->proc)) {
        vx_proc_read(&n->proc, on_line, s);
        if (vx_proc_reap(&n->proc, on_line, s, &end)) {
            on_death(s, &end);
        }
        return;
    }
    bool wanted = n->began || !from_files(s->knobs.cache_mode);
    if (s->ended || !wanted || (!n->given_up && vx_now_ns() < n->restart_at_ns)) {
        return;
    }
    if (!n->given_up && spawn(s, &err) != VX_OK) {
        give_up(n, err.text);
    }
    if (n->given_up && nearing_decides(s)) {
        answer_without(s);
    }
}

void nearing_stop(struct session *s) {
    vx_proc_release(&s->nearing.proc);
    if (s->nearing.held_fd > 0) {
        close(s->nearing.held_fd);
    }
    s->nearing.held_fd = 0;
}
