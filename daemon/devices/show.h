/* The devices as GET /v1/devices and /metrics show them. Thread: loop thread. */
#ifndef VX_DAEMON_DEVICES_SHOW_H
#define VX_DAEMON_DEVICES_SHOW_H

#include <jansson.h>

struct vx_app;
struct vx_buf;

/* Array; new reference. */
json_t *vx_devices_json(const struct vx_app *app);
/* voxeld_device_healthy and voxeld_device_faults_total, appended. */
void vx_devices_metrics(const struct vx_app *app, struct vx_buf *out);

#endif
