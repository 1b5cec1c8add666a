/* What the daemon writes: the state folder, briefs, logs, pictures, published results. */
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "daemon/home.h"
#include "daemon/results/publish.h"
#include "daemon/results/recorder.h"
#include "daemon/session/brief.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder(void) {
    char *dir = strdup("/tmp/voxeld-files-XXXXXX");
    cr_assert(mkdtemp(dir));
    return dir;
}

static void put(const char *dir, const char *name, const char *text) {
    vx_auto_free char *path = vx_strf("%s/%s", dir, name);
    cr_assert_eq(vx_write_file_atomic(path, text, strlen(text), 0644, NULL), VX_OK);
}

static char *get(const char *dir, const char *name) {
    vx_auto_free char *path = vx_strf("%s/%s", dir, name);
    char *text = NULL;
    size_t len;
    cr_assert_eq(vx_read_file(path, 1 << 24, &text, &len, NULL), VX_OK, "%s", path);
    return text;
}

Test(daemon_files, token_is_made_once_and_private) {
    vx_auto_free char *dir = folder();
    struct vx_home a, b;
    cr_assert_eq(vx_home_open(dir, &a, NULL), VX_OK);
    cr_assert_eq(strlen(a.token), 64);
    vx_auto_free char *path = vx_strf("%s/token", dir);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    vx_home_close(&a);
    cr_assert_eq(vx_home_open(dir, &b, NULL), VX_OK);
    cr_assert_str_eq(a.token, b.token);
    vx_home_close(&b);
    vx_remove_tree(dir, NULL);
}

Test(daemon_files, second_daemon_is_refused_with_the_pid) {
    vx_auto_free char *dir = folder();
    struct vx_home a, b;
    struct vx_err err = {0};
    char pid[32];
    cr_assert_eq(vx_home_open(dir, &a, NULL), VX_OK);
    cr_assert_eq(vx_home_open(dir, &b, &err), VX_E_BUSY);
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    cr_assert_str_eq(err.reason, "state_locked");
    cr_assert(strstr(err.text, pid), "%s", err.text);
    vx_home_close(&a);
    vx_remove_tree(dir, NULL);
}

static struct vx_brief example(void) {
    return (struct vx_brief){.job_id = 42,
                             .dir = "/s/jobs/42",
                             .dataset = "Dataset004_Hippocampus",
                             .configuration = "3d_fullres",
                             .fold = "all",
                             .name = "voxeld",
                             .raw_dir = "/raw",
                             .cache_dir = "/pre/voxeld/KEY",
                             .results_root = "/results",
                             .device = "cpu:0",
                             .precision = "auto",
                             .replace = true,
                             .channels = 2,
                             .classes = 3,
                             .patch = {40, 56, 48},
                             .schedule = {2, 250, 50, 1000},
                             .seed = 0x7fffffffffffffffull,
                             .learning_rate = 0.01,
                             .momentum = 0.99,
                             .weight_decay = 3e-5,
                             .checkpoint_seconds = 60,
                             .threads = 2,
                             .nice = 10,
                             .workers = 3,
                             .workers_max = 8,
                             .slots = 18,
                             .window = 12,
                             .keep_files_open = 1,
                             .spec = json_pack("{s:s}", "type", "train"),
                             .recipe = json_pack("{s:i}", "version", 1),
                             .plans = json_object(),
                             .dataset_json = json_object(),
                             .pretrained = "/results/x.pth"};
}

/* The texts of the example are literals; only its JSON is owned. */
static void release_example(struct vx_brief *b) {
    json_decref(b->spec);
    json_decref(b->recipe);
    json_decref(b->plans);
    json_decref(b->dataset_json);
}

Test(daemon_files, threads_of_a_brief) {
    const struct vx_brief cpu = {.device = "auto", .threads = 3},
                          gpu = {.device = "cuda:1", .threads = 3};
    cr_expect_eq(vx_brief_threads(&cpu, NULL), 3);
    cr_expect_eq(vx_brief_threads(&cpu, "cpu"), 3);
    cr_expect_eq(vx_brief_threads(&cpu, "cuda:0"), 1);
    cr_expect_eq(vx_brief_threads(&gpu, NULL), 1);
    cr_expect_eq(vx_brief_threads(&gpu, "cpu:0"), 3);
}

