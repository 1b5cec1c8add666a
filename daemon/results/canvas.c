/* See canvas.h. libpng appears in this file only. */
#include "daemon/results/canvas.h"

#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <png.h>

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

/* Rows from the top, three bits each, left pixel in the highest bit. */
#define G(a, b, c, d, e) ((a) << 12 | (b) << 9 | (c) << 6 | (d) << 3 | (e))
static const struct {
    char ch;
    uint16_t bits;
} glyphs[] = {
    {'0', G(7, 5, 5, 5, 7)}, {'1', G(2, 6, 2, 2, 7)}, {'2', G(7, 1, 7, 4, 7)},
    {'3', G(7, 1, 7, 1, 7)}, {'4', G(5, 5, 7, 1, 1)}, {'5', G(7, 4, 7, 1, 7)},
    {'6', G(7, 4, 7, 5, 7)}, {'7', G(7, 1, 2, 2, 2)}, {'8', G(7, 5, 7, 5, 7)},
    {'9', G(7, 5, 7, 1, 7)}, {'a', G(2, 5, 7, 5, 5)}, {'b', G(6, 5, 6, 5, 6)},
    {'c', G(3, 4, 4, 4, 3)}, {'d', G(6, 5, 5, 5, 6)}, {'e', G(7, 4, 6, 4, 7)},
    {'f', G(7, 4, 6, 4, 4)}, {'g', G(3, 4, 5, 5, 3)}, {'h', G(5, 5, 7, 5, 5)},
    {'i', G(7, 2, 2, 2, 7)}, {'j', G(1, 1, 1, 5, 2)}, {'k', G(5, 5, 6, 5, 5)},
    {'l', G(4, 4, 4, 4, 7)}, {'m', G(5, 7, 7, 5, 5)}, {'n', G(6, 5, 5, 5, 5)},
    {'o', G(2, 5, 5, 5, 2)}, {'p', G(6, 5, 6, 4, 4)}, {'q', G(2, 5, 5, 6, 3)},
    {'r', G(6, 5, 6, 5, 5)}, {'s', G(3, 4, 2, 1, 6)}, {'t', G(7, 2, 2, 2, 2)},
    {'u', G(5, 5, 5, 5, 7)}, {'v', G(5, 5, 5, 5, 2)}, {'w', G(5, 5, 7, 7, 5)},
    {'x', G(5, 5, 2, 5, 5)}, {'y', G(5, 5, 2, 2, 2)}, {'z', G(7, 1, 2, 4, 7)},
    {'.', G(0, 0, 0, 0, 2)}, {',', G(0, 0, 0, 2, 4)}, {'-', G(0, 0, 7, 0, 0)},
    {'+', G(0, 2, 7, 2, 0)}, {':', G(0, 2, 0, 2, 0)}, {'/', G(1, 1, 2, 4, 4)},
    {'%', G(5, 1, 2, 4, 5)}, {'(', G(1, 2, 2, 2, 1)}, {')', G(4, 2, 2, 2, 4)},
};

int vx_canvas_init(struct vx_canvas *c, int width, int height, struct vx_err *err) {
    size_t bytes = (size_t)width * (size_t)height * 3;
    c->rgb = malloc(bytes);
    if (!c->rgb) {
        return vx_fail(err, VX_E_NOMEM, NULL, "picture of %d x %d", width, height);
    }
    memset(c->rgb, 255, bytes);
    c->width = width;
    c->height = height;
    return VX_OK;
}

void vx_canvas_release(struct vx_canvas *c) {
    free(c->rgb);
    c->rgb = NULL;
}

static void put(struct vx_canvas *c, int x, int y, struct vx_color color) {
    if (x >= 0 && y >= 0 && x < c->width && y < c->height) {
        uint8_t *p = c->rgb + 3 * ((size_t)y * (size_t)c->width + (size_t)x);
        p[0] = color.r;
        p[1] = color.g;
        p[2] = color.b;
    }
}

void vx_canvas_box(struct vx_canvas *c, int x0, int y0, int x1, int y1, struct vx_color color) {
    for (int y = y0; y < y1; y++) {
        for (int x = x0; x < x1; x++) {
            put(c, x, y, color);
        }
    }
}

void vx_canvas_line(struct vx_canvas *c, double x0, double y0, double x1, double y1,
                    struct vx_color color) {
    double dx = x1 - x0, dy = y1 - y0;
    int steps = (int)fmax(fabs(dx), fabs(dy)) + 1;
    for (int i = 0; i <= steps; i++) {
        int x = (int)lround(x0 + dx * i / steps), y = (int)lround(y0 + dy * i / steps);
        vx_canvas_box(c, x, y, x + 2, y + 2, color);
    }
}

int vx_canvas_text(struct vx_canvas *c, int x, int y, int scale, const char *text,
                   struct vx_color color) {
    int start = x;
    for (; *text; text++, x += 4 * scale) {
        char ch = (char)tolower((unsigned char)*text);
        for (size_t g = 0; g < VX_COUNTOF(glyphs); g++) {
            for (int bit = 0; glyphs[g].ch == ch && bit < 15; bit++) {
                if (glyphs[g].bits >> (14 - bit) & 1) {
                    int px = x + bit % 3 * scale, py = y + bit / 3 * scale;
                    vx_canvas_box(c, px, py, px + scale, py + scale, color);
                }
            }
        }
    }
    return x - start;
}

int vx_canvas_write_png(const struct vx_canvas *c, const char *path, struct vx_err *err) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)c->width,
                       .height = (png_uint_32)c->height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = 0;
    if (!png_image_write_to_memory(&image, NULL, &size, 0, c->rgb, 0, NULL)) {
        return vx_fail(err, VX_E_INTERNAL, NULL, "%s: %s", path, image.message);
    }
    vx_auto_free void *data = malloc(size);
    if (!data) {
        return vx_fail(err, VX_E_NOMEM, NULL, "%s", path);
    }
    if (!png_image_write_to_memory(&image, data, &size, 0, c->rgb, 0, NULL)) {
        return vx_fail(err, VX_E_INTERNAL, NULL, "%s: %s", path, image.message);
    }
    return vx_write_file_atomic(path, data, size, 0644, err);
}
