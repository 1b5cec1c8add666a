#include "db/support.h"

#include "db/dataset.h"
#include "db/epoch.h"
#include "db/event.h"
#include "db/schema.h"

#include <math.h>

static struct vx_db *raw_open(const char *path) {
    struct vx_db *db = NULL;
    cr_assert_eq(vx_sql_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db, NULL), VX_OK);
    return db;
}

Test(db_schema, upgrades_from_every_version_keep_the_rows) {
    const char *extra = "ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';";
    const char *steps[8] = {0};
    size_t n = vx_db_steps_count;
    memcpy(steps, vx_db_steps, n * sizeof *steps);
    steps[n] = extra;
    struct fixture f = fixture_open();
    for (size_t from = 0; from <= n; from++) {
        char *path = vx_strf("%s/v%zu.db", f.dir, from);
        struct vx_db *db = raw_open(path);
        cr_assert_eq(vx_db_migrate(db, steps, from, NULL), VX_OK);
        cr_assert_eq(number(db, "PRAGMA user_version"), (int64_t)from);
        if (from > 0) {
            cr_assert_eq(
                vx_sql_exec(db,
                            "INSERT INTO jobs(type, spec, spec_version, created_ms, updated_ms) "
                            "VALUES('train', '{}', 1, 5, 5)",
                            NULL),
                VX_OK);
        }
        cr_assert_eq(vx_db_migrate(db, steps, n + 1, NULL), VX_OK);
        cr_assert_eq(vx_db_migrate(db, steps, n + 1, NULL), VX_OK); /* a second time does nothing */
        cr_assert_eq(number(db, "PRAGMA user_version"), (int64_t)n + 1);
        cr_assert_eq(number(db, "SELECT count(*) FROM jobs WHERE colour = 'grey'"), from > 0);
        vx_db_close(db);
        free(path);
    }
    fixture_close(&f);
}

Test(db_schema, a_step_that_fails_leaves_the_version_before) {
    struct fixture f = fixture_open();
    char *path = vx_strf("%s/bad.db", f.dir);
    struct vx_db *db = raw_open(path);
    const char *steps[] = {vx_db_steps[0], "CREATE TABLE half(x); CREATE TABLE half(x);"};
    struct vx_err err = {0};
    cr_assert_lt(vx_db_migrate(db, steps, 2, &err), 0);
    cr_assert(strstr(err.text, "version 2"), "%s", err.text);
    cr_assert_eq(number(db, "PRAGMA user_version"), 1);
    cr_assert_eq(number(db, "SELECT count(*) FROM sqlite_master WHERE name = 'half'"), 0);
    vx_db_close(db);
    free(path);
    fixture_close(&f);
}

Test(db_schema, newer_foreign_and_damaged_files_are_refused) {
    struct fixture f = fixture_open();
    struct vx_store *store = NULL;
    struct vx_err err = {0};
    char *newer = vx_strf("%s/newer.db", f.dir);
    struct vx_db *db = raw_open(newer);
    cr_assert_eq(vx_db_migrate(db, vx_db_steps, vx_db_steps_count, NULL), VX_OK);
    cr_assert_eq(vx_sql_exec(db, "PRAGMA user_version = 99", NULL), VX_OK);
    vx_db_close(db);
    cr_assert_eq(vx_store_open(newer, &store, &err), VX_E_UNSUPPORTED);
    cr_assert_str_eq(err.reason, "newer_schema");
    cr_assert_str_eq(err.where, newer);
    char *foreign = vx_strf("%s/foreign.db", f.dir);
    db = raw_open(foreign);
    cr_assert_eq(vx_sql_exec(db, "CREATE TABLE mail(x)", NULL), VX_OK);
    vx_db_close(db);
    cr_assert_eq(vx_store_open(foreign, &store, &err), VX_E_CORRUPT);
    cr_assert_str_eq(err.reason, "not_a_database");
    char *text = vx_strf("%s/text.db", f.dir);
    char junk[8192];
    memset(junk, 'x', sizeof junk);
    cr_assert_eq(vx_write_file_atomic(text, junk, sizeof junk, 0600, NULL), VX_OK);
    cr_assert_eq(vx_store_open(text, &store, &err), VX_E_CORRUPT);
    cr_assert_str_eq(err.reason, "not_a_database");
    char *missing = vx_strf("%s/no/such/folder.db", f.dir);
    cr_assert_eq(vx_store_open(missing, &store, &err), VX_E_NOT_FOUND);
    free(newer), free(foreign), free(text), free(missing);
    fixture_close(&f);
}

Test(db_schema, network_file_systems_are_known) {
    cr_assert_str_eq(vx_db_network_fs(0x6969), "NFS");
    cr_assert_str_eq(vx_db_network_fs((long)0xFF534D42), "CIFS");
    cr_assert_str_eq(vx_db_network_fs((long)(int)0xFF534D42),
                     "CIFS"); /* as a signed 32-bit field */
    cr_assert_str_eq(vx_db_network_fs((long)0xFE534D42), "SMB2");
    cr_assert_str_eq(vx_db_network_fs(0x65735546), "FUSE");
    cr_assert_null(vx_db_network_fs(0xEF53));     /* ext4 */
    cr_assert_null(vx_db_network_fs(0x01021994)); /* tmpfs */
    cr_assert_null(vx_db_network_fs(0x794C7630)); /* overlay */
}

/* ---- epochs, data sets ---- */

static int epoch_op(struct vx_db *db, void *arg, struct vx_err *err) {
    return vx_db_epoch_add(db, arg, err);
}

