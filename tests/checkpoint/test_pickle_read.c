/* The unpickler: plain values from what Python and torch write; everything else is refused by name,
 * and no pickle makes it use more than it may. */
#include "checkpoint/pickle_read.h"
#include "checkpoint/pickle_write.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static struct vx_py_tree *load(const char *data, size_t n) {
    struct vx_err e = {0};
    struct vx_py_tree *t = NULL;
    int rc = vx_pickle_read(data, n, &t, &e);
    cr_assert_eq(rc, VX_OK, "%s", e.text);
    return t;
}
#define LOAD(text) load(text, sizeof(text) - 1)

static void expect_json(struct vx_py_tree *t, const char *want) {
    vx_auto_json json_t *doc = vx_py_json(vx_py_root(t));
    vx_auto_free char *got = json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY);
    cr_assert_str_eq(got, want);
    vx_py_free(t);
}

static void expect_refused(const char *data, size_t n, int code, const char *reason,
                           const char *word) {
    struct vx_err e = {0};
    struct vx_py_tree *t = NULL;
    cr_assert_eq(vx_pickle_read(data, n, &t, &e), code, "%s: %s", reason, e.text);
    cr_assert_str_eq(e.reason, reason, "%s: %s", e.reason, e.text);
    cr_assert(strstr(e.text, word), "%s lacks %s", e.text, word);
    cr_assert_null(t);
}
#define REFUSED(text, code, reason, word) expect_refused(text, sizeof(text) - 1, code, reason, word)
#define BAD(text, word)                   REFUSED(text, VX_E_CORRUPT, "bad_pickle", word)

Test(checkpoint_unpickle, reads_what_the_writer_writes) {
    const char *doc = "{\"b\":[1,true,null,false,-1,70000,5000000000,-1.5],\"a\":{\"\\u00e9\":[]}}";
    struct vx_pickle p = VX_PICKLE_INIT;
    struct vx_err e = {0};
    vx_auto_free char *bytes = NULL;
    size_t len = 0;
    vx_auto_json json_t *value = json_loads(doc, 0, NULL);
    vx_pickle_json(&p, value);
    cr_assert_eq(vx_pickle_finish(&p, &bytes, &len, &e), VX_OK);
    struct vx_py_tree *t = load(bytes, len);
    vx_auto_json json_t *back = vx_py_json(vx_py_root(t));
    cr_assert(json_equal(value, back));
    cr_assert_str_eq(json_object_iter_key(json_object_iter(back)), "b");
    vx_py_free(t);
}

Test(checkpoint_unpickle, python_3_protocols) {
    /* pickle.dumps({"a": (1, -2, 3.5), 7: [None, True, b"x"]}, 2), and 4 */
    expect_json(
        LOAD("\x80\x02}q\x00(X\x01\x00\x00\x00"
             "aq\x01K\x01J\xfe\xff\xff\xffG@\x0c\x00\x00\x00\x00\x00\x00\x87q\x02K\x07]q"
             "\x03(N\x88"
             "c_codecs\nencode\nq\x04X\x01\x00\x00\x00xq\x05X\x06\x00\x00\x00latin1q\x06\x86"
             "q\x07Rq\x08"
             "eu."),
        "{\"a\":[1,-2,3.5],\"7\":[null,true,null]}");
    expect_json(LOAD("\x80\x04\x95\x24\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01"
                     "a\x94K\x01J\xfe\xff\xff\xffG@\x0c\x00\x00\x00\x00\x00\x00\x87\x94K\x07]\x94("
                     "N\x88"
                     "C\x01x\x94"
                     "eu."),
                "{\"a\":[1,-2,3.5],\"7\":[null,true,null]}");
}

#define F8                                                                                         \
    "cnumpy\ndtype\nX\x02\x00\x00\x00"                                                             \
    "f8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
#define LATIN1(n, bytes) "c_codecs\nencode\nX" n "\x00\x00\x00" bytes "X\x06\x00\x00\x00latin1\x86R"

