/* Recipes: their digest names what changes samples, and JSON carries them whole. */
#include "augment/policy.h"
#include "base/err.h"
#include "base/own.h"
#include "loader/recipe.h"

#include <criterion/criterion.h>
#include <string.h>

static const char *const names[] = {"a", "b", "c"};
static const uint32_t train[] = {0, 2}, val[] = {1};

static struct vx_recipe_params params(void) {
    return (struct vx_recipe_params){.dataset = "Dataset001_X",
                                     .cache_key = "k",
                                     .seed = 7,
                                     .cases = names,
                                     .n_cases = 3,
                                     .train = train,
                                     .n_train = 2,
                                     .val = val,
                                     .n_val = 1,
                                     .dims = 3,
                                     .channels = 1,
                                     .batch = 2,
                                     .patch = {40, 56, 40}};
}

static void digest_of(struct vx_recipe_params p, char ret[VX_SHA256_HEX]) {
    struct vx_recipe *r = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK, "%s", err.text);
    memcpy(ret, vx_recipe_view(r)->digest, VX_SHA256_HEX);
    cr_assert_eq(strlen(ret), 64);
    vx_recipe_free(r);
}

Test(loader_recipe, digest_changes_with_everything_that_changes_samples) {
    char base[VX_SHA256_HEX], other[VX_SHA256_HEX];
    digest_of(params(), base);
    digest_of(params(), other);
    cr_assert_str_eq(base, other);
    static const char *const renamed[] = {"a", "b", "d"};
    static const uint32_t swapped[] = {2, 0};
    static const struct vx_quarantine q = {.case_index = 2, .from_k = {10, 1}};
    struct vx_recipe_params p[8];
    for (int i = 0; i < 8; i++) {
        p[i] = params();
    }
    p[0].seed = 8;
    p[1].cases = renamed;
    p[2].train = swapped;
    p[3].batch = 3;
    p[4].patch[1] = 64;
    p[5].augment = VX_AUG_MODE_NONE;
    p[6].oversample = -1;
    p[7].quarantines = &q;
    p[7].n_quarantines = 1;
    for (int i = 0; i < 8; i++) {
        digest_of(p[i], other);
        cr_assert_str_neq(base, other, "change %d", i);
    }
    p[0] = params();
    p[0].oversample = 0.33; /* the default, spelled out */
    digest_of(p[0], other);
    cr_assert_str_eq(base, other);
}

Test(loader_recipe, json_carries_it_whole) {
    static const struct vx_quarantine q = {.case_index = 2, .from_k = {10, 1}};
    struct vx_recipe_params p = params();
    p.quarantines = &q;
    p.n_quarantines = 1;
    p.oversample = -1;
    p.seed = 0xfedcba9876543210ull;
    p.has_ignore = true;
    struct vx_recipe *a = NULL, *b = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_create(&p, &a, &err), VX_OK);
    vx_auto_json json_t *json = vx_recipe_to_json(a);
    vx_auto_free char *text = json_dumps(json, 0);
    vx_auto_json json_t *again = json_loads(text, 0, NULL);
    cr_assert_eq(vx_recipe_from_json(again, &b, &err), VX_OK, "%s", err.text);
    const struct vx_recipe_view *va = vx_recipe_view(a), *vb = vx_recipe_view(b);
    cr_assert_str_eq(va->digest, vb->digest);
    cr_assert_eq(memcmp(va->policy, vb->policy, sizeof *va->policy), 0);
    cr_assert(vb->seed == p.seed && vb->oversample == 0 && vb->has_ignore);
    cr_assert(vb->n_quarantines == 1 && vb->quarantines[0].from_k[0] == 10);
    vx_recipe_free(a);
    vx_recipe_free(b);
}

static json_t *rows_of(const struct vx_recipe *r) {
    vx_auto_json json_t *json = vx_recipe_to_json(r);
    return json_incref(json_object_get(json, "quarantines"));
}