Test(db_epoch, rows_come_back_and_are_replaced) {
    struct fixture f = fixture_open();
    int64_t id = insert_job(f.store, 0);
    char dice[] = "[0.5,0.25]", phases[] = "{\"compute\":1.5}";
    struct vx_epoch e = {.job_id = id,
                         .epoch = 0,
                         .ts_ms = 9,
                         .train_loss = 0.5,
                         .val_loss = NAN,
                         .ema = 0.375,
                         .lr = 0.01,
                         .seconds = 2,
                         .loader_wait = 0.125,
                         .dice = dice,
                         .phases = phases};
    for (int i = 0; i < 3; i++) {
        e.epoch = i;
        cr_assert_eq(vx_store_call(f.store, epoch_op, &e, NULL), VX_OK);
    }
    e.epoch = 1;
    e.train_loss = -INFINITY;
    cr_assert_eq(vx_store_call(f.store, epoch_op, &e, NULL), VX_OK);
    struct vx_epoch_list list;
    cr_assert_eq(vx_db_epochs(f.reader, id, 1, 10, &list, NULL), VX_OK);
    cr_assert_eq(list.n, 2);
    cr_assert(list.v[0].epoch == 1 && isnan(list.v[0].train_loss) && isnan(list.v[0].val_loss));
    cr_assert(list.v[1].epoch == 2 && list.v[1].train_loss == 0.5 && list.v[1].ema == 0.375);
    cr_assert_str_eq(list.v[1].dice, dice);
    cr_assert_str_eq(list.v[1].phases, phases);
    vx_epoch_list_release(&list);
    struct vx_event_list events;
    cr_assert_eq(vx_db_events_since(f.reader, id, 0, 10, &events, NULL), VX_OK);
    cr_assert_eq(events.n, 5);
    cr_assert_str_eq(events.v[1].type, "epoch");
    cr_assert_str_eq(
        events.v[1].data,
        "{\"epoch\":0,\"ts_ms\":9,\"train_loss\":0.5,\"val_loss\":null,\"ema\":0.375,\"lr\":0.01,"
        "\"seconds\":2.0,\"loader_wait\":0.125,\"dice\":[0.5,0.25],\"phases\":{\"compute\":1.5}}");
    vx_event_list_release(&events);
    e.job_id = 77;
    cr_assert_eq(vx_store_call(f.store, epoch_op, &e, NULL), VX_E_INVALID, "no such job");
    fixture_close(&f);
}

struct dataset_args {
    const char *name, *path;
    struct vx_dataset_change change;
};

static int register_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct dataset_args *a = arg;
    return vx_db_dataset_register(db, a->name, a->path, err);
}

static int dataset_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct dataset_args *a = arg;
    return vx_db_dataset_update(db, a->name, &a->change, err);
}

Test(db_dataset, register_update_and_register_again) {
    struct fixture f = fixture_open();
    struct dataset_args a = {"Dataset004_Hippocampus", "/data/a", {0}};
    struct vx_err err = {0};
    cr_assert_eq(vx_store_call(f.store, register_op, &a, NULL), VX_OK);
    cr_assert_eq(vx_store_call(f.store, register_op, &a, &err), VX_E_EXISTS);
    cr_assert_str_eq(err.reason, "already_registering");
    a.change = (struct vx_dataset_change){
        .state = VX_DATASET_READY, .report = "{\"cases\":200}", .plans = "{}"};
    cr_assert_eq(vx_store_call(f.store, dataset_op, &a, NULL), VX_OK);
    a.change = (struct vx_dataset_change){.state = VX_DATASET_INVALID,
                                          .reason_code = "missing_files",
                                          .reason_message = "two are missing"};
    cr_assert_eq(vx_store_call(f.store, dataset_op, &a, NULL), VX_OK);
    struct vx_dataset d;
    cr_assert_eq(vx_db_dataset_get(f.reader, a.name, &d, NULL), VX_OK);
    cr_assert_eq(d.state, VX_DATASET_INVALID);
    cr_assert_str_eq(d.report, "{\"cases\":200}");
    cr_assert_null(d.fingerprint);
    cr_assert_str_eq(d.reason_code, "missing_files");
    cr_assert_eq(d.version, 3);
    vx_dataset_release(&d);
    a.path = "/data/b";
    cr_assert_eq(vx_store_call(f.store, register_op, &a, NULL), VX_OK);
    struct dataset_args b = {"Dataset001_A", "/data/c", {0}};
    cr_assert_eq(vx_store_call(f.store, register_op, &b, NULL), VX_OK);
    struct vx_dataset_list list;
    cr_assert_eq(vx_db_dataset_list(f.reader, NULL, 10, &list, NULL), VX_OK);
    cr_assert_eq(list.n, 2);
    cr_assert_str_eq(list.v[0].name, "Dataset001_A");
    cr_assert_str_eq(list.v[1].path, "/data/b");
    cr_assert_eq(list.v[1].state, VX_DATASET_REGISTERING);
    cr_assert_str_eq(list.v[1].reason_code, "");
    vx_dataset_list_release(&list);
    cr_assert_eq(vx_db_dataset_list(f.reader, "Dataset001_A", 10, &list, NULL), VX_OK);
    cr_assert_eq(list.n, 1);
    vx_dataset_list_release(&list);
    b.name = "Nothing";
    cr_assert_eq(vx_store_call(f.store, dataset_op, &b, NULL), VX_E_NOT_FOUND);
    fixture_close(&f);
}
