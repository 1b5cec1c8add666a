#include "db/schema.h"
#include "base/err.h"
#include "db/sql.h"

#include <stdbool.h>
#include <stdio.h>

/* Version 1. job_transitions is the state machine; the triggers below make it binding. State events
 * are written by triggers as well, so that no transition can go unseen. `state` is set in an UPDATE
 * only for a real transition. */
static const char step1[] =
    "CREATE TABLE job_transitions("
    "  old TEXT NOT NULL, new TEXT NOT NULL, PRIMARY KEY(old, new)) STRICT, WITHOUT ROWID;"
    "INSERT INTO job_transitions(old, new) VALUES"
    "  ('queued','preparing'),('queued','cancelled'),('queued','paused'),('queued','failed'),"
    "  ('preparing','ready'),('preparing','succeeded'),('preparing','failed'),"
    "  ('preparing','cancelling'),('preparing','pausing'),('preparing','queued'),"
    "  "
    "('ready','running'),('ready','queued'),('ready','cancelled'),('ready','paused'),('ready','"
    "failed'),"
    "  ('running','succeeded'),('running','failed'),('running','cancelling'),('running','pausing'),"
    "  ('running','ready'),('running','queued'),"
    "  ('pausing','paused'),('pausing','succeeded'),('pausing','failed'),('pausing','cancelling'),"
    "  ('paused','queued'),('paused','cancelled'),"
    "  ('cancelling','cancelled'),('cancelling','succeeded'),('cancelling','failed');"
    "CREATE TABLE jobs("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  type TEXT NOT NULL,"
    "  spec TEXT NOT NULL CHECK(json_valid(spec)),"
    "  spec_version INTEGER NOT NULL,"
    "  dataset TEXT NOT NULL DEFAULT '',"
    "  configuration TEXT NOT NULL DEFAULT '',"
    "  fold TEXT NOT NULL DEFAULT '',"
    "  results_name TEXT NOT NULL DEFAULT '',"
    "  state TEXT NOT NULL DEFAULT 'queued' CHECK(state IN ('queued','preparing','ready','running',"
    "    'pausing','paused','cancelling','succeeded','failed','cancelled')),"
    "  phase TEXT NOT NULL DEFAULT '',"
    "  reason_code TEXT NOT NULL DEFAULT '',"
    "  reason_message TEXT NOT NULL DEFAULT '',"
    "  priority INTEGER NOT NULL DEFAULT 0,"
    "  crashes INTEGER NOT NULL DEFAULT 0,"
    "  checkpoint_k INTEGER NOT NULL DEFAULT -1,"
    "  created_ms INTEGER NOT NULL,"
    "  updated_ms INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL DEFAULT 0,"
    "  finished_ms INTEGER NOT NULL DEFAULT 0,"
    "  version INTEGER NOT NULL DEFAULT 1,"
    "  progress TEXT CHECK(progress IS NULL OR json_valid(progress)),"
    "  result TEXT CHECK(result IS NULL OR json_valid(result))) STRICT;"
    "CREATE INDEX jobs_queue ON jobs(state, priority DESC, id);"
    "CREATE INDEX jobs_dataset ON jobs(dataset, id);"
    "CREATE TABLE events("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  job_id INTEGER REFERENCES jobs(id) ON DELETE CASCADE,"
    "  ts_ms INTEGER NOT NULL,"
    "  type TEXT NOT NULL,"
    "  data TEXT NOT NULL CHECK(json_valid(data))) STRICT;"
    "CREATE INDEX events_job ON events(job_id, id);"
    "CREATE TABLE epochs("
    "  job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,"
    "  epoch INTEGER NOT NULL CHECK(epoch >= 0),"
    "  ts_ms INTEGER NOT NULL,"
    "  train_loss REAL, val_loss REAL, ema REAL, lr REAL, seconds REAL, loader_wait REAL,"
    "  dice TEXT NOT NULL CHECK(json_valid(dice)),"
    "  phases TEXT NOT NULL CHECK(json_valid(phases)),"
    "  PRIMARY KEY(job_id, epoch)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE datasets("
    "  name TEXT PRIMARY KEY,"
    "  state TEXT NOT NULL CHECK(state IN ('registering','ready','invalid')),"
    "  path TEXT NOT NULL,"
    "  reason_code TEXT NOT NULL DEFAULT '',"
    "  reason_message TEXT NOT NULL DEFAULT '',"
    "  report TEXT CHECK(report IS NULL OR json_valid(report)),"
    "  fingerprint TEXT CHECK(fingerprint IS NULL OR json_valid(fingerprint)),"
    "  plans TEXT CHECK(plans IS NULL OR json_valid(plans)),"
    "  created_ms INTEGER NOT NULL,"
    "  updated_ms INTEGER NOT NULL,"
    "  version INTEGER NOT NULL DEFAULT 1) STRICT;"
    "CREATE TABLE idempotency("
    "  scope TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL,"
    "  result_id INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    "  PRIMARY KEY(scope, key)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX idempotency_age ON idempotency(created_ms);"
    "CREATE TRIGGER job_first_state BEFORE INSERT ON jobs WHEN NEW.state <> 'queued' BEGIN"
    "  SELECT RAISE(ABORT, 'a new job must be in state queued'); END;"
    "CREATE TRIGGER job_next_state BEFORE UPDATE OF state ON jobs"
    "  WHEN NOT EXISTS(SELECT 1 FROM job_transitions WHERE old = OLD.state AND new = NEW.state) "
    "BEGIN"
    "  SELECT RAISE(ABORT, 'a job cannot make this transition'); END;"
    "CREATE TRIGGER job_created AFTER INSERT ON jobs BEGIN"
    "  INSERT INTO events(job_id, ts_ms, type, data) VALUES(NEW.id, NEW.created_ms, 'state',"
    "    json_object('state', NEW.state, 'previous', NULL, 'phase', NEW.phase,"
    "      'reason_code', NEW.reason_code, 'reason_message', NEW.reason_message)); END;"
    "CREATE TRIGGER job_changed AFTER UPDATE OF state ON jobs BEGIN"
    "  INSERT INTO events(job_id, ts_ms, type, data) VALUES(NEW.id, NEW.updated_ms, 'state',"
    "    json_object('state', NEW.state, 'previous', OLD.state, 'phase', NEW.phase,"
    "      'reason_code', NEW.reason_code, 'reason_message', NEW.reason_message)); END;"
    "CREATE TRIGGER dataset_created AFTER INSERT ON datasets BEGIN"
    "  INSERT INTO events(job_id, ts_ms, type, data) VALUES(NULL, NEW.updated_ms, 'dataset',"
    "    json_object('name', NEW.name, 'state', NEW.state)); END;"
    "CREATE TRIGGER dataset_changed AFTER UPDATE OF state ON datasets BEGIN"
    "  INSERT INTO events(job_id, ts_ms, type, data) VALUES(NULL, NEW.updated_ms, 'dataset',"
    "    json_object('name', NEW.name, 'state', NEW.state)); END;"
    "PRAGMA application_id = 1987601506;"; /* VX_DB_APPLICATION_ID */

