/* Prometheus text as OpenMetrics 1.0. Thread: any. */
#ifndef VX_API_OPENMETRICS_H
#define VX_API_OPENMETRICS_H

#include "base/buf.h"

/* text: format 0.0.4, families whole and apart, counters with _total, HELP before TYPE. Appends the
 * same with families named without _total, as OpenMetrics wants it, and the closing EOF. */
void vx_openmetrics(const char *text, struct vx_buf *out);
/* Whether an Accept header asks for it; NULL is fine. */
int vx_openmetrics_wanted(const char *accept);

#endif
