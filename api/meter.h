/* Inside this room only: counts and times of requests, as voxeld_http_*. Loop thread. */
#ifndef VX_API_METER_H
#define VX_API_METER_H

#include <stdint.h>

struct vx_buf;
struct vx_meter;
struct vx_route;

struct vx_meter *vx_meter_create(void); /* NULL when out of memory */
void vx_meter_free(struct vx_meter *m);
/* route NULL: no pattern fitted. seconds < 0: counted, not timed (event streams). */
void vx_meter_add(struct vx_meter *m, const struct vx_route *route, int status, double seconds);
void vx_meter_write(const struct vx_meter *m, struct vx_buf *out);

#endif