/* Version 2: what telemetry measures and the tuner does. */
static const char step2[] =
    "CREATE TABLE samples("
    "  job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,"
    "  step INTEGER NOT NULL CHECK(step IN (1, 10, 60)),"
    "  ts_ms INTEGER NOT NULL,"
    "  data TEXT NOT NULL CHECK(json_valid(data)),"
    "  PRIMARY KEY(job_id, step, ts_ms)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE tuning("
    "  job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,"
    "  n INTEGER NOT NULL CHECK(n > 0),"
    "  ts_ms INTEGER NOT NULL,"
    "  ended_ms INTEGER NOT NULL DEFAULT 0,"
    "  who TEXT NOT NULL CHECK(who IN ('tuner','user','daemon')),"
    "  knob TEXT NOT NULL,"
    "  from_value TEXT NOT NULL, to_value TEXT NOT NULL,"
    "  why TEXT NOT NULL,"
    "  outcome TEXT NOT NULL CHECK(outcome IN ('trial','kept','reverted','applied','advised')),"
    "  predicted REAL, measured REAL, noise REAL,"
    "  PRIMARY KEY(job_id, n)) STRICT, WITHOUT ROWID;";

const char *const vx_db_steps[] = {step1, step2};
const size_t vx_db_steps_count = sizeof vx_db_steps / sizeof vx_db_steps[0];

/* PRAGMA values by a statement of its own: pragmas are not worth a place in the cache. */
static int pragma_int(struct vx_db *db, const char *text, long long *ret, struct vx_err *err) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db->handle, text, -1, &stmt, NULL);
    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(stmt, 0);
        sqlite3_finalize(stmt);
        return VX_OK;
    }
    rc = vx_sql_fail(db, err, "cannot read the schema's version");
    sqlite3_finalize(stmt);
    return rc;
}

static int run_step(struct vx_db *db, const char *step, size_t to, struct vx_err *err) {
    char version[64];
    snprintf(version, sizeof version, "PRAGMA user_version = %zu", to);
    int rc = vx_sql_exec(db, "BEGIN EXCLUSIVE", err);
    if (rc != VX_OK) {
        return rc;
    }
    rc = vx_sql_exec(db, step, err);
    if (rc == VX_OK) {
        rc = vx_sql_exec(db, version, err);
    }
    if (rc == VX_OK) {
        rc = vx_sql_exec(db, "COMMIT", err);
    }
    if (rc != VX_OK) {
        if (!sqlite3_get_autocommit(db->handle)) {
            sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        }
        vx_err_prefix(err, "upgrading the database to version %zu", to);
    }
    return rc;
}

int vx_db_migrate(struct vx_db *db, const char *const *steps, size_t n, struct vx_err *err) {
    long long version = 0, application = 0, tables = 0;
    int rc = pragma_int(db, "PRAGMA user_version", &version, err);
    if (rc == VX_OK) {
        rc = pragma_int(db, "PRAGMA application_id", &application, err);
    }
    if (rc == VX_OK) {
        rc = pragma_int(db, "SELECT count(*) FROM sqlite_master", &tables, err);
    }
    if (rc != VX_OK) {
        return rc;
    }
    bool ours = version == 0 ? tables == 0 : application == VX_DB_APPLICATION_ID;
    if (!ours) {
        return vx_fail(err, VX_E_CORRUPT, "not_a_database",
                       "the file is a database of another program (application id %lld)",
                       application);
    }
    if (version > (long long)n) {
        return vx_fail(
            err, VX_E_UNSUPPORTED, "newer_schema",
            "the database has version %lld, this voxeld knows versions up to %zu: use the newer "
            "voxeld that made it, or another state folder",
            version, n);
    }
    for (size_t i = (size_t)version; i < n; i++) {
        rc = run_step(db, steps[i], i + 1, err);
        if (rc != VX_OK) {
            return rc;
        }
    }
    return VX_OK;
}