Test(daemon_files, brief_round_trip) {
    vx_auto_free char *dir = folder();
    vx_auto_free char *path = vx_strf("%s/session.json", dir);
    struct vx_brief a = example(), *b = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_brief_write(path, &a, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_brief_read(path, &b, &err), VX_OK, "%s", err.text);
    cr_assert_eq(b->job_id, 42);
    cr_assert_str_eq(b->fold, "all");
    cr_assert_str_eq(b->cache_dir, "/pre/voxeld/KEY");
    cr_assert(b->replace);
    cr_assert_eq(b->patch[0], 40);
    cr_assert_eq(b->patch[1], 56);
    cr_assert_eq(b->patch[2], 48);
    cr_assert_eq(b->schedule.batch, 2);
    cr_assert_eq(b->schedule.train_iterations, 250);
    cr_assert_eq(b->schedule.val_iterations, 50);
    cr_assert_eq(b->schedule.epochs, 1000);
    cr_assert_eq(b->seed, 0x7fffffffffffffffull);
    cr_assert_eq(b->weight_decay, 3e-5); /* numbers survive exactly */
    cr_assert_eq(b->slots, 18);
    cr_assert_str_eq(b->pretrained, "/results/x.pth");
    cr_assert(json_equal(a.spec, b->spec));
    vx_brief_free(b);
    a.pretrained = NULL; /* as in every brief of earlier versions */
    cr_assert_eq(vx_brief_write(path, &a, &err), VX_OK, "%s", err.text);
    cr_assert_eq(vx_brief_read(path, &b, &err), VX_OK, "%s", err.text);
    cr_assert_null(b->pretrained);
    vx_brief_free(b);
    release_example(&a);
    vx_remove_tree(dir, NULL);
}

Test(daemon_files, brief_names_the_field_that_is_wrong) {
    vx_auto_free char *dir = folder();
    vx_auto_free char *path = vx_strf("%s/session.json", dir);
    struct vx_brief a = example(), *b = NULL;
    cr_assert_eq(vx_brief_write(path, &a, NULL), VX_OK);
    vx_auto_json json_t *o = NULL;
    cr_assert_eq(vx_json_load_file(path, 1 << 20, &o, NULL), VX_OK);
    json_object_set_new(o, "momentum", json_string("high"));
    cr_assert_eq(vx_json_write_file(path, o, NULL), VX_OK);
    struct vx_err err = {0};
    cr_assert_eq(vx_brief_read(path, &b, &err), VX_E_CORRUPT);
    cr_assert(strstr(err.text, "momentum"), "%s", err.text);
    json_object_set_new(o, "format", json_integer(99));
    cr_assert_eq(vx_json_write_file(path, o, NULL), VX_OK);
    cr_assert_eq(vx_brief_read(path, &b, &err), VX_E_UNSUPPORTED);
    release_example(&a);
    vx_remove_tree(dir, NULL);
}

static json_t *epoch(int n, double ema, bool best) {
    return json_pack("{s:s, s:i, s:f, s:f, s:[f,n], s:f, s:f, s:b, s:f, s:f}", "event", "epoch",
                     "epoch", n, "train_loss", -0.25, "val_loss", -0.5, "dice", 0.75, "mean_dice",
                     0.75, "ema_dice", ema, "is_best", best, "lr", 0.01, "seconds", 12.5);
}

Test(daemon_files, log_has_nnunet_lines_and_epochs_are_kept) {
    vx_auto_free char *dir = folder();
    struct vx_recorder *r = NULL;
    cr_assert_eq(vx_recorder_open(dir, &r, NULL), VX_OK);
    vx_auto_json json_t *first = epoch(0, 0.5, true);
    vx_auto_json json_t *second = epoch(1, 0.6, false);
    vx_recorder_line(r, first);
    vx_recorder_line(r, second);
    vx_recorder_close(r);
    cr_assert_eq(vx_recorder_open(dir, &r, NULL), VX_OK); /* goes on after what is there */
    cr_assert_eq(vx_recorder_draw(r, NULL), VX_OK);
    vx_recorder_close(r);
    vx_auto_free char *log = get(dir, "log.txt");
    static const char *const lines[] = {": Epoch 0\n",
                                        ": Current learning rate: 0.01000\n",
                                        ": train_loss -0.2500\n",
                                        ": val_loss -0.5000\n",
                                        ": Pseudo dice [0.7500, nan]\n",
                                        ": Epoch time: 12.50 s\n",
                                        ": New best EMA pseudo Dice: 0.5000\n",
                                        ": Epoch 1\n"};
    for (size_t i = 0; i < VX_COUNTOF(lines); i++) {
        cr_expect(strstr(log, lines[i]), "%s not in %s", lines[i], log);
    }
    cr_expect_null(strstr(log, "EMA pseudo Dice: 0.6"));
    vx_auto_free char *png = get(dir, "progress.png");
    cr_expect_arr_eq(png, "\x89PNG\r\n\x1a\n", 8);
    vx_remove_tree(dir, NULL);
}

static void fill_job(const char *dir) {
    put(dir, "plans.json", "{}");
    put(dir, "dataset.json", "{}");
    put(dir, "checkpoint_final.safetensors", "final");
    put(dir, "checkpoint_final.pth", "pth");
    put(dir, "log.txt", "2026-01-02 03:04:05.000000: Epoch 0\n");
    vx_auto_free char *validation = vx_strf("%s/validation", dir);
    cr_assert_eq(vx_mkdirs(validation, 0755, NULL), VX_OK);
    put(validation, "summary.json", "{\"a\": 1}");
}

