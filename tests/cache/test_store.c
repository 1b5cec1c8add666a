/* What goes in comes out: whole arrays, boxes in every position, locations, counters, the
 * descriptor policy. */
#include "cache/codec/crc32c.h"
#include "cache/shard/shard.h"
#include "fixture.h"

#include <dirent.h>
#include <math.h>

/* RFC 3720 B.4, and the hardware path against the table. */
Test(cache_crc32c, known_answers) {
    unsigned char bytes[32];
    memset(bytes, 0, sizeof bytes);
    cr_assert_eq(vx_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    cr_assert_eq(vx_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)i;
    }
    cr_assert_eq(vx_crc32c(0, bytes, 32), 0x46dd794eu);
    cr_assert_eq(vx_crc32c(0, "123456789", 9), 0xe3069283u);
    for (size_t n = 0; n <= 32; n++) {
        cr_assert_eq(vx_crc32c(7, bytes, n), vx_crc32c_table(7, bytes, n));
        cr_assert_eq(vx_crc32c(vx_crc32c(0, bytes, n), bytes + n, 32 - n), 0x46dd794eu);
    }
}

/* Long inputs are summed in three lanes side by side. */
Test(cache_crc32c, long_inputs_are_the_tables) {
    enum { LONG = 10000 };
    vx_auto_free unsigned char *bytes = malloc(LONG);
    for (int i = 0; i < LONG; i++) {
        bytes[i] = (unsigned char)(i * i / 7 + i / 256);
    }
    for (size_t n = 3000; n <= LONG; n += n < 3100 || n > 9200 ? 1 : 97) {
        cr_assert_eq(vx_crc32c(5, bytes + n % 8, n - 8), vx_crc32c_table(5, bytes + n % 8, n - 8));
    }
}

static float wanted_image(const struct fixture_case *f, int64_t c, int64_t z, int64_t y,
                          int64_t x) {
    const int64_t *n = f->data.info.shape;
    bool in = z >= 0 && y >= 0 && x >= 0 && z < n[0] && y < n[1] && x < n[2];
    return in ? f->image[((c * n[0] + z) * n[1] + y) * n[2] + x] : 0.0f;
}

static int16_t wanted_seg(const struct fixture_case *f, int64_t z, int64_t y, int64_t x) {
    const int64_t *n = f->data.info.shape;
    bool in = z >= 0 && y >= 0 && x >= 0 && z < n[0] && y < n[1] && x < n[2];
    return in ? f->seg[(z * n[1] + y) * n[2] + x] : -1;
}

/* Reads [lo, hi) into a buffer with gaps between rows and planes and compares every element, gaps
 * included. */
static void check_box(struct vx_cache_case *c, const struct fixture_case *f, const int64_t lo[3],
                      const int64_t hi[3]) {
    struct vx_err e = {0};
    int64_t d[3] = {hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]};
    int64_t stride[3] = {0, (d[1] + 1) * (d[2] + 2), d[2] + 2};
    stride[0] = d[0] * stride[1] + 3;
    int channels = f->data.info.n_channels;
    size_t items = (size_t)(stride[0] * channels);
    vx_auto_free float *image = malloc(items * sizeof *image);
    vx_auto_free int16_t *seg = malloc(items * sizeof *seg);
    for (size_t i = 0; i < items; i++) {
        image[i] = -77.0f;
        seg[i] = -77;
    }
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, image, stride, &e));
    expect_ok(vx_cache_read_box(c, VX_CACHE_SEG, lo, hi, seg, stride, &e));
    for (int64_t ch = 0; ch < channels; ch++) {
        for (int64_t i = 0; i < stride[0]; i++) {
            int64_t z = i / stride[1], y = i % stride[1] / stride[2], x = i % stride[2];
            bool gap = z >= d[0] || y >= d[1] || x >= d[2];
            float v = gap ? -77.0f : wanted_image(f, ch, lo[0] + z, lo[1] + y, lo[2] + x);
            cr_assert_eq(image[ch * stride[0] + i], v, "channel %d at %d %d %d", (int)ch, (int)z,
                         (int)y, (int)x);
            if (ch == 0) {
                int16_t s = gap ? -77 : wanted_seg(f, lo[0] + z, lo[1] + y, lo[2] + x);
                cr_assert_eq(seg[i], s);
            }
        }
    }
}

