/* Damaged stores: every flipped bit, cut file and lying number is refused with the file's name,
 * never read as data. */
#include "cache/codec/crc32c.h"
#include "fixture.h"

#include <dirent.h>

struct damage {
    char *dir, *store, *file; /* file: the image's shard */
    struct fixture_case f;
    char *bytes; /* the shard as written */
    size_t len;
};

static char *find_folder(const char *store) {
    vx_auto_free char *cases = vx_strf("%s/cases", store);
    DIR *d = opendir(cases);
    char *found = NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (strchr(e->d_name, '~')) {
            found = vx_strf("%s/%s", cases, e->d_name);
        }
    }
    closedir(d);
    return found;
}

static struct damage set_up(int64_t edge) {
    struct damage t = {0};
    t.dir = fixture_dir("damage");
    t.f = fixture_case("victim", 1, edge, edge, edge, 11);
    for (int a = 0; a < 3; a++) {
        t.f.data.patch[a] = 4;
    }
    t.store = fixture_store(t.dir, &t.f, 1);
    vx_auto_free char *folder = find_folder(t.store);
    t.file = vx_strf("%s/image/c/0/0/0/0", folder);
    cr_assert_eq(vx_read_file(t.file, 1 << 24, &t.bytes, &t.len, NULL), VX_OK);
    return t;
}

static void tear_down(struct damage *t) {
    fixture_release(&t->f);
    fixture_remove(t->dir, t->store);
    free(t->file);
    free(t->bytes);
}

