/* Checkpoints: bit for bit, whole or refused, old formats readable. */
#include "sample.h"

#include "base/err.h"
#include "base/io.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#define expect_ok(call)                                                                            \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        cr_assert_eq(rc_, VX_OK, "%s: %d %s (%s)", #call, rc_, e.text, e.where);                   \
    } while (0)

static char *temp_file(const char *name) {
    const char *tmp = getenv("TMPDIR");
    return vx_strf("%s/vx-ckpt-%s-%d.safetensors", tmp ? tmp : "/tmp", name, (int)getpid());
}

static void same_bits(const float *a, const float *b, size_t n) {
    cr_assert_eq(memcmp(a, b, n * sizeof *a), 0);
}

static bool same_number(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void same_checkpoint(const struct vx_ckpt *a, const struct vx_ckpt *b) {
    cr_assert_eq(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct vx_ckpt_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        cr_assert_str_eq(x->name, y->name);
        cr_assert_eq(x->rank, y->rank);
        cr_assert(memcmp(x->shape, y->shape, sizeof x->shape) == 0);
        same_bits(x->param, y->param, x->n);
        cr_assert_eq(!x->momentum, !y->momentum);
        if (x->momentum) {
            same_bits(x->momentum, y->momentum, x->n);
        }
    }
    cr_assert(a->k == b->k && a->epoch == b->epoch && a->iteration == b->iteration);
    cr_assert(a->validation_k == b->validation_k && a->best_epoch == b->best_epoch);
    cr_assert(same_number(a->ema_dice, b->ema_dice) &&
              same_number(a->best_ema_dice, b->best_ema_dice));
    const struct vx_ckpt_schedule *s = &a->schedule, *t = &b->schedule;
    cr_assert(s->lr0 == t->lr0 && s->epochs == t->epochs && s->poly_power == t->poly_power);
    cr_assert(s->iterations_per_epoch == t->iterations_per_epoch && s->momentum == t->momentum);
    cr_assert(s->validation_iterations == t->validation_iterations && s->nesterov == t->nesterov);
    cr_assert(s->weight_decay == t->weight_decay && s->clip_norm == t->clip_norm);
    cr_assert_str_eq(a->recipe_digest, b->recipe_digest);
    cr_assert(json_equal(a->history, b->history) && json_equal(a->quarantines, b->quarantines));
    cr_assert(json_equal(a->environment, b->environment) && json_equal(a->trainer, b->trainer));
    cr_assert(json_equal(a->network, b->network));
}

Test(checkpoint, round_trip_bit_for_bit) {
    struct vx_err e = {0};
    struct vx_ckpt c, back;
    vx_auto_free char *path = temp_file("round");
    cr_assert(sample_fill(&c));
    /* every kind of float: NaN payloads, denormals, -0, infinities, random bits */
    struct vx_rng r = vx_rng_at(1, 0, 0, 0, 1);
    uint32_t special[] = {0x80000000u, 0x7fc00001u, 0xffa00002u, 1u, 0x7f800000u, 0xff800000u};
    for (size_t i = 0; i < c.tensors[0].n; i++) {
        uint32_t bits = i < VX_COUNTOF(special) ? special[i] : vx_rng_u32(&r);
        memcpy(&c.tensors[0].param[i], &bits, sizeof bits);
    }
    expect_ok(vx_ckpt_write(path, &c, &e));
    expect_ok(vx_ckpt_read(path, &back, &e));
    same_checkpoint(&c, &back);
    vx_ckpt_release(&back);
    expect_ok(vx_ckpt_read_info(path, &back, &e));
    cr_assert_eq(back.n_tensors, 3);
    cr_assert_null(back.tensors[0].param);
    cr_assert_eq(back.tensors[0].n, 216);
    cr_assert_eq(vx_ckpt_find(&back, "decoder.seg_layers.0.weight"), 2);
    cr_assert_eq(vx_ckpt_find(&back, "decoder"), -1);
    vx_ckpt_release(&back);
    vx_ckpt_release(&c);
    unlink(path);
}

Test(checkpoint, start_of_a_training) {
    struct vx_err e = {0};
    struct vx_ckpt c, back;
    vx_auto_free char *path = temp_file("start");
    vx_ckpt_init(&c);
    strcpy(c.recipe_digest, SAMPLE_DIGEST);
    cr_assert(vx_ckpt_add(&c, "a.weight", 1, (const int64_t[]){4}, false));
    expect_ok(vx_ckpt_write(path, &c, &e));
    expect_ok(vx_ckpt_read(path, &back, &e));
    cr_assert(isnan(back.ema_dice) && isnan(back.best_ema_dice));
    cr_assert_eq(back.best_epoch, -1);
    cr_assert_null(back.tensors[0].momentum);
    cr_assert(json_is_object(back.history) && json_is_array(back.quarantines));
    vx_ckpt_release(&back);
    vx_ckpt_release(&c);
    unlink(path);
}

/* The kept sample of each format reads as what its generator put in. */
Test(checkpoint, sample_of_format_1) {
    struct vx_err e = {0};
    struct vx_ckpt c, back;
    cr_assert(sample_fill(&c));
    expect_ok(vx_ckpt_read("tests/checkpoint/samples/format-1.safetensors", &back, &e));
    same_checkpoint(&c, &back);
    vx_ckpt_release(&back);
    vx_ckpt_release(&c);
}

static char *whole_file(const char *path, size_t *len) {
    char *bytes = NULL;
    cr_assert_eq(vx_read_file(path, 1 << 26, &bytes, len, NULL), VX_OK);
    return bytes;
}

static void put(const char *path, const char *bytes, size_t len) {
    FILE *f = fopen(path, "wbe");
    cr_assert_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void refused(const char *path, const char *what, size_t at) {
    struct vx_err e = {0};
    struct vx_ckpt c;
    int rc = vx_ckpt_read(path, &c, &e);
    cr_assert(rc == VX_E_CORRUPT, "%s %zu: %d %s", what, at, rc, e.text);
    cr_assert_str_eq(e.where, path, "%s %zu: %s", what, at, e.text);
    cr_assert(strstr(e.text, path), "%s %zu: %s", what, at, e.text);
}

Test(checkpoint, truncated_anywhere_is_refused) {
    struct vx_err e = {0};
    struct vx_ckpt c;
    vx_auto_free char *path = temp_file("cut");
    size_t len = 0;
    cr_assert(sample_fill(&c));
    cr_assert(vx_ckpt_add(&c, "large", 2, (const int64_t[]){300, 200}, true));
    expect_ok(vx_ckpt_write(path, &c, &e));
    vx_auto_free char *bytes = whole_file(path, &len);
    for (size_t cut = 0; cut < len; cut += 997) {
        put(path, bytes, cut);
        refused(path, "cut to", cut);
    }
    put(path, bytes, len - 1);
    refused(path, "cut to", len - 1);
    vx_auto_free char *longer = calloc(1, len + 4);
    memcpy(longer, bytes, len);
    put(path, longer, len + 4);
    refused(path, "grown to", len + 4);
    vx_ckpt_release(&c);
    unlink(path);
}

/* Every byte of the sample with one bit turned. */
Test(checkpoint, flipped_bits_are_refused) {
    vx_auto_free char *path = temp_file("flip");
    size_t len = 0;
    vx_auto_free char *bytes = whole_file("tests/checkpoint/samples/format-1.safetensors", &len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] ^= (char)(1 << i % 7);
        put(path, bytes, len);
        refused(path, "a flipped bit at byte", i);
        bytes[i] ^= (char)(1 << i % 7);
    }
    unlink(path);
}

Test(checkpoint, lying_headers) {
    struct vx_err e = {0};
    vx_auto_free char *path = temp_file("lie");
    size_t len = 0;
    vx_auto_free char *bytes = whole_file("tests/checkpoint/samples/format-1.safetensors", &len);
    uint64_t lies[] = {0,
                       1,
                       2,
                       7,
                       len - 8,
                       len,
                       len + 1,
                       100000001,
                       UINT64_MAX,
                       UINT64_MAX - 7,
                       (uint64_t)1 << 63};
    for (size_t i = 0; i < VX_COUNTOF(lies); i++) {
        memcpy(bytes, &lies[i], 8);
        put(path, bytes, len);
        refused(path, "header size", (size_t)lies[i]);
    }
    const char *const headers[] = {
        "[]",
        "{}x",
        "{\"a\":1}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F31\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483648,2147483648,4],\"data_offsets\":[0,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}"};
    for (size_t i = 0; i < VX_COUNTOF(headers); i++) {
        char file[512] = {0};
        uint64_t n = strlen(headers[i]);
        memcpy(file, &n, 8);
        memcpy(file + 8, headers[i], n);
        put(path, file, 8 + n + 16);
        refused(path, "header", i);
    }
    struct vx_ckpt c;
    cr_assert_eq(vx_ckpt_read("/nonexistent/x.safetensors", &c, &e), VX_E_NOT_FOUND);
    unlink(path);
}

static void refuse_to_write(struct vx_ckpt *c, const char *path) {
    struct vx_err e = {0};
    cr_assert_eq(vx_ckpt_write(path, c, &e), VX_E_INVALID);
    cr_assert_not(vx_path_exists(path));
    vx_ckpt_release(c);
}

Test(checkpoint, what_cannot_be_read_is_not_written) {
    struct vx_ckpt c;
    vx_auto_free char *path = temp_file("unwritten");
    cr_assert(sample_fill(&c));
    c.recipe_digest[0] = '\0';
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    c.k = -1;
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    c.schedule.lr0 = NAN;
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    cr_assert(vx_ckpt_add(&c, "momentum.x", 1, (const int64_t[]){1}, true));
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    cr_assert(vx_ckpt_add(&c, "no_momentum", 1, (const int64_t[]){1}, false));
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    cr_assert(vx_ckpt_add(&c, c.tensors[0].name, 1, (const int64_t[]){1}, true));
    refuse_to_write(&c, path);
    cr_assert(sample_fill(&c));
    json_object_set_new(c.history, "loss", json_integer(3));
    refuse_to_write(&c, path);
    cr_assert_null(vx_ckpt_add(&c, "x", 6, (const int64_t[]){1, 1, 1, 1, 1, 1}, true));
    cr_assert_null(vx_ckpt_add(&c, "x", 3, (const int64_t[]){1 << 30, 1 << 30, 1 << 30}, true));
    cr_assert_null(vx_ckpt_add(&c, "x", 1, (const int64_t[]){0}, true));
    vx_ckpt_release(&c);
}

/* A snapshot stays what it was while the original goes on, and later snapshots reuse its memory. */
Test(checkpoint, copies_for_a_writer_thread) {
    struct vx_err e = {0};
    struct vx_ckpt c, snapshot;
    cr_assert(sample_fill(&c));
    vx_ckpt_init(&snapshot);
    expect_ok(vx_ckpt_copy(&snapshot, &c, &e));
    same_checkpoint(&c, &snapshot);
    const float *memory = snapshot.tensors[0].param;
    c.tensors[0].param[5] = 99.0f;
    json_array_append_new(json_object_get(c.history, "train_loss"), json_real(7));
    cr_assert_neq(snapshot.tensors[0].param[5], 99.0f);
    cr_assert_eq(json_array_size(json_object_get(snapshot.history, "train_loss")), 2);
    c.k++;
    expect_ok(vx_ckpt_copy(&snapshot, &c, &e));
    same_checkpoint(&c, &snapshot);
    cr_assert_eq(snapshot.tensors[0].param, memory);
    cr_assert(vx_ckpt_add(&c, "more", 1, (const int64_t[]){3}, true));
    expect_ok(vx_ckpt_copy(&snapshot, &c, &e));
    same_checkpoint(&c, &snapshot);
    vx_ckpt_release(&c);
    vx_ckpt_release(&snapshot);
}

Test(checkpoint, a_failed_write_leaves_the_old_file) {
    struct vx_err e = {0};
    struct vx_ckpt c, back;
    vx_auto_free char *path = temp_file("old");
    vx_auto_free char *tmp = vx_strf("%s.tmp.%d", path, (int)getpid());
    cr_assert(sample_fill(&c));
    expect_ok(vx_ckpt_write(path, &c, &e));
    cr_assert_eq(vx_mkdirs(tmp, 0755, &e),
                 VX_OK); /* the temporary name cannot be opened for writing */
    c.k = 1000;
    cr_assert_neq(vx_ckpt_write(path, &c, &e), VX_OK);
    rmdir(tmp);
    expect_ok(vx_ckpt_read(path, &back, &e));
    cr_assert_eq(back.k, 412);
    vx_ckpt_release(&back);
    vx_ckpt_release(&c);
    unlink(path);
}

Test(checkpoint, newer_formats_are_named) {
    struct vx_err e = {0};
    struct vx_ckpt c;
    vx_auto_free char *path = temp_file("newer");
    static const char text[] = "{\"format\":2}";
    char hex[VX_SHA256_HEX], file[512] = {0};
    vx_sha256_hex(text, strlen(text), hex);
    uint64_t n =
        (uint64_t)snprintf(file + 8, sizeof file - 8,
                           "{\"__metadata__\":{\"format\":\"2\",\"voxeld\":\"{\\\"format\\\":2}\","
                           "\"voxeld_sha256\":\"%s\"}}",
                           hex);
    memcpy(file, &n, 8);
    put(path, file, 8 + n);
    cr_assert_eq(vx_ckpt_read(path, &c, &e), VX_E_UNSUPPORTED, "%s", e.text);
    cr_assert_str_eq(e.where, path);
    unlink(path);
}

Test(checkpoint, environments) {
    char why[128];
    vx_auto_json json_t *a = json_pack("{s:s,s:i}", "isa", "avx2", "threads", 2);
    vx_auto_json json_t *b = json_pack("{s:i,s:s}", "threads", 2, "isa", "avx2");
    cr_assert(vx_ckpt_same_environment(a, b, why, sizeof why));
    json_object_set_new(b, "threads", json_integer(4));
    cr_assert_not(vx_ckpt_same_environment(a, b, why, sizeof why));
    cr_assert_str_eq(why, "threads was 2, is 4");
    json_object_set_new(b, "threads", json_integer(2));
    json_object_set_new(b, "device", json_string("cpu"));
    cr_assert_not(vx_ckpt_same_environment(a, b, why, sizeof why));
    cr_assert_str_eq(why, "device was absent, is \"cpu\"");
}