/* The same box with z and y backwards, dense. */
static void check_backwards(struct vx_cache_case *c, const int64_t lo[3], const int64_t hi[3]) {
    struct vx_err e = {0};
    int64_t y = hi[1] - lo[1], x = hi[2] - lo[2], volume = (hi[0] - lo[0]) * y * x;
    size_t items = (size_t)(volume * vx_cache_case_info(c)->n_channels);
    const int64_t stride[3] = {volume, -y * x, -x};
    vx_auto_free float *image = malloc(items * sizeof *image), *back = malloc(items * sizeof *back);
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, image, NULL, &e));
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, back + volume - x, stride, &e));
    for (size_t i = 0; i < items; i++) {
        int64_t ch = (int64_t)i / volume, row = (int64_t)i % volume / x, at = (int64_t)i % x;
        cr_assert_eq(back[ch * volume + (volume / x - 1 - row) * x + at], image[i]);
    }
}

/* A slanted slab through the box: its voxels are there, others may be as they were. */
static void check_region(struct vx_cache_case *c, const int64_t lo[3], const int64_t hi[3]) {
    struct vx_err e = {0};
    struct vx_cache_region region = {.row = {{0.8, 0.6, 0}, {-0.6, 0.8, 0}, {0, 0, 1}},
                                     .half = {1.5, 4, 3.25}};
    int64_t n[3], voxels = 1, wanted = 0;
    for (int a = 0; a < 3; a++) {
        n[a] = hi[a] - lo[a];
        voxels *= n[a];
        region.centre[a] = (double)lo[a] + (double)n[a] / 3;
    }
    vx_auto_free float *all = malloc((size_t)voxels * sizeof *all * 4);
    vx_auto_free float *some = malloc((size_t)voxels * sizeof *some * 4);
    cr_assert_leq(vx_cache_case_info(c)->n_channels, 4);
    for (int64_t i = 0; i < voxels * 4; i++) {
        some[i] = -77.0f;
    }
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, all, NULL, &e));
    expect_ok(vx_cache_read_region(c, VX_CACHE_IMAGE, lo, hi, &region, some, NULL, &e));
    for (int64_t i = 0; i < voxels * vx_cache_case_info(c)->n_channels; i++) {
        int64_t v = i % voxels;
        const double d[3] = {(double)(lo[0] + v / (n[1] * n[2])) - region.centre[0],
                             (double)(lo[1] + v / n[2] % n[1]) - region.centre[1],
                             (double)(lo[2] + v % n[2]) - region.centre[2]};
        bool in = true;
        for (int a = 0; a < 3; a++) {
            const double *r = region.row[a];
            in = in && fabs(r[0] * d[0] + r[1] * d[1] + r[2] * d[2]) <= region.half[a];
        }
        wanted += in;
        cr_assert(some[i] == all[i] || (!in && some[i] == -77.0f));
    }
    cr_assert(wanted > 0 || voxels < 50);
}

static void check_shape(int channels, int64_t z, int64_t y, int64_t x, int64_t patch, int boxes) {
    struct vx_err e = {0};
    char *dir = fixture_dir("shape");
    struct fixture_case f =
        fixture_case("case_1", channels, z, y, x, (uint64_t)(z * 100 + y * 10 + x));
    for (int a = 0; a < 3; a++) {
        f.data.patch[a] = patch;
    }
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache *cache = NULL;
    struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(store, &cache, &e));
    expect_ok(vx_cache_case_open(cache, "case_1", &c, &e));
    int64_t zero[3] = {0, 0, 0};
    check_box(c, &f, zero, f.data.info.shape);
    struct vx_rng r = vx_rng_at(3, 0, 0, 0, 1);
    for (int i = 0; i < boxes; i++) {
        int64_t lo[3], hi[3];
        for (int a = 0; a < 3; a++) {
            int64_t n = f.data.info.shape[a];
            lo[a] = (int64_t)(vx_rng_u32(&r) % (uint32_t)(n + 20)) - 10;
            hi[a] = lo[a] + 1 + (int64_t)(vx_rng_u32(&r) % (uint32_t)(n + 5));
        }
        check_box(c, &f, lo, hi);
        check_backwards(c, lo, hi);
        check_region(c, lo, hi);
    }
    expect_ok(vx_cache_verify_case(cache, "case_1", &e));
    vx_cache_case_free(c);
    vx_cache_free(cache);
    fixture_release(&f);
    fixture_remove(dir, store);
}