static void replace(const struct damage *t, const char *bytes, size_t len) {
    FILE *f = fopen(t->file, "wbe");
    cr_assert_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

/* Opens the store and the case and reads the whole image; the first error, or VX_OK. */
static int read_everything(const struct damage *t, struct vx_err *e) {
    vx_auto_cache struct vx_cache *cache = NULL;
    vx_auto_cache_case struct vx_cache_case *c = NULL;
    int64_t lo[3] = {0, 0, 0};
    const int64_t *n = t->f.data.info.shape;
    vx_auto_free float *image = malloc((size_t)(n[0] * n[1] * n[2]) * sizeof *image);
    int rc = vx_cache_open(t->store, &cache, e);
    if (rc == VX_OK) {
        rc = vx_cache_case_open(cache, "victim", &c, e);
    }
    return rc == VX_OK ? vx_cache_read_box(c, VX_CACHE_IMAGE, lo, n, image, NULL, e) : rc;
}

static void expect_corrupt(const struct damage *t, const char *reason, const char *what,
                           size_t at) {
    struct vx_err e = {0};
    cr_assert_eq(read_everything(t, &e), VX_E_CORRUPT, "%s %zu was not noticed", what, at);
    cr_assert_str_eq(e.where, t->file, "%s %zu: %s", what, at, e.where);
    cr_assert(strstr(e.text, t->file), "%s %zu: %s", what, at, e.text);
    if (reason) {
        cr_assert_str_eq(e.reason, reason, "%s %zu: %s", what, at, e.reason);
    }
}

Test(cache_damage, every_flipped_bit_is_noticed) {
    struct damage t = set_up(9);
    struct vx_err e = {0};
    expect_ok(read_everything(&t, &e));
    for (size_t i = 0; i < t.len; i++) {
        t.bytes[i] ^= (char)(1 << i % 8);
        replace(&t, t.bytes, t.len);
        expect_corrupt(&t, NULL, "a flipped bit at byte", i);
        t.bytes[i] ^= (char)(1 << i % 8);
    }
    replace(&t, t.bytes, t.len);
    expect_ok(read_everything(&t, &e));
    tear_down(&t);
}

Test(cache_damage, cut_and_grown_files) {
    struct damage t = set_up(9);
    for (size_t len = 0; len < t.len; len += 97) {
        replace(&t, t.bytes, len);
        expect_corrupt(&t, "truncated_file", "a file cut to", len);
    }
    char *longer = calloc(1, t.len + 16);
    memcpy(longer, t.bytes, t.len);
    replace(&t, longer, t.len + 16);
    expect_corrupt(&t, "truncated_file", "a file grown to", t.len + 16);
    free(longer);
    tear_down(&t);
}

static size_t n_chunks(const struct damage *t) {
    int64_t chunk[3];
    vx_cache_chunk_shape(t->f.data.info.shape, t->f.data.patch, false, chunk);
    size_t n = 1;
    for (int a = 0; a < 3; a++) {
        n *= (size_t)((t->f.data.info.shape[a] + chunk[a] - 1) / chunk[a]);
    }
    return n;
}

/* Index words with a checksum that fits: only their values can give them away. */
Test(cache_damage, index_that_points_elsewhere) {
    struct damage t = set_up(9);
    size_t words = 2 * n_chunks(&t), at = t.len - 4 - words * 8;
    uint64_t *index = malloc(words * 8);
    uint64_t lies[] = {t.len, UINT64_MAX - 1, (uint64_t)1 << 62, at - 3};
    for (size_t i = 0; i < VX_COUNTOF(lies) * 2; i++) {
        memcpy(index, t.bytes + at, words * 8);
        index[words - 2 + i % 2] = lies[i / 2];
        char *copy = malloc(t.len);
        memcpy(copy, t.bytes, t.len);
        memcpy(copy + at, index, words * 8);
        uint32_t crc = vx_crc32c(0, index, words * 8);
        memcpy(copy + t.len - 4, &crc, 4);
        replace(&t, copy, t.len);
        expect_corrupt(&t, "index_out_of_bounds", "index lie", i);
        free(copy);
    }
    free(index);
    tear_down(&t);
}

Test(cache_damage, chunk_that_declares_another_size) {
    struct damage t = set_up(9);
    size_t words = 2 * n_chunks(&t);
    uint64_t last[2];
    memcpy(last, t.bytes + t.len - 4 - 16, sizeof last);
    cr_assert_neq(words, 0);
    uint32_t lies[] = {0, 1, 0x7fffffff, 0xffffffff, 4096};
    for (size_t i = 0; i < VX_COUNTOF(lies); i++) {
        char *copy = malloc(t.len);
        memcpy(copy, t.bytes, t.len);
        memcpy(copy + last[0] + 4, &lies[i], 4); /* blosc header: nbytes at 4 */
        uint32_t crc = vx_crc32c(0, copy + last[0], last[1] - 4);
        memcpy(copy + last[0] + last[1] - 4, &crc, 4);
        replace(&t, copy, t.len);
        expect_corrupt(&t, "chunk_size", "size lie", i);
        free(copy);
    }
    tear_down(&t);
}

static void write_text(const char *path, const char *text) {
    cr_assert_eq(vx_write_file_atomic(path, text, strlen(text), 0644, NULL), VX_OK);
}

Test(cache_damage, case_json_and_manifest) {
    struct damage t = set_up(9);
    struct vx_err e = {0};
    vx_auto_free char *folder = find_folder(t.store);
    vx_auto_free char *json = vx_strf("%s/case.json", folder);
    vx_auto_free char *manifest = vx_strf("%s/manifest.json", t.store);
    vx_auto_free char *old = NULL, *old_manifest = NULL;
    cr_assert_eq(vx_read_file(json, 1 << 20, &old, NULL, &e), VX_OK);
    cr_assert_eq(vx_read_file(manifest, 1 << 20, &old_manifest, NULL, &e), VX_OK);
    write_text(json, "{}");
    cr_assert_eq(read_everything(&t, &e), VX_E_CORRUPT);
    cr_assert_str_eq(e.where, json);
    unlink(json);
    cr_assert_eq(read_everything(&t, &e), VX_E_NOT_FOUND);
    write_text(json, old);
    expect_ok(read_everything(&t, &e));
    const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"format\":1}",
        "{\"format\":1,\"key\":\"0\",\"cases\":[]}",
        "{\"format\":1,\"key\":\"" FIXTURE_KEY "\",\"cases\":[{}]}",
        "{\"format\":1,\"key\":\"" FIXTURE_KEY
        "\",\"cases\":[{\"name\":\"a\",\"folder\":\"../x\",\"sha256\":\"" FIXTURE_KEY "\"}]}"};
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        write_text(manifest, bad[i]);
        cr_assert_eq(read_everything(&t, &e), VX_E_CORRUPT, "manifest %zu: %s", i, e.text);
        cr_assert_str_eq(e.where, manifest);
    }
    write_text(manifest, "{\"format\":99,\"key\":\"" FIXTURE_KEY "\",\"cases\":[]}");
    cr_assert_eq(read_everything(&t, &e), VX_E_UNSUPPORTED);
    unlink(manifest);
    cr_assert_eq(read_everything(&t, &e), VX_E_STATE);
    cr_assert_str_eq(e.reason, "cache_incomplete");
    struct vx_cache *cache = NULL;
    cr_assert_eq(vx_cache_open("/nonexistent/store", &cache, &e), VX_E_NOT_FOUND);
    tear_down(&t);
}

