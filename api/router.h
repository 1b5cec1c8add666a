/* Inside this room and its tests only: the table of routes. It, openapi.yaml and README.md say the
 * same; a test compares the first two. */
#ifndef VX_API_ROUTER_H
#define VX_API_ROUTER_H

#include "api/request.h"

extern const struct vx_route vx_routes[];
extern const size_t vx_routes_count;

/* The route for a method and a decoded path. NULL where no pattern fits; then *ret_allow (size
 * bytes) is "" for an unknown path, or the methods that it has. HEAD counts as GET. ret_id and
 * ret_name receive the captures. */
const struct vx_route *vx_router_find(const char *method, const char *path, int64_t *ret_id,
                                      char *ret_name, size_t name_size, char *ret_allow,
                                      size_t allow_size);

#endif