Test(cache_store, boxes_of_odd_shapes) {
    check_shape(1, 1, 1, 1, 64, 10);
    check_shape(1, 36, 50, 35, 40, 40);
    check_shape(2, 33, 65, 31, 16, 40);
    check_shape(3, 7, 70, 130, 32, 20);
    check_shape(1, 1, 97, 101, 1, 20);
}

Test(cache_store, chunks_of_many_small_edges) {
    check_shape(2, 23, 19, 29, 3, 25);
}

Test(cache_store, chunk_rule) {
    struct {
        int64_t shape, patch, chunk, smooth;
    } rows[] = {{36, 40, 36, 36},   {50, 56, 50, 50},   {35, 40, 35, 35}, {512, 128, 32, 20},
                {138, 128, 28, 20}, {138, 160, 46, 46}, {20, 1, 1, 1},    {200, 20, 20, 20},
                {65, 0, 22, 17},    {65, 65, 33, 33},   {1, 64, 1, 1}};
    for (size_t i = 0; i < VX_COUNTOF(rows); i++) {
        int64_t shape[3] = {rows[i].shape, rows[i].shape, rows[i].shape};
        int64_t patch[3] = {rows[i].patch, rows[i].patch, rows[i].patch}, chunk[3];
        for (int smooth = 0; smooth < 2; smooth++) {
            int64_t wanted = smooth ? rows[i].smooth : rows[i].chunk;
            vx_cache_chunk_shape(shape, patch, smooth, chunk);
            cr_assert_eq(chunk[0], wanted, "shape %d patch %d: %d", (int)rows[i].shape,
                         (int)rows[i].patch, (int)chunk[0]);
            cr_assert_eq(chunk[1], wanted);
            cr_assert_eq(chunk[2], rows[i].chunk, "rows stay as long as they are");
        }
    }
}

Test(cache_store, info_and_locations) {
    struct vx_err e = {0};
    char *dir = fixture_dir("info");
    struct fixture_case f[2] = {fixture_case("b", 1, 9, 10, 11, 1),
                                fixture_case("a", 2, 30, 20, 10, 2)};
    f[0].data.info.geometry = json_pack("{s:[i,i]}", "axes", 2, 1);
    char *store = fixture_store(dir, f, 2);
    struct vx_cache *cache = NULL;
    struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(store, &cache, &e));
    cr_assert_eq(vx_cache_n_cases(cache), 2);
    cr_assert_str_eq(vx_cache_case_name(cache, 0), "a");
    cr_assert_str_eq(vx_cache_key_hex(cache), FIXTURE_KEY);
    cr_assert(vx_cache_has_case(cache, "b") && !vx_cache_has_case(cache, "c"));
    cr_assert_eq(vx_cache_case_open(cache, "c", &c, &e), VX_E_NOT_FOUND);
    for (int part = VX_CACHE_PART_CASE; part <= VX_CACHE_PART_LOCATIONS; part++) {
        vx_auto_free char *path = vx_cache_part_path(cache, "a", (enum vx_cache_part)part);
        cr_assert(path && vx_path_exists(path), "%s", path);
    }
    cr_assert_null(vx_cache_part_path(cache, "nobody", VX_CACHE_PART_CASE));
    expect_ok(vx_cache_case_open(cache, "b", &c, &e));
    const struct vx_cache_info *in = vx_cache_case_info(c);
    const struct vx_cache_info *was = &f[0].data.info;
    cr_assert_str_eq(in->name, "b");
    cr_assert(memcmp(in->spacing, was->spacing, sizeof in->spacing) == 0);
    cr_assert(memcmp(in->spacing_raw, was->spacing_raw, sizeof in->spacing) == 0);
    cr_assert(memcmp(in->crop_hi, was->crop_hi, sizeof in->crop_hi) == 0);
    cr_assert(json_equal(in->geometry, was->geometry));
    cr_assert_eq(in->sources[0].mtime_ns, f[0].source.mtime_ns);
    cr_assert_eq(vx_cache_class_index(c, "2"), 1);
    cr_assert_eq(vx_cache_class_index(c, "9"), -1);
    for (size_t k = 0; k < 3; k++) {
        int32_t(*all)[3] = NULL, one[3];
        expect_ok(vx_cache_locations(c, k, &all, &e));
        int64_t first = k == 1 ? f[0].classes[0].n_locations : 0;
        for (int64_t i = 0; i < in->classes[k].n_locations; i++) {
            expect_ok(vx_cache_location(c, k, i, one, &e));
            cr_assert(memcmp(one, all[i], sizeof one) == 0);
            cr_assert(memcmp(one, f[0].locations[first + i], sizeof one) == 0);
        }
        cr_assert_eq(vx_cache_location(c, k, in->classes[k].n_locations, one, &e), VX_E_INVALID);
        free(all);
    }
    vx_cache_case_free(c);
    vx_cache_free(cache);
    fixture_release(&f[0]);
    fixture_release(&f[1]);
    fixture_remove(dir, store);
}