/* Files no patch ever touches are still compared by the full check. */
Test(cache_damage, verify_names_the_file) {
    struct damage t = set_up(9);
    struct vx_err e = {0};
    struct vx_cache *cache = NULL;
    expect_ok(vx_cache_open(t.store, &cache, &e));
    expect_ok(vx_cache_verify_case(cache, "victim", &e));
    t.bytes[17] ^= 4;
    replace(&t, t.bytes, t.len);
    cr_assert_eq(vx_cache_verify_case(cache, "victim", &e), VX_E_CORRUPT);
    cr_assert_str_eq(e.where, t.file);
    vx_cache_free(cache);
    tear_down(&t);
}

/* A chunk of another file, checksum and all: only what was written altogether tells. A CRC over
 * chunks that end with their own CRC does not, it is the same for all data of that length. */
Test(cache_damage, a_whole_chunk_of_another_file) {
    struct damage t = set_up(9);
    struct vx_err e = {0};
    struct vx_cache *cache = NULL;
    uint64_t last[2];
    memcpy(last, t.bytes + t.len - 4 - 16, sizeof last);
    expect_ok(vx_cache_open(t.store, &cache, &e));
    expect_ok(vx_cache_verify_case(cache, "victim", &e));
    t.bytes[last[0] + last[1] - 5] ^= 1; /* a voxel, in a chunk that is stored as it is */
    uint32_t crc = vx_crc32c(0, t.bytes + last[0], last[1] - 4);
    memcpy(t.bytes + last[0] + last[1] - 4, &crc, 4);
    replace(&t, t.bytes, t.len);
    cr_assert_eq(vx_cache_verify_case(cache, "victim", &e), VX_E_CORRUPT);
    cr_assert_str_eq(e.reason, "file_checksum");
    cr_assert_str_eq(e.where, t.file);
    vx_cache_free(cache);
    tear_down(&t);
}

/* Anything at all in a chunk's buffer, with a checksum that fits: refused, or decoded within
 * bounds. Among them are streams that go on beyond the size that their header declares. */
Test(cache_damage, buffers_that_nobody_wrote) {
    struct damage t = set_up(24);
    struct vx_rng r = vx_rng_at(9, 0, 0, 0, 1);
    size_t words = 2 * n_chunks(&t), refused = 0;
    uint64_t *index = (uint64_t *)calloc(words, 8);
    memcpy(index, t.bytes + t.len - 4 - words * 8, words * 8);
    char *copy = malloc(t.len);
    for (int i = 0; i < 3000; i++) {
        struct vx_err e = {0};
        uint64_t *entry;
        do {
            entry = &index[2 * vx_rng_below(&r, (uint32_t)words / 2)];
        } while (entry[1] == UINT64_MAX);
        memcpy(copy, t.bytes, t.len);
        char *buffer = copy + entry[0];
        size_t len = (size_t)entry[1] - 4;
        for (uint32_t n = 1 + vx_rng_below(&r, 4); n > 0; n--) {
            /* the header's sizes are another test's: these are the streams behind it */
            buffer[16 + vx_rng_below(&r, (uint32_t)len - 16)] = (char)vx_rng_u32(&r);
        }
        uint32_t crc = vx_crc32c(0, buffer, len);
        memcpy(buffer + len, &crc, 4);
        replace(&t, copy, t.len);
        int rc = read_everything(&t, &e);
        cr_assert(rc == VX_OK || rc == VX_E_CORRUPT, "%d %s", rc, e.text);
        cr_assert(rc == VX_OK || strcmp(e.where, t.file) == 0);
        refused += rc == VX_E_CORRUPT;
    }
    cr_assert_gt(refused, 300);
    free(copy);
    free(index);
    tear_down(&t);
}
