/* Inside this room only: files that are built into the program. Thread: any, after the first call.
 */
#ifndef VX_API_ASSETS_H
#define VX_API_ASSETS_H

#include <stddef.h>

struct vx_asset {
    const char *name, *type;
    const char *data;
    size_t len;
    char tag[24]; /* ETag */
};

const struct vx_asset *vx_asset_find(const char *name); /* NULL: none of this name */

#endif
