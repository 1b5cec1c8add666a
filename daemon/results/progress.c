/* Three panels, one above the other: loss (left axis) with Dice (right axis), epoch seconds,
 * learning rate. */
#include "daemon/results/progress.h"

#include "base/err.h"
#include "daemon/results/canvas.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

enum { WIDTH = 1200, PANEL = 400, LEFT = 90, RIGHT = 90, TOP = 40, BOTTOM = 40, TEXT = 3 };

static const struct vx_color black = {40, 40, 40}, grid = {225, 225, 225};

struct range {
    double lo, hi;
};

struct curve {
    const char *name;
    size_t offset; /* of the figure in struct vx_progress_point */
    struct vx_color color;
    bool right; /* uses the right axis */
};

struct panel {
    struct vx_canvas *canvas;
    int y0, y1; /* of the plot area */
    const struct vx_progress_point *points;
    size_t n;
    struct range x, left, right;
};

static double figure(const struct vx_progress_point *p, size_t offset) {
    return *(const double *)((const char *)p + offset);
}

static void widen(struct range *r, double v) {
    if (isfinite(v)) {
        r->lo = fmin(r->lo, v);
        r->hi = fmax(r->hi, v);
    }
}

/* An empty or flat range gets some height, so that nothing divides by zero. */
static void settle(struct range *r) {
    if (r->lo > r->hi) {
        *r = (struct range){0, 1};
    }
    if (r->hi - r->lo < 1e-12) {
        double pad = fmax(fabs(r->hi) * 0.05, 1e-6);
        r->lo -= pad;
        r->hi += pad;
    }
}

static double place(struct range r, double v, double from, double to) {
    return from + (v - r.lo) / (r.hi - r.lo) * (to - from);
}

static void draw_axes(struct panel *p, bool right_axis) {
    struct vx_canvas *c = p->canvas;
    for (int i = 0; i <= 4; i++) {
        char label[32];
        int y = p->y1 - (p->y1 - p->y0) * i / 4;
        vx_canvas_box(c, LEFT, y, WIDTH - RIGHT, y + 1, grid);
        snprintf(label, sizeof label, "%.3g", p->left.lo + (p->left.hi - p->left.lo) * i / 4);
        vx_canvas_text(c, 6, y - 7, 2, label, black);
        if (right_axis) {
            snprintf(label, sizeof label, "%.3g",
                     p->right.lo + (p->right.hi - p->right.lo) * i / 4);
            vx_canvas_text(c, WIDTH - RIGHT + 8, y - 7, 2, label, black);
        }
        int x = LEFT + (WIDTH - RIGHT - LEFT) * i / 4;
        snprintf(label, sizeof label, "%.0f", p->x.lo + (p->x.hi - p->x.lo) * i / 4);
        vx_canvas_text(c, x - 8, p->y1 + 8, 2, label, black);
    }
    vx_canvas_box(c, LEFT, p->y0, LEFT + 2, p->y1, black);
    vx_canvas_box(c, LEFT, p->y1, WIDTH - RIGHT, p->y1 + 2, black);
}

static void draw_curve(struct panel *p, const struct curve *curve) {
    struct range r = curve->right ? p->right : p->left;
    double last_x = 0, last_y = 0;
    bool have = false;
    for (size_t i = 0; i < p->n; i++) {
        double v = figure(&p->points[i], curve->offset);
        if (!isfinite(v)) {
            have = false;
            continue;
        }
        double x = place(p->x, p->points[i].epoch, LEFT, WIDTH - RIGHT),
               y = place(r, v, p->y1, p->y0);
        vx_canvas_line(p->canvas, have ? last_x : x, have ? last_y : y, x, y, curve->color);
        last_x = x;
        last_y = y;
        have = true;
    }
}

static void draw_panel(struct vx_canvas *c, int index, const struct curve *curves, size_t n_curves,
                       const struct vx_progress_point *points, size_t n) {
    struct panel p = {.canvas = c,
                      .y0 = index * PANEL + TOP,
                      .y1 = (index + 1) * PANEL - BOTTOM,
                      .points = points,
                      .n = n,
                      .x = {INFINITY, -INFINITY},
                      .left = {INFINITY, -INFINITY},
                      .right = {INFINITY, -INFINITY}};
    bool right_axis = false;
    for (size_t k = 0; k < n_curves; k++) {
        right_axis |= curves[k].right;
        for (size_t i = 0; i < n; i++) {
            widen(curves[k].right ? &p.right : &p.left, figure(&points[i], curves[k].offset));
        }
    }
    for (size_t i = 0; i < n; i++) {
        widen(&p.x, points[i].epoch);
    }
    settle(&p.x);
    settle(&p.left);
    settle(&p.right);
    draw_axes(&p, right_axis);
    int x = LEFT + 20;
    for (size_t k = 0; k < n_curves; k++) {
        draw_curve(&p, &curves[k]);
        vx_canvas_box(c, x, p.y0 - 22, x + 24, p.y0 - 16, curves[k].color);
        x += 32;
        x += vx_canvas_text(c, x, p.y0 - 28, TEXT, curves[k].name, black) + 24;
    }
}

#define AT(field) offsetof(struct vx_progress_point, field)

int vx_progress_write(const char *path, const struct vx_progress_point *points, size_t n,
                      struct vx_err *err) {
    static const struct curve loss[] = {
        {"train loss", AT(train_loss), {31, 90, 200}, false},
        {"val loss", AT(val_loss), {210, 50, 40}, false},
        {"pseudo dice", AT(dice), {150, 200, 150}, true},
        {"pseudo dice (ema)", AT(ema), {30, 140, 60}, true},
    };
    static const struct curve seconds[] = {{"epoch seconds", AT(seconds), {31, 90, 200}, false}};
    static const struct curve lr[] = {{"learning rate", AT(lr), {210, 50, 40}, false}};
    struct vx_canvas c = {0};
    int rc = vx_canvas_init(&c, WIDTH, 3 * PANEL, err);
    if (rc != VX_OK) {
        return rc;
    }
    draw_panel(&c, 0, loss, sizeof loss / sizeof loss[0], points, n);
    draw_panel(&c, 1, seconds, 1, points, n);
    draw_panel(&c, 2, lr, 1, points, n);
    rc = vx_canvas_write_png(&c, path, err);
    vx_canvas_release(&c);
    return rc;
}