static int open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

Test(cache_store, keeps_at_most_so_many_files_open) {
    struct vx_err e = {0};
    char *dir = fixture_dir("lru");
    struct fixture_case f[4];
    struct vx_cache_case *c[4] = {NULL};
    struct vx_cache *cache = NULL;
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", i);
        f[i] = fixture_case(name, 1, 12, 12, 12, (uint64_t)i);
    }
    char *store = fixture_store(dir, f, 4);
    expect_ok(vx_cache_open(store, &cache, &e));
    int before = open_descriptors();
    for (int i = 0; i < 4; i++) {
        expect_ok(vx_cache_case_open(cache, vx_cache_case_name(cache, (size_t)i), &c[i], &e));
    }
    cr_assert_eq(open_descriptors(), before, "the default keeps nothing open");
    int64_t lo[3] = {2, 2, 2}, hi[3] = {5, 5, 5};
    uint64_t opens = vx_cache_counters(cache)->opens;
    check_box(c[0], &f[0], lo, hi);
    check_box(c[0], &f[0], lo, hi);
    cr_assert_eq(vx_cache_counters(cache)->opens, opens + 4, "one open per read and role");
    vx_cache_keep_open(cache, 3);
    opens = vx_cache_counters(cache)->opens;
    check_box(c[0], &f[0], lo, hi);
    check_box(c[0], &f[0], lo, hi);
    cr_assert_eq(vx_cache_counters(cache)->opens, opens + 2);
    for (int i = 0; i < 4; i++) {
        check_box(c[i], &f[i], lo, hi);
        cr_assert_leq(open_descriptors(), before + 3);
    }
    cr_assert_eq(open_descriptors(), before + 3);
    vx_cache_keep_open(cache, 1);
    cr_assert_eq(open_descriptors(), before + 1);
    for (int i = 0; i < 4; i++) {
        check_box(c[i], &f[i], lo, hi);
        vx_cache_case_free(c[i]);
        fixture_release(&f[i]);
    }
    cr_assert_eq(open_descriptors(), before);
    const struct vx_cache_counters *n = vx_cache_counters(cache);
    cr_assert(n->bytes_read > 0 && n->chunks > 0 && n->reads > 0 &&
              n->bytes_decoded > n->bytes_read);
    vx_cache_free(cache);
    fixture_remove(dir, store);
}