Test(checkpoint_unpickle, numpy_scalars_of_both_module_names) {
    expect_json(LOAD("\x80\x02"
                     "cnumpy._core.multiarray\nscalar\n" F8 LATIN1(
                         "\x09", "\x00\x00\x00\x00\x00\x00\xc3\xa0?") "\x86R."),
                "0.5");
    expect_json(LOAD("\x80\x02"
                     "cnumpy.core.multiarray\nscalar\n"
                     "cnumpy\ndtype\nX\x02\x00\x00\x00i2\x89\x88\x87R" LATIN1(
                         "\x03", "\xc3\xbe\x7f") "\x86R."),
                "32766");
    expect_json(
        LOAD("\x80\x02"
             "cnumpy.core.multiarray\nscalar\n"
             "cnumpy\ndtype\nX\x02\x00\x00\x00i1\x89\x88\x87R" LATIN1("\x02", "\xc3\xbe") "\x86R."),
        "-2");
    BAD("\x80\x02"
        "cnumpy.core.multiarray\nscalar\n" F8 LATIN1("\x02", "ab") "\x86R.",
        "scalar");
    BAD("\x80\x02"
        "cnumpy\ndtype\nX\x02\x00\x00\x00"
        "f8\x89\x88\x87R(K\x03X\x01\x00\x00\x00>tb.",
        "little endian");
    REFUSED("\x80\x02"
            "cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R.",
            VX_E_UNSUPPORTED, "foreign_class", "O8");
}

#define ARRAY                                                                                      \
    "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" LATIN1("\x01", "b") "\x87R"
#define U1 "cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R"

Test(checkpoint_unpickle, numpy_arrays_are_nested_lists) {
    expect_json(
        LOAD("\x80\x02" ARRAY "(K\x01K\x02K\x03\x86" U1 "\x89" LATIN1("\x06", "ABCDEF") "tb."),
        "[[65,66,67],[68,69,70]]");
    expect_json(
        LOAD("\x80\x02" ARRAY "(K\x01K\x02K\x03\x86" U1 "\x88" LATIN1("\x06", "ABCDEF") "tb."),
        "[[65,67,69],[66,68,70]]");
    expect_json(LOAD("\x80\x02" ARRAY "(K\x01\x8a\x06\x00\x00\x00\x00\x00\x40K\x00\x86" U1
                     "\x89" LATIN1("\x00", "") "tb."),
                "[]");
    BAD("\x80\x02" ARRAY "(K\x01K\x02K\x04\x86" U1 "\x89" LATIN1("\x06", "ABCDEF") "tb.", "fewer");
    BAD("\x80\x02" ARRAY "(K\x01K\x02K\x02\x86" U1 "\x89" LATIN1("\x06", "ABCDEF") "tb.", "more");
    BAD("\x80\x02" ARRAY
        "(K\x01\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x8a\x08\x00\x00\x00\x00\x00"
        "\x00\x00\x40\x86" U1 "\x89" LATIN1("\x06", "ABCDEF") "tb.",
        "fewer");
}

#define STORAGE(n)                                                                                 \
    "(X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x00"                              \
    "5X\x03\x00\x00\x00"                                                                           \
    "cpu" n "tQ"
#define REBUILD(storage, offset, size, stride)                                                     \
    "\x80\x02"                                                                                     \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride "\x89"                       \
    "ccollections\nOrderedDict\n)RtR."

Test(checkpoint_unpickle, tensors_lie_in_their_storage) {
    struct vx_py_tree *t =
        LOAD(REBUILD(STORAGE("K\x0c"), "K\x02", "K\x02K\x03\x86", "K\x03K\x01\x86"));
    const struct vx_py *v = vx_py_root(t);
    cr_assert_eq(v->kind, VX_PY_TENSOR);
    cr_assert_eq(v->tensor->storage->dtype, VX_PY_F16);
    cr_assert_str_eq(v->tensor->storage->key, "5");
    cr_assert(v->tensor->storage->n == 12 && v->tensor->offset == 2 && v->tensor->rank == 2);
    cr_assert(v->tensor->shape[1] == 3 && v->tensor->stride[0] == 3);
    vx_py_free(t);
    vx_py_free(LOAD(REBUILD(STORAGE("K\x0c"), "K\x06", "K\x02K\x03\x86", "K\x03K\x01\x86")));
    vx_py_free(LOAD(REBUILD(STORAGE("K\x00"), "K\x00", "K\x00\x85", "K\x01\x85")));
    vx_py_free(LOAD(REBUILD(STORAGE("K\x01"), "K\x00", ")", ")")));
    const char *what = "tensor_outside_storage";
#define OUTSIDE(n, offset, size, stride)                                                           \
    REFUSED(REBUILD(STORAGE(n), offset, size, stride), VX_E_CORRUPT, what, "storage 5")
    OUTSIDE("K\x0c", "K\x07", "K\x02K\x03\x86", "K\x03K\x01\x86");
    OUTSIDE("K\x0c", "J\xff\xff\xff\xff", "K\x02\x85", "K\x01\x85");
    OUTSIDE("K\x0c", "K\x0c", ")", ")");
    OUTSIDE("K\x0c", "K\x00", "K\x03\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85");
    BAD(REBUILD(STORAGE("K\x0c"), "K\x00", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
                "K\x00\x85"),
        "more elements");
    BAD(REBUILD(STORAGE("K\x0c"), "K\x00", "J\xff\xff\xff\xff\x85", "K\x01\x85"), "arguments");
    BAD(REBUILD(STORAGE("K\x0c"), "K\x00", "K\x02\x85", "K\x01K\x01\x86"), "arguments");
    BAD(REBUILD(STORAGE("J\xff\xff\xff\xff"), "K\x00", ")", ")"), "size");
    BAD(REBUILD("K\x05", "K\x00", ")", ")"), "arguments");
    BAD("\x80\x02(X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x04\x00\x00\x00../"
        "xX\x03\x00\x00\x00"
        "cpuK\x01tQ.",
        "key");
    BAD("\x80\x02X\x01\x00\x00\x00xQ.", "persistent");
}

