/* Network and cluster file systems by their statfs magic. SQLite's WAL keeps its index in memory
 * shared through the file: on these it is wrong without any error (sqlite.org/wal.html, "all
 * processes ... on the same host"). */
#include "base/err.h"
#include "base/own.h"
#include "db/schema.h"

#include <errno.h>
#include <libgen.h>
#include <string.h>
#include <sys/vfs.h>

static const struct {
    unsigned long magic;
    const char *name;
} network[] = {
    {0x6969, "NFS"},          {0x517B, "SMB"},      {0xFF534D42, "CIFS"},   {0xFE534D42, "SMB2"},
    {0x65735546, "FUSE"},     {0x01021997, "9P"},   {0x5346414F, "AFS"},    {0x00C36400, "Ceph"},
    {0x0BD00BD0, "Lustre"},   {0x47504653, "GPFS"}, {0x19830326, "BeeGFS"}, {0x73757245, "Coda"},
    {0x7461636F, "OCFS2"},    {0x01161970, "GFS2"}, {0x564C, "NCP"},        {0xAAD7AAEA, "PanFS"},
    {0x20030528, "OrangeFS"},
};

const char *vx_db_network_fs(long magic) {
    /* f_type is signed on some architectures; only 32 bits of it mean anything. */
    unsigned long word = (unsigned long)magic & 0xFFFFFFFFul;
    for (size_t i = 0; i < VX_COUNTOF(network); i++) {
        if (network[i].magic == word) {
            return network[i].name;
        }
    }
    return NULL;
}

int vx_db_check_fs(const char *path, struct vx_err *err) {
    vx_auto_free char *copy = strdup(path);
    if (!copy) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    struct statfs fs;
    const char *folder = dirname(copy);
    if (statfs(folder, &fs) != 0) {
        return vx_fail_errno(err, errno, folder, "cannot read the file system of %s", folder);
    }
    const char *name = vx_db_network_fs(fs.f_type);
    if (!name) {
        return VX_OK;
    }
    vx_fail(err, VX_E_UNSUPPORTED, "network_file_system",
            "%s lies on %s: the database (SQLite in WAL mode) is unsafe there; choose a state "
            "folder on a local "
            "disk with --state",
            folder, name);
    return vx_err_at(err, "%s", folder), VX_E_UNSUPPORTED;
}
