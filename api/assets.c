/* The assembler puts the files in as they are (.incbin); CMakeLists.txt gives the paths and
 * rebuilds on change. */
#include "api/assets.h"
#include "base/hash.h"

#include <stdio.h>
#include <string.h>

#define EMBED(symbol, path)                                                                        \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 16\n" #symbol ":\n"                                                           \
            ".incbin \"" path "\"\n" #symbol "_end:\n"                                             \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char symbol[] __attribute__((visibility("hidden")));                              \
    extern const char symbol##_end[] __attribute__((visibility("hidden")))

EMBED(vx_asset_index, VX_ASSET_DIR "/index.html");
EMBED(vx_asset_style, VX_ASSET_DIR "/style.css");
EMBED(vx_asset_app, VX_ASSET_DIR "/app.js");
EMBED(vx_asset_charts, VX_ASSET_DIR "/charts.js");
EMBED(vx_asset_chart_lib, VX_CHART_JS);
EMBED(vx_asset_openapi, VX_OPENAPI_YAML);

static struct vx_asset assets[] = {
    {.name = "index.html", .type = "text/html; charset=utf-8", .data = vx_asset_index},
    {.name = "style.css", .type = "text/css; charset=utf-8", .data = vx_asset_style},
    {.name = "app.js", .type = "text/javascript; charset=utf-8", .data = vx_asset_app},
    {.name = "charts.js", .type = "text/javascript; charset=utf-8", .data = vx_asset_charts},
    {.name = "chart.min.js", .type = "text/javascript; charset=utf-8", .data = vx_asset_chart_lib},
    {.name = "openapi.yaml", .type = "application/yaml", .data = vx_asset_openapi},
};

static const char *const ends[] = {vx_asset_index_end,     vx_asset_style_end,
                                   vx_asset_app_end,       vx_asset_charts_end,
                                   vx_asset_chart_lib_end, vx_asset_openapi_end};

const struct vx_asset *vx_asset_find(const char *name) {
    for (size_t i = 0; i < sizeof assets / sizeof assets[0]; i++) {
        struct vx_asset *a = &assets[i];
        if (strcmp(a->name, name) != 0) {
            continue;
        }
        if (!a->tag[0]) {
            char hex[VX_SHA256_HEX];
            a->len = (size_t)(ends[i] - a->data);
            vx_sha256_hex(a->data, a->len, hex);
            snprintf(a->tag, sizeof a->tag, "\"%.16s\"", hex);
        }
        return a;
    }
    return NULL;
}