Test(checkpoint_unpickle, torch_device_size_dtype_and_parameter) {
    expect_json(LOAD("\x80\x02(ctorch\ndevice\nX\x04\x00\x00\x00"
                     "cudaK\x01\x86R"
                     "ctorch\nSize\nK\x02K\x03\x86\x85Rt."),
                "[\"cuda:1\",[2,3]]");
    struct vx_py_tree *t =
        LOAD("\x80\x02"
             "ctorch._utils\n_rebuild_parameter\n"
             "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE("K\x04") "K\x00K\x04\x85K\x01\x85\x89N"
                                                                     "tR\x88N\x87R.");
    cr_assert_eq(vx_py_root(t)->kind, VX_PY_TENSOR);
    vx_py_free(t);
}

Test(checkpoint_unpickle, foreign_opcodes_are_named) {
    REFUSED("\x80\x02(S'x'\no.", VX_E_UNSUPPORTED, "foreign_opcode", "STRING");
    REFUSED("\x80\x02(iposix\nsystem\n.", VX_E_UNSUPPORTED, "foreign_opcode", "INST");
    REFUSED("\x80\x02(N\x81.", VX_E_UNSUPPORTED, "foreign_opcode", "NEWOBJ");
    REFUSED("\x80\x02\x82\x01.", VX_E_UNSUPPORTED, "foreign_opcode", "EXT1");
    REFUSED("\x80\x02N0.", VX_E_UNSUPPORTED, "foreign_opcode", "POP");
    REFUSED("\x80\x02I1\n.", VX_E_UNSUPPORTED, "foreign_opcode", "INT");
    REFUSED("\x80\x05\x97.", VX_E_UNSUPPORTED, "foreign_opcode", "NEXT_BUFFER");
    REFUSED("\x80\x09N.", VX_E_UNSUPPORTED, "foreign_opcode", "protocol 9");
    BAD("\x80\x02\xff.", "0xff");
}

Test(checkpoint_unpickle, foreign_classes_are_named) {
    REFUSED("\x80\x02"
            "cposix\nsystem\nX\x02\x00\x00\x00id\x85R.",
            VX_E_UNSUPPORTED, "foreign_class", "posix.system");
    REFUSED("\x80\x04\x8c\x08"
            "builtins\x8c\x04"
            "eval\x93.",
            VX_E_UNSUPPORTED, "foreign_class", "builtins.eval");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v3\n.",
            VX_E_UNSUPPORTED, "foreign_class", "_rebuild_tensor_v3");
    REFUSED("\x80\x02"
            "cos\nsys\x01tem\x1b[1m\n.",
            VX_E_UNSUPPORTED, "foreign_class", "os.sys?tem?[1m");
    BAD("\x80\x02"
        "ctorch\nFloatStorage\n)R.",
        "no function");
    BAD("\x80\x02"
        "ccollections\nOrderedDict\nNR.",
        "no tuple");
    BAD("\x80\x02"
        "ccollections\nOrderedDict\nN\x85R.",
        "arguments");
    BAD("\x80\x02]]b.", "no state");
}

