/* Raw case to cached case (nnU-Net v2, DefaultPreprocessor): transpose, crop to nonzero, normalise,
 * resample, foreground locations, write. A case per call, so that the caller runs cases in parallel
 * in threads or processes under a memory budget. Thread: any; memory see vx_prepare_memory. */
#ifndef VX_PREPARE_CASE_H
#define VX_PREPARE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vx_cache_source;
struct vx_dataset_desc;
struct vx_err;
struct vx_plan_config;
struct vx_plans;
struct vx_rawset_case;

/* All borrowed, constant while cases are prepared. */
struct vx_prepare_job {
    const struct vx_plans *plans;
    const struct vx_plan_config *config;
    const struct vx_dataset_desc *dataset;
    const char *raw_dir;   /* the raw data set's folder */
    const char *store_dir; /* vx_cache_build_dir */
};

struct vx_prepare_stats {
    uint64_t read_ns, crop_ns, normalise_ns, resample_ns, locations_ns, write_ns;
    uint64_t bytes_written;
};

/* The files a case is made from, as the cache's member list wants them: channels in order, then the
 * label. sources has room for max. */
int vx_prepare_sources(const char *raw_dir, const struct vx_rawset_case *files, int n_channels,
                       struct vx_cache_source *sources, size_t max, size_t *ret_n,
                       struct vx_err *err);
/* Peak bytes that vx_prepare_case will need, from the header of the first channel alone. */
int vx_prepare_memory(const struct vx_prepare_job *job, const struct vx_rawset_case *files,
                      uint64_t *ret_bytes, struct vx_err *err);
/* ret may be NULL. Errors name the file and the reason; nothing is left behind by a failure. */
int vx_prepare_case(const struct vx_prepare_job *job, const struct vx_rawset_case *files,
                    struct vx_prepare_stats *ret, struct vx_err *err);

#endif
