/* See measure.h. */
#include "tune/measure.h"

#include "tune/window.h"

#include <math.h>
#include <string.h>

enum { MANY_STEPS = 20, FEW_STEPS = 8 };
#define MANY_SECONDS 3.0
#define FEW_SECONDS  9.0
/* From so many windows on their means tell how much steps depend on each other. */
enum { WINDOWS_TELL = 4 };

bool vx_measure_enough(const struct vx_tune_window *w) {
    return (w->step.n >= MANY_STEPS && w->seconds >= MANY_SECONDS) ||
           (w->step.n >= FEW_STEPS && w->seconds >= FEW_SECONDS);
}

void vx_measure_take(struct vx_measure *m, double now, const struct vx_tune_window *w) {
    if (m->n > 0 && now - w->seconds < m->until - 1e-6) {
        return;
    }
    if (vx_measure_full(m)) {
        m->n--;
        memmove(m->window, m->window + 1, (size_t)m->n * sizeof *m->window);
    }
    m->window[m->n].n = w->step.n;
    m->window[m->n].wall = w->step.wall;
    m->window[m->n].deviation = w->step.deviation;
    m->n++;
    m->until = now;
}

bool vx_measure_full(const struct vx_measure *m) {
    return m->n == VX_MEASURE_WINDOWS;
}

/* Of few windows the steps' own deviation must do, and a factor 2 stands for steps that depend on
 * each other. Of more their means tell, and 1.5 stands for how few they still are. */
double vx_measure_step(const struct vx_measure *m, double *ret_error) {
    double n = 0, wall = 0, inside = 0, between = 0;
    for (int i = 0; i < m->n; i++) {
        n += m->window[i].n;
        wall += m->window[i].wall;
        inside += m->window[i].n * m->window[i].deviation * m->window[i].deviation;
    }
    double mean = wall / n, alone = sqrt(inside) / n;
    for (int i = 0; i < m->n; i++) {
        double off = m->window[i].wall / m->window[i].n - mean;
        between += m->window[i].n * off * off;
    }
    *ret_error =
        m->n < WINDOWS_TELL ? 2 * alone : fmax(1.5 * sqrt(between / (m->n - 1) / n), alone / 2);
    return mean;
}
