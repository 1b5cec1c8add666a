/* Windows as text: there and back, and what real runs measured (tests/tune/windows) judged again.
 */
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "tune/confusion.h"
#include "tune/record.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(tune_record, windows_survive_the_way_there_and_back) {
    for (int k = 0; k < n_drawn_kinds; k++) {
        struct vx_tune_window w, again;
        uint64_t seed = 700000;
        while (!draw_window(drawn_kinds[k], seed, &w)) {
            seed++;
        }
        w.host.foreign_pid = -1;
        snprintf(w.host.foreign_name, sizeof w.host.foreign_name, "\"a\" b");
        struct vx_err err = {0};
        vx_auto_json json_t *record = vx_tune_record(&w);
        vx_auto_free char *text = json_dumps(record, 0);
        vx_auto_json json_t *parsed = json_loads(text, 0, NULL);
        cr_assert_eq(vx_tune_replay(parsed, &again, &err), VX_OK, "%s", err.text);
        vx_auto_json json_t *second = vx_tune_record(&again);
        cr_expect(json_equal(record, second));
        cr_expect_eq(again.seconds, w.seconds);
        cr_expect_eq(again.host.foreign_pid, -1);
        cr_expect_str_eq(again.host.foreign_name, "\"a\" b");
        cr_expect_arr_eq(again.step.phase, w.step.phase, sizeof w.step.phase);
        cr_expect_eq(again.loader.bytes_read, w.loader.bytes_read);
        cr_expect_eq(again.event.period_phase, w.event.period_phase);
        struct vx_verdict v[VX_VERDICTS], v2[VX_VERDICTS];
        int n = vx_tune_judge(&w, v);
        cr_assert_eq(vx_tune_judge(&again, v2), n);
        for (int i = 0; i < n; i++) {
            cr_expect(v[i].code == v2[i].code && v[i].cost == v2[i].cost && v[i].to == v2[i].to);
        }
    }
}

