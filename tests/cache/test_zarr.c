/* zarr-python, version 3 or later, reads the store. */
#include "fixture.h"
#include "support/skip.h"

#include <dirent.h>

static void dump(const char *dir, const char *name, const void *data, size_t bytes) {
    vx_auto_free char *path = vx_strf("%s/%s.bin", dir, name);
    cr_assert_eq(vx_write_file_atomic(path, data, bytes, 0644, NULL), VX_OK);
}

static char *only_case(const char *store) {
    vx_auto_free char *cases = vx_strf("%s/cases", store);
    DIR *d = opendir(cases);
    char *found = NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (strchr(e->d_name, '~')) {
            found = strdup(e->d_name);
        }
    }
    closedir(d);
    return found;
}

static void read_back(const char *python, struct fixture_case *f) {
    char *dir = fixture_dir("zarr");
    char *store = fixture_store(dir, f, 1);
    vx_auto_free char *folder = only_case(store);
    const int64_t *n = f->data.info.shape;
    size_t voxels = (size_t)(n[0] * n[1] * n[2]);
    size_t places = (size_t)(f->classes[0].n_locations + f->classes[1].n_locations);
    dump(dir, "image", f->image, voxels * (size_t)f->data.info.n_channels * sizeof *f->image);
    dump(dir, "seg", f->seg, voxels * sizeof *f->seg);
    dump(dir, "locations", f->locations, places * sizeof *f->locations);
    vx_auto_free char *command =
        vx_strf("'%s' tests/cache/read_zarr.py '%s' '%s' '%s'", python, store, folder, dir);
    cr_assert_eq(system(command), 0, "%s", command);
    fixture_release(f);
    fixture_remove(dir, store);
}

Test(cache_zarr, zarr_python_reads_the_store) {
    const char *venv = getenv("VOXELD_VENV");
    vx_auto_free char *python = vx_strf("%s/bin/python", venv ? venv : ".venv");
    vx_auto_free char *probe = vx_strf(
        "'%s' -c 'import zarr; assert int(zarr.__version__.split(\".\")[0]) >= 3' 2>/dev/null",
        python);
    if (system(probe) != 0) {
        vx_skip("zarr", "no zarr-python 3 in %s (pip install zarr there)", venv ? venv : ".venv");
    }
    struct fixture_case a = fixture_case("odd", 2, 37, 70, 33, 1);
    read_back(python, &a);
    /* few values, and chunks of one value: coded in other ways than the metadata's */
    struct fixture_case c = fixture_case("steps", 1, 64, 70, 66, 3);
    for (int64_t i = 0; i < 64 * 70 * 66; i++) {
        c.image[i] = i < 64 * 70 * 40 ? -0.7f : (float)(i * i % 11) * 0.3f;
    }
    read_back(python, &c);
    struct fixture_case b = fixture_case("empty", 1, 11, 12, 13, 2);
    memset(b.image, 0, 11 * 12 * 13 * sizeof *b.image);
    b.classes[0].n_locations = b.classes[1].n_locations = 0;
    b.data.locations = NULL;
    read_back(python, &b);
}
