/* Inside this room and its tests only: the schema as a list of steps; step i leads from version i
 * to i + 1 (PRAGMA user_version). A released step is never edited: a change is a new step at the
 * end of the list in schema.c, and a test of the upgrade from each earlier version. */
#ifndef VX_DB_SCHEMA_H
#define VX_DB_SCHEMA_H

#include <stddef.h>

struct vx_db;
struct vx_err;

/* "vxdb": how a voxeld database is told from any other SQLite file. */
#define VX_DB_APPLICATION_ID 0x76786462

extern const char *const vx_db_steps[];
extern const size_t vx_db_steps_count;

/* Brings the file to version n by steps, each in a transaction of its own. VX_E_UNSUPPORTED
 * "newer_schema" for a higher version, VX_E_CORRUPT "not_a_database" for a file of another program.
 */
int vx_db_migrate(struct vx_db *db, const char *const *steps, size_t n, struct vx_err *err);

/* The name of a network or shared file system by its statfs magic; NULL for a local one. */
const char *vx_db_network_fs(long magic);
/* VX_E_UNSUPPORTED "network_file_system" where path's folder lies on one. */
int vx_db_check_fs(const char *path, struct vx_err *err);

#endif