Test(tune_record, what_is_no_window_is_refused_by_name) {
    struct vx_tune_window w = {.seconds = 10}, again;
    static const struct {
        const char *group, *key, *value;
    } bad[] = {{"step", "n", "-1"},
               {"step", "n", "4294967296"},
               {"step", "phase", "[1, 2]"},
               {"loader", "keep_files_open", "1"},
               {"host", "cores", "\"two\""},
               {"event", "lost_cause", "\"12345678901234567890123456\""},
               {"host", "foreign_pid", "3000000000"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct vx_err err = {0};
        vx_auto_json json_t *record = vx_tune_record(&w);
        json_object_set_new(json_object_get(record, bad[i].group), bad[i].key,
                            json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        cr_expect_eq(vx_tune_replay(record, &again, &err), VX_E_CORRUPT, "%s", bad[i].key);
        cr_expect(strstr(err.text, bad[i].key), "%s", err.text);
        json_object_del(json_object_get(record, bad[i].group), bad[i].key);
        cr_expect_eq(vx_tune_replay(record, &again, &err), VX_E_CORRUPT);
    }
}

/* --- recorded --- */

enum { MAX_SCENARIOS = 64, LEAST_WINDOWS = 20 };

struct scenario {
    char name[32], truth[32];
    int windows;
};

/* The table SCENARIOS of tests/scenarios/run, a line each: "NAME": ("VERDICT", function), */
static int scenarios(struct scenario ret[MAX_SCENARIOS]) {
    FILE *f = fopen(VX_SCENARIOS, "r");
    cr_assert_not_null(f, VX_SCENARIOS);
    char line[512];
    bool inside = false;
    int n = 0;
    while (fgets(line, sizeof line, f)) {
        if (!inside) {
            inside = strcmp(line, "SCENARIOS = {\n") == 0;
            continue;
        }
        if (line[0] == '}') {
            break;
        }
        cr_assert_lt(n, MAX_SCENARIOS);
        ret[n] = (struct scenario){.windows = 0};
        cr_assert_eq(sscanf(line, " \"%31[^\"]\": (\"%31[^\"]\",", ret[n].name, ret[n].truth), 2,
                     "%s", line);
        n++;
    }
    fclose(f);
    return n;
}

static enum vx_verdict_code code_of(const char *word) {
    for (int c = 0; c < VX_VERDICTS; c++) {
        if (strcmp(vx_verdict_word((enum vx_verdict_code)c), word) == 0) {
            return (enum vx_verdict_code)c;
        }
    }
    cr_assert_fail("no verdict is called %s", word);
    return VX_VERDICTS;
}

struct tally {
    int n[VX_VERDICTS], right[VX_VERDICTS];
    int severe_of_healthy;
};

/* A line: {"scenario", "truth", "record"}. */
static void judge_line(const char *line, const struct scenario *s, struct tally *t) {
    struct vx_err err = {0};
    vx_auto_json json_t *o = json_loads(line, 0, NULL);
    struct vx_tune_window w;
    cr_expect_str_eq(json_string_value(json_object_get(o, "scenario")), s->name);
    cr_expect_str_eq(json_string_value(json_object_get(o, "truth")), s->truth);
    cr_assert_eq(vx_tune_replay(json_object_get(o, "record"), &w, &err), VX_OK, "%s:%d: %s",
                 s->name, s->windows + 1, err.text);
    enum vx_verdict_code truth = code_of(s->truth);
    struct vx_verdict v[VX_VERDICTS];
    int n = vx_tune_judge(&w, v);
    bool right = n > 0 && v[0].code == truth;
    t->n[truth]++;
    t->right[truth] += right;
    t->severe_of_healthy +=
        truth == VX_VERDICT_GPU_BOUND && n > 0 && v[0].severity == VX_SEVERITY_SEVERE;
    if (!right) {
        fprintf(stderr, "%s:%d: %s is called %s\n", s->name, s->windows + 1, s->truth,
                n > 0 ? vx_verdict_word(v[0].code) : "nothing");
    }
}

static void judge_scenario(struct scenario *s, struct tally *t) {
    vx_auto_free char *path = vx_strf("%s/%s.jsonl", VX_WINDOWS, s->name);
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f, "%s was never recorded: tests/scenarios/run --record", path);
    vx_auto_free char *line = NULL;
    size_t size = 0;
    for (; getline(&line, &size, f) > 0; s->windows++) {
        judge_line(line, s, t);
    }
    fclose(f);
    cr_expect_geq(s->windows, LEAST_WINDOWS, "%d windows of %s", s->windows, s->name);
}

/* Nothing is left of scenarios that are no more. */
static int files_recorded(void) {
    int n = 0;
    DIR *dir = opendir(VX_WINDOWS);
    cr_assert_not_null(dir, VX_WINDOWS);
    for (struct dirent *e; (e = readdir(dir));) {
        n += strstr(e->d_name, ".jsonl") != NULL;
    }
    closedir(dir);
    return n;
}

Test(tune_record, recorded_runs_are_called_what_they_were) {
    static struct scenario s[MAX_SCENARIOS];
    struct tally t = {0};
    int all = 0, right = 0, n = scenarios(s);
    cr_assert_geq(n, 18, "only %d scenarios in %s", n, VX_SCENARIOS);
    cr_expect_eq(files_recorded(), n, "%d files of %d scenarios", files_recorded(), n);
    for (int i = 0; i < n; i++) {
        judge_scenario(&s[i], &t);
    }
    for (int c = 0; c < VX_VERDICTS; c++) {
        all += t.n[c];
        right += t.right[c];
        if (t.n[c]) {
            const char *word = vx_verdict_word((enum vx_verdict_code)c);
            fprintf(stderr, "%-22s %d of %d\n", word, t.right[c], t.n[c]);
            cr_expect_geq(t.right[c], 0.85 * t.n[c], "%s", word);
        }
    }
    cr_expect_geq(right, 0.95 * all, "%d of %d are right", right, all);
    cr_expect_eq(t.severe_of_healthy, 0);
}