Test(checkpoint_unpickle, cut_short_at_every_byte) {
    static const char whole[] = "\x80\x02}(X\x01\x00\x00\x00"
                                "a" F8 "X\x01\x00\x00\x00"
                                "b(K\x01M\x01\x00\x8a\x01\x05G\x00\x00\x00\x00\x00\x00\x00\x00tu.";
    vx_py_free(LOAD(whole));
    for (size_t n = 0; n + 1 < sizeof whole - 1; n++) {
        struct vx_err e = {0};
        struct vx_py_tree *t = NULL;
        cr_assert_eq(vx_pickle_read(whole, n, &t, &e), VX_E_CORRUPT, "%zu", n);
        cr_assert_str_eq(e.reason, "bad_pickle");
    }
}

Test(checkpoint_unpickle, broken_stacks) {
    BAD("\x80\x02.", "other than one value");
    BAD("\x80\x02NN.", "other than one value");
    BAD("\x80\x02(N.", "other than one value");
    BAD("\x80\x02N", "without STOP");
    BAD("\x80\x02(e.", "empty stack");
    BAD("\x80\x02t.", "not begun");
    BAD("\x80\x02N(\x85.", "empty stack");
    BAD("\x80\x02Ns.", "empty stack");
    BAD("\x80\x02](Nu.", "no dict");
    BAD("\x80\x02}(Nu.", "no dict");
    BAD("\x80\x02}(Ne.", "no list");
    BAD("\x80\x02}(NNu.", "key");
    BAD("\x80\x02h\x05.", "not remember");
    BAD("\x80\x02q\x05.", "empty stack");
    BAD("\x80\x02X\x01\x00\x00\x00\xff.", "UTF-8");
    REFUSED("\x80\x02Nr\xff\xff\xff\xff.", VX_E_LIMIT, "pickle_too_large", "remembers");
    REFUSED("\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", VX_E_LIMIT, "pickle_too_large",
            "64 bits");
    BAD("\x80\x02X\xff\xff\xff\xff.", "within a value");
}

Test(checkpoint_unpickle, values_that_contain_themselves) {
    BAD("\x80\x02]q\x00h\x00"
        "a.",
        "itself");
    BAD("\x80\x02]q\x00]q\x01h\x00"
        "ah\x00h\x01"
        "a.",
        "part of another");
    BAD("\x80\x02}q\x00"
        "K\x01h\x00s.",
        "itself");
}

/* Before the end of the stack's memory: 100 levels of lists, and lists that double 60 times. */
Test(checkpoint_unpickle, depth_and_expansion_have_limits) {
    struct vx_err e = {0};
    struct vx_buf deep = VX_BUF_INIT, wide = VX_BUF_INIT;
    struct vx_py_tree *t = NULL;
    vx_buf_add(&deep, "\x80\x02N", 3);
    for (int i = 0; i < 100; i++) {
        vx_buf_add(&deep, "\x85", 1);
    }
    vx_buf_add(&deep, ".", 1);
    cr_assert_eq(vx_pickle_read(deep.data, deep.len, &t, &e), VX_E_LIMIT);
    cr_assert(strstr(e.text, "deep"));
    vx_buf_add(&wide, "\x80\x02]", 3);
    for (int i = 0; i < 60; i++) {
        vx_buf_add(&wide, "q\x00h\x00\x86", 5);
    }
    vx_buf_add(&wide, ".", 1);
    cr_assert_eq(vx_pickle_read(wide.data, wide.len, &t, &e), VX_E_LIMIT);
    cr_assert(strstr(e.text, "too many values"));
    vx_buf_release(&deep);
    vx_buf_release(&wide);
}

/* Marks, stack and garbage: none of them grows with the pickle for ever. */
Test(checkpoint_unpickle, memory_has_limits) {
    enum { N = 48 << 20 };
    struct vx_err e = {0};
    struct vx_py_tree *t = NULL;
    vx_auto_free char *p = malloc(N);
    memset(p, '(', N);
    cr_assert_eq(vx_pickle_read(p, N, &t, &e), VX_E_LIMIT);
    memset(p, 'N', N);
    cr_assert_eq(vx_pickle_read(p, N, &t, &e), VX_E_LIMIT);
    for (size_t i = 0; i < N; i++) {
        p[i] = i == 0 ? '}' : i % 2 ? '}' : 'b';
    }
    cr_assert_eq(vx_pickle_read(p, N, &t, &e), VX_E_LIMIT);
    cr_assert_eq(vx_pickle_read(p, VX_PY_MAX_BYTES + 1, &t, &e), VX_E_LIMIT);
    cr_assert_null(t);
}