Test(loader_recipe, other_quarantines_and_nothing_else) {
    static const struct vx_quarantine q[] = {{.case_index = 2, .from_k = {10, 1}},
                                             {.case_index = 0, .from_j = {1, 0}, .from_k = {3, 4}}};
    struct vx_recipe_params p = params();
    struct vx_recipe *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    struct vx_err err = {0};
    p.oversample = -1;
    p.has_ignore = true;
    cr_assert_eq(vx_recipe_create(&p, &a, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_recipe_with(a, q, 2, &b, &err), VX_OK, "%s", err.text);
    cr_assert_str_neq(vx_recipe_view(a)->digest, vx_recipe_view(b)->digest);
    vx_auto_json json_t *rows = rows_of(b);
    vx_auto_free char *text = json_dumps(rows, JSON_COMPACT);
    cr_assert_str_eq(text, "[[2,10,1],[0,3,4,1,0]]");
    vx_auto_json json_t *json = vx_recipe_to_json(b);
    cr_assert_eq(vx_recipe_from_json(json, &c, &err), VX_OK, "%s", err.text);
    const struct vx_quarantine *back = vx_recipe_view(c)->quarantines;
    cr_assert(back[1].from_j[0] == 1 && back[1].from_j[1] == 0 && back[1].from_k[1] == 4);
    cr_assert_str_eq(vx_recipe_view(b)->digest, vx_recipe_view(c)->digest);
    cr_assert_eq(vx_recipe_with(c, NULL, 0, &d, &err), VX_OK);
    cr_assert_str_eq(vx_recipe_view(a)->digest, vx_recipe_view(d)->digest);
    struct vx_quarantine far = {.case_index = 99};
    struct vx_recipe *e = NULL;
    cr_assert_eq(vx_recipe_with(a, &far, 1, &e, &err), VX_E_INVALID);
    vx_recipe_free(a);
    vx_recipe_free(b);
    vx_recipe_free(c);
    vx_recipe_free(d);
}

Test(loader_recipe, another_version_of_the_transforms_is_named) {
    struct vx_recipe_params p = params();
    struct vx_recipe *r = NULL, *again = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK, "%s", err.text);
    vx_auto_json json_t *json = vx_recipe_to_json(r);
    json_t *augment = json_object_get(json, "augment");
    json_object_set_new(augment, "version", json_integer(VX_AUG_VERSION - 1));
    cr_assert_eq(vx_recipe_from_json(json, &again, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "recipe_version");
    vx_recipe_free(r);
}

Test(loader_recipe, refuses_what_cannot_be) {
    struct vx_recipe *r = NULL;
    struct vx_err err = {0};
    static const uint32_t far[] = {0, 3};
    struct vx_recipe_params p = params();
    p.train = far;
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_E_INVALID);
    p = params();
    p.batch = 0;
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_E_INVALID);
    p = params();
    p.patch[0] = 0;
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_E_INVALID);
    p = params();
    p.n_train = 0;
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_E_INVALID);
    p = params();
    cr_assert_eq(vx_recipe_create(&p, &r, &err), VX_OK);
    const char *const gone[] = {"cases", "train", "batch",  "augment",
                                "seed",  "place", "format", "dataset"};
    for (size_t i = 0; i < VX_COUNTOF(gone); i++) {
        struct vx_recipe *b = NULL;
        vx_auto_json json_t *json = vx_recipe_to_json(r);
        json_object_del(json, gone[i]);
        cr_assert_neq(vx_recipe_from_json(json, &b, &err), VX_OK, "without %s", gone[i]);
    }
    /* read with half an eye each of these takes out case 0 from the start */
    const char *const rows[] = {"[{}]",         "[[]]",          "[[4294967296, 0, 0]]",
                                "[[0, 1]]",     "[0]",           "[[\"2\", 0, 0]]",
                                "[[2, -1, 0]]", "[[2, 0, 0, 1]]"};
    for (size_t i = 0; i < VX_COUNTOF(rows); i++) {
        struct vx_recipe *b = NULL;
        vx_auto_json json_t *json = vx_recipe_to_json(r);
        json_object_set_new(json, "quarantines", json_loads(rows[i], 0, NULL));
        cr_assert_eq(vx_recipe_from_json(json, &b, &err), VX_E_INVALID, "%s", rows[i]);
    }
    vx_auto_json json_t *json = vx_recipe_to_json(r);
    json_object_set_new(json_object_get(json, "augment"), "zoom_hi", json_real(3));
    cr_assert_eq(vx_recipe_from_json(json, &r, &err), VX_E_INVALID);
    vx_recipe_free(r);
}