Test(daemon_files, publish_is_whole_and_keeps_what_was_there) {
    vx_auto_free char *root = folder();
    vx_auto_free char *job_dir = vx_strf("%s/job", root);
    vx_auto_free char *results = vx_strf("%s/results", root);
    cr_assert_eq(vx_mkdirs(job_dir, 0755, NULL), VX_OK);
    fill_job(job_dir);
    vx_auto_json json_t *job = json_pack("{s:i}", "id", 7);
    struct vx_publish p = {job_dir,
                           {results, "Dataset001_X", "voxeld", "nnUNetPlans", "3d_fullres", "0"},
                           7,
                           false,
                           job};
    vx_auto_free char *path = NULL;
    struct vx_err err = {0};
    cr_assert_eq(vx_publish(&p, &path, &err), VX_OK, "%s", err.text);
    cr_assert(strstr(path, "/results/Dataset001_X/voxeld__nnUNetPlans__3d_fullres/fold_0"), "%s",
              path);
    static const char *const files[] = {"plans.json",
                                        "dataset.json",
                                        "checkpoint_final.safetensors",
                                        "checkpoint_best.safetensors",
                                        "checkpoint_final.pth",
                                        "checkpoint_best.pth",
                                        "validation/summary.json",
                                        "voxeld_job.json",
                                        "training_log_2026_1_2_03_04_05.txt",
                                        "../plans.json"};
    for (size_t i = 0; i < VX_COUNTOF(files); i++) {
        vx_auto_free char *file = vx_strf("%s/%s", path, files[i]);
        cr_expect(vx_path_exists(file), "%s", file);
    }
    vx_auto_free char *again = NULL;
    cr_assert_eq(vx_publish(&p, &again, &err), VX_OK); /* the same job after a crash: fine */
    vx_auto_json json_t *other = json_pack("{s:i}", "id", 8);
    p.job = other;
    p.job_id = 8;
    cr_assert_eq(vx_publish(&p, &again, &err), VX_E_EXISTS);
    cr_assert_str_eq(err.reason, "result_exists");
    p.replace = true;
    free(vx_steal(again));
    cr_assert_eq(vx_publish(&p, &again, &err), VX_OK, "%s", err.text);
    vx_auto_free char *kept = vx_strf("%s.7/validation/summary.json", path);
    cr_assert(vx_path_exists(kept));
    vx_auto_free char *mark = get(path, "voxeld_job.json");
    cr_assert(strstr(mark, "8"));
    vx_remove_tree(root, NULL);
}

/* nnU-Net's predictor reads the model's plans.json: a fold that stands alone brings its own,
 * further folds leave it. */
Test(daemon_files, publish_keeps_the_models_plan_true) {
    vx_auto_free char *root = folder();
    vx_auto_free char *job_dir = vx_strf("%s/job", root);
    vx_auto_free char *model = vx_strf("%s/Dataset001_X/voxeld__nnUNetPlans__2d", root);
    struct vx_err err = {0};
    cr_assert_eq(vx_mkdirs(job_dir, 0755, NULL), VX_OK);
    fill_job(job_dir);
    static const char *const folds[] = {"0", "0", "1", "0"};
    static const char *const plans[] = {"{\"a\": 1}", "{\"a\": 2}", "{\"a\": 3}", "{\"a\": 4}"};
    static const char *const want[] = {"{\"a\": 1}", "{\"a\": 2}", "{\"a\": 2}", "{\"a\": 2}"};
    for (int i = 0; i < 4; i++) {
        vx_auto_json json_t *job = json_pack("{s:i}", "id", i);
        struct vx_publish p = {
            job_dir, {root, "Dataset001_X", "voxeld", "nnUNetPlans", "2d", folds[i]}, i, true, job};
        vx_auto_free char *path = NULL;
        put(job_dir, "plans.json", plans[i]);
        cr_assert_eq(vx_publish(&p, &path, &err), VX_OK, "%s", err.text);
        vx_auto_free char *own = get(path, "plans.json");
        vx_auto_free char *models = get(model, "plans.json");
        cr_assert_str_eq(own, plans[i]);
        cr_assert_str_eq(models, want[i]);
    }
    vx_remove_tree(root, NULL);
}

Test(daemon_files, publish_leaves_nothing_half_done) {
    vx_auto_free char *root = folder();
    vx_auto_free char *job_dir = vx_strf("%s/job", root);
    cr_assert_eq(vx_mkdirs(job_dir, 0755, NULL), VX_OK);
    put(job_dir, "plans.json", "{}");
    put(job_dir, "dataset.json", "{}");
    vx_auto_json json_t *job = json_pack("{s:i}", "id", 7);
    struct vx_publish p = {
        job_dir, {root, "Dataset001_X", "voxeld", "nnUNetPlans", "3d_fullres", "0"}, 7, false, job};
    vx_auto_free char *path = NULL;
    vx_auto_free char *fold = vx_publish_path(&p.place);
    struct vx_err err = {0};
    cr_assert_eq(vx_publish(&p, &path, &err), VX_E_NOT_FOUND);
    cr_assert(strstr(err.text, "checkpoint_final"), "%s", err.text);
    cr_assert_not(vx_path_exists(fold));
    vx_remove_tree(root, NULL);
}