/* A box in a corner of a large volume reads that corner's chunks and no others. */
static void check_partial_read(bool smooth, uint64_t chunks, uint64_t reads) {
    struct vx_err e = {0};
    char *dir = fixture_dir("partial");
    struct fixture_case f = fixture_case("big", 1, 128, 128, 128, 5);
    for (size_t i = 0; !smooth && i < 128 * 128 * 128; i++) {
        f.image[i] = (float)(int)(4 * f.image[i]) * 0.37f - 31.4f;
    }
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache *cache = NULL;
    struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(store, &cache, &e));
    expect_ok(vx_cache_case_open(cache, "big", &c, &e));
    vx_auto_free float *image = malloc(40 * 40 * 40 * sizeof *image);
    int64_t lo[3] = {90, 90, 90}, hi[3] = {130, 130, 130};
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, lo, hi, image, NULL, &e));
    cr_assert_eq(vx_cache_counters(cache)->chunks, chunks);
    cr_assert_eq(vx_cache_counters(cache)->reads, reads, "neighbours along x come with one read");
    cr_assert_eq(image[0], wanted_image(&f, 0, 90, 90, 90));
    int64_t far_lo[3] = {200, 0, 0}, far_hi[3] = {201, 1, 1};
    expect_ok(vx_cache_read_box(c, VX_CACHE_IMAGE, far_lo, far_hi, image, NULL, &e));
    cr_assert_eq(image[0], 0.0f);
    cr_assert_eq(vx_cache_read_box(c, VX_CACHE_IMAGE, hi, lo, image, NULL, &e), VX_E_INVALID);
    vx_cache_case_free(c);
    vx_cache_free(cache);
    fixture_release(&f);
    fixture_remove(dir, store);
}

Test(cache_store, partial_reads_touch_only_their_chunks) {
    check_partial_read(false, 8, 4); /* 2 x 2 x 2 of 4 x 4 x 4 chunks */
    check_partial_read(true, 18, 9); /* 3 x 3 x 2 of 7 x 7 x 4: smooth values, smaller chunks */
}

Test(cache_store, a_case_without_seg) {
    struct vx_err e = {0};
    char *dir = fixture_dir("noseg");
    struct fixture_case f = fixture_case("x", 1, 8, 8, 8, 5);
    f.data.info.has_seg = false;
    f.data.seg = NULL;
    f.data.info.n_classes = 0;
    f.data.locations = NULL;
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache *cache = NULL;
    struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(store, &cache, &e));
    expect_ok(vx_cache_case_open(cache, "x", &c, &e));
    int16_t seg[8];
    int64_t lo[3] = {0, 0, 0}, hi[3] = {2, 2, 2};
    cr_assert_eq(vx_cache_read_box(c, VX_CACHE_SEG, lo, hi, seg, NULL, &e), VX_E_NOT_FOUND);
    vx_cache_case_free(c);
    vx_cache_free(cache);
    fixture_release(&f);
    fixture_remove(dir, store);
}

/* Chunks of one value each, more values than the reader remembers at once, in turns: each chunk
 * must come out with its own. */
Test(cache_store, chunks_of_one_value) {
    struct vx_err e = {0};
    char *dir = fixture_dir("constant");
    struct fixture_case f = fixture_case("x", 2, 64, 64, 96, 5);
    for (int64_t i = 0; i < 2 * 64 * 64 * 96; i++) {
        int64_t x = i % 96 / 32, y = i / 96 % 64 / 32, z = i / (96 * 64) / 32;
        f.image[i] = 0.1f * (float)((x + 3 * y + 6 * z) % 7) - 0.2f;
        if (i < 64 * 64 * 96) {
            f.seg[i] = (int16_t)((x + 2 * y + z) % 6 - 1);
        }
    }
    f.data.info.n_classes = 0;
    f.data.locations = NULL;
    for (int a = 0; a < 3; a++) {
        f.data.patch[a] = 32;
    }
    char *store = fixture_store(dir, &f, 1);
    struct vx_cache *cache = NULL;
    struct vx_cache_case *c = NULL;
    expect_ok(vx_cache_open(store, &cache, &e));
    expect_ok(vx_cache_case_open(cache, "x", &c, &e));
    struct vx_rng r = vx_rng_at(3, 0, 0, 0, 1);
    for (int i = 0; i < 60; i++) {
        int64_t lo[3], hi[3];
        for (int a = 0; a < 3; a++) {
            int64_t n = f.data.info.shape[a];
            lo[a] = (int64_t)vx_rng_below(&r, (uint32_t)n) - 5;
            hi[a] = lo[a] + 1 + vx_rng_below(&r, 50);
        }
        check_box(c, &f, lo, hi);
    }
    uint64_t read = vx_cache_counters(cache)->bytes_read, chunks = vx_cache_counters(cache)->chunks;
    cr_assert_lt(read / chunks, 120, "a chunk of one value takes %d bytes", (int)(read / chunks));
    expect_ok(vx_cache_verify_case(cache, "x", &e));
    vx_cache_case_free(c);
    vx_cache_free(cache);
    fixture_release(&f);
    fixture_remove(dir, store);
}

