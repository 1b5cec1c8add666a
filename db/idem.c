#include "base/clock.h"
#include "base/err.h"
#include "db/job.h"
#include "db/sql.h"

#include <string.h>

#define KEEP_MS (7 * 24 * 3600 * (int64_t)1000)

int vx_db_idem_find(struct vx_db *db, const struct vx_idem *idem, int64_t *ret_id,
                    struct vx_err *err) {
    sqlite3_stmt *s = NULL;
    int rc =
        vx_sql_query(db,
                     "SELECT result_id, digest = ?3 FROM idempotency WHERE scope = ?1 AND key = ?2 "
                     "AND created_ms >= ?4",
                     &s, err, "sssi", idem->scope, idem->key, idem->digest,
                     (sqlite3_int64)(vx_wall_ms() - KEEP_MS));
    rc = rc == VX_OK ? vx_sql_next(db, s, err) : rc;
    if (rc != 1) {
        return rc == 0 ? vx_fail(err, VX_E_NOT_FOUND, NULL, "this key was not used yet") : rc;
    }
    int64_t id = sqlite3_column_int64(s, 0);
    bool same = sqlite3_column_int(s, 1) != 0;
    sqlite3_reset(s);
    if (!same) {
        return vx_fail(
            err, VX_E_EXISTS, "idempotency_key_reused",
            "this Idempotency-Key came with another body before; use a new key for a new request");
    }
    *ret_id = id;
    return VX_OK;
}

int vx_db_idem_store(struct vx_db *db, const struct vx_idem *idem, int64_t id, struct vx_err *err) {
    int64_t now = vx_wall_ms();
    int rc = vx_sql_run(db, "DELETE FROM idempotency WHERE created_ms < ?1", err, "i",
                        (sqlite3_int64)(now - KEEP_MS));
    if (rc != VX_OK) {
        return rc;
    }
    return vx_sql_run(db,
                      "INSERT INTO idempotency(scope, key, digest, result_id, created_ms) "
                      "VALUES(?1, ?2, ?3, ?4, ?5)",
                      err, "sssii", idem->scope, idem->key, idem->digest, (sqlite3_int64)id,
                      (sqlite3_int64)now);
}
