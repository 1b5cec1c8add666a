/* A small RGB picture with lines, boxes and text, written as PNG: what progress.png needs and
 * nothing more. Coordinates: pixels, (0, 0) top left; everything is clipped to the picture. Thread:
 * one at a time. */
#ifndef VX_DAEMON_RESULTS_CANVAS_H
#define VX_DAEMON_RESULTS_CANVAS_H

#include <stdint.h>

struct vx_err;

struct vx_canvas {
    int width, height;
    uint8_t *rgb; /* [height][width][3], owned */
};

struct vx_color {
    uint8_t r, g, b;
};

/* White. */
int vx_canvas_init(struct vx_canvas *c, int width, int height, struct vx_err *err);
void vx_canvas_release(struct vx_canvas *c);
/* Two pixels thick. */
void vx_canvas_line(struct vx_canvas *c, double x0, double y0, double x1, double y1,
                    struct vx_color color);
void vx_canvas_box(struct vx_canvas *c, int x0, int y0, int x1, int y1, struct vx_color color);
/* Glyphs of 3x5 cells, `scale` pixels each; digits, letters (one case), and . , - + : / % ( ) are
 * drawn, anything else is a gap. Returns the width of the text. */
int vx_canvas_text(struct vx_canvas *c, int x, int y, int scale, const char *text,
                   struct vx_color color);
/* Atomic: temporary name, fsync, rename. */
int vx_canvas_write_png(const struct vx_canvas *c, const char *path, struct vx_err *err);

#endif