static size_t written(struct vx_shard *s, const void *data, const char *path) {
    struct vx_err e = {0};
    struct vx_shard_file file;
    unlink(path);
    expect_ok(vx_shard_write(s, data, path, &file, &e));
    return file.bytes;
}

/* Labels too are coded a second time where that pays, though they have no planes. */
Test(cache_store, shuffled_labels_are_coded_again) {
    struct vx_err e = {0};
    char *dir = fixture_dir("again");
    vx_auto_free char *path = vx_strf("%s/shard", dir);
    const int64_t shape[4] = {1, 40, 40, 40}, chunk[4] = {1, 20, 20, 20};
    vx_auto_free int16_t *labels = malloc(64000 * sizeof *labels);
    struct vx_rng r = vx_rng_at(4, 0, 0, 0, 2);
    for (int i = 0; i < 64000; i++) {
        labels[i] = (int16_t)(i / 7 % 3 + (vx_rng_below(&r, 20) == 0));
    }
    struct vx_shard s;
    expect_ok(vx_shard_init(&s, VX_SHARD_INT16, 3, shape, chunk, &e));
    s.codec = vx_shard_codec_smooth;
    size_t again = written(&s, labels, path);
    s.codec.again_from = 0;
    size_t once = written(&s, labels, path);
    cr_assert_lt(again * 20, once * 19, "%zu bytes, coded once %zu", again, once);
    fixture_remove(dir, NULL);
}

/* Few values that come again are not shuffled, values that differ in all bits are; either is the
 * smaller choice, and the metadata says which. */
Test(cache_store, codec_follows_the_data) {
    struct vx_err e = {0};
    char *dir = fixture_dir("codec");
    vx_auto_free char *path = vx_strf("%s/shard", dir);
    const int64_t shape[4] = {1, 40, 40, 40}, chunk[4] = {1, 20, 20, 20};
    vx_auto_free float *steps = malloc(64000 * sizeof *steps);
    vx_auto_free float *smooth = malloc(64000 * sizeof *smooth);
    struct vx_rng r = vx_rng_at(4, 0, 0, 0, 1);
    for (int i = 0; i < 64000; i++) {
        steps[i] = ((float)(i % 40 / 3 * 7 + (int)vx_rng_below(&r, 4)) - 31.4f) / 12.7f;
        smooth[i] = 1.0f + 0.01f * (float)(i % 40) + 0.001f * vx_u32_to_unit(vx_rng_u32(&r));
    }
    for (int which = 0; which < 2; which++) {
        const float *data = which ? smooth : steps;
        struct vx_shard s;
        expect_ok(vx_shard_init(&s, VX_SHARD_FLOAT32, 4, shape, chunk, &e));
        expect_ok(vx_shard_choose_codec(&s, data, &e));
        vx_auto_json json_t *zarr = vx_shard_metadata(&s);
        vx_auto_free char *text = json_dumps(zarr, JSON_COMPACT);
        cr_assert_not_null(
            strstr(text, which ? "\"shuffle\":\"shuffle\"" : "\"shuffle\":\"noshuffle\""));
        size_t chosen = written(&s, data, path);
        s.codec = which ? vx_shard_codec_steps : vx_shard_codec_smooth;
        size_t other = written(&s, data, path);
        cr_assert_lt(chosen * 10, other * 9, "%d: %zu bytes, the other way %zu", which, chosen,
                     other);
    }
    fixture_remove(dir, NULL);
}
