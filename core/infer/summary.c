#include "infer/summary.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/own.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* nnU-Net's names, in the order of its sorted keys. */
enum metric { DICE, FN, FP, IOU, TN, TP, N_PRED, N_REF, N_METRICS };
static const char *const metric_names[N_METRICS] = {"Dice", "FN", "FP",     "IoU",
                                                    "TN",   "TP", "n_pred", "n_ref"};

struct summary_case {
    char *prediction_file, *reference_file;
    struct vx_confusion *counts; /* n_classes */
};

struct vx_summary {
    size_t n_classes, n_cases;
    struct vx_metric_class *classes;
    char **keys;   /* "1", "(1, 2)" */
    size_t *order; /* classes by ascending key, as text */
    struct summary_case *cases;
};

struct vx_summary *vx_summary_free(struct vx_summary *s) {
    if (!s) {
        return NULL;
    }
    for (size_t i = 0; i < s->n_cases; i++) {
        free(s->cases[i].prediction_file);
        free(s->cases[i].reference_file);
        free(s->cases[i].counts);
    }
    for (size_t i = 0; s->keys && i < s->n_classes; i++) {
        free(s->keys[i]);
    }
    free(s->cases);
    free(s->keys);
    free(s->order);
    free(s->classes);
    free(s);
    return NULL;
}

static char *make_key(const struct vx_metric_class *c) {
    struct vx_buf b = VX_BUF_INIT;
    for (int i = 0; i < c->n; i++) {
        vx_buf_printf(&b, "%s%d", i ? ", " : c->n > 1 ? "(" : "", c->labels[i]);
    }
    vx_buf_puts(&b, c->n > 1 ? ")" : "");
    return vx_buf_take(&b, NULL);
}

struct vx_summary *vx_summary_create(const struct vx_metric_class *classes, size_t n) {
    if (n == 0 || n > VX_METRIC_MAX_CLASSES) {
        return NULL;
    }
    vx_auto_summary struct vx_summary *s = calloc(1, sizeof *s);
    if (!s) {
        return NULL;
    }
    s->n_classes = n;
    s->classes = malloc(n * sizeof *classes);
    s->keys = calloc(n, sizeof *s->keys);
    s->order = calloc(n, sizeof *s->order);
    if (!s->classes || !s->keys || !s->order) {
        return NULL;
    }
    memcpy(s->classes, classes, n * sizeof *classes);
    for (size_t i = 0; i < n; i++) {
        s->keys[i] = make_key(&classes[i]);
        if (!s->keys[i]) {
            return NULL;
        }
        size_t at = i;
        for (; at > 0 && strcmp(s->keys[s->order[at - 1]], s->keys[i]) > 0; at--) {
            s->order[at] = s->order[at - 1];
        }
        s->order[at] = i;
    }
    return vx_steal(s);
}

int vx_summary_add(struct vx_summary *s, const char *prediction_file, const char *reference_file,
                   const struct vx_confusion *counts, struct vx_err *err) {
    struct summary_case c = {strdup(prediction_file), strdup(reference_file),
                             malloc(s->n_classes * sizeof *counts)};
    void *grown = realloc(s->cases, (s->n_cases + 1) * sizeof *s->cases);
    s->cases = grown ? grown : s->cases;
    if (!grown || !c.prediction_file || !c.reference_file || !c.counts) {
        free(c.prediction_file);
        free(c.reference_file);
        free(c.counts);
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the summary");
    }
    memcpy(c.counts, counts, s->n_classes * sizeof *counts);
    s->cases[s->n_cases++] = c;
    return VX_OK;
}

size_t vx_summary_n_cases(const struct vx_summary *s) {
    return s->n_cases;
}

static double metric_of(const struct vx_confusion *c, enum metric m) {
    switch (m) {
    case DICE:
        return vx_metrics_dice(c);
    case IOU:
        return vx_metrics_iou(c);
    case FN:
        return (double)c->fn;
    case FP:
        return (double)c->fp;
    case TN:
        return (double)c->tn;
    case TP:
        return (double)c->tp;
    case N_PRED:
        return (double)(c->tp + c->fp);
    default:
        return (double)(c->tp + c->fn);
    }
}

/* Mean over the cases where the metric is a number. */
static double class_mean(const struct vx_summary *s, size_t k, enum metric m) {
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < s->n_cases; i++) {
        double v = metric_of(&s->cases[i].counts[k], m);
        if (!isnan(v)) {
            sum += v;
            n++;
        }
    }
    return n ? sum / (double)n : NAN;
}

static bool is_background(const struct vx_metric_class *c) {
    return c->n == 1 && c->labels[0] == 0;
}

static double foreground_mean(const struct vx_summary *s, enum metric m) {
    double sum = 0;
    size_t n = 0;
    for (size_t k = 0; k < s->n_classes; k++) {
        if (!is_background(&s->classes[k])) {
            sum += class_mean(s, k, m);
            n++;
        }
    }
    return n ? sum / (double)n : NAN;
}

double vx_summary_dice(const struct vx_summary *s, size_t k) {
    return class_mean(s, k, DICE);
}

double vx_summary_foreground_dice(const struct vx_summary *s) {
    return foreground_mean(s, DICE);
}

static json_t *number(double v) {
    return isnan(v) ? json_null() : json_real(v);
}

/* Counts of one case stay integers, as nnU-Net writes them. */
static json_t *case_metrics(const struct vx_confusion *c) {
    json_t *o = json_object();
    for (int m = 0; m < N_METRICS; m++) {
        double v = metric_of(c, (enum metric)m);
        bool ratio = m == DICE || m == IOU;
        json_object_set_new(o, metric_names[m], ratio ? number(v) : json_integer((json_int_t)v));
    }
    return o;
}

static json_t *mean_metrics(const struct vx_summary *s, bool foreground, size_t k) {
    json_t *o = json_object();
    for (int m = 0; m < N_METRICS; m++) {
        double v =
            foreground ? foreground_mean(s, (enum metric)m) : class_mean(s, k, (enum metric)m);
        json_object_set_new(o, metric_names[m], number(v));
    }
    return o;
}

static json_t *case_json(const struct vx_summary *s, const struct summary_case *c) {
    json_t *metrics = json_object();
    for (size_t i = 0; i < s->n_classes; i++) {
        size_t k = s->order[i];
        json_object_set_new(metrics, s->keys[k], case_metrics(&c->counts[k]));
    }
    return json_pack("{s:o,s:s,s:s}", "metrics", metrics, "prediction_file", c->prediction_file,
                     "reference_file", c->reference_file);
}

int vx_summary_write(const struct vx_summary *s, const char *path, struct vx_err *err) {
    json_t *mean = json_object(), *cases = json_array();
    for (size_t i = 0; i < s->n_classes; i++) {
        size_t k = s->order[i];
        json_object_set_new(mean, s->keys[k], mean_metrics(s, false, k));
    }
    for (size_t i = 0; i < s->n_cases; i++) {
        json_array_append_new(cases, case_json(s, &s->cases[i]));
    }
    vx_auto_json json_t *doc =
        json_pack("{s:o,s:o,s:o}", "foreground_mean", mean_metrics(s, true, 0), "mean", mean,
                  "metric_per_case", cases);
    if (!doc || json_array_size(json_object_get(doc, "metric_per_case")) != s->n_cases) {
        return vx_fail(err, VX_E_NOMEM, NULL, "no memory for the summary");
    }
    return vx_json_write_file(path, doc, err);
}
