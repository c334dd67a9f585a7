/* Caches into a dataset file, for `data build --cache`: array by array, because H5Ocopy crashes where a write
 * fails. */
#include "cache.h"

#include "kernels/base/mem.h"
#include "cache_walk.h"

#include <stdio.h>

#define PATH_SIZE 160 /* of a name inside the file */
#define COPY_BYTES ((hsize_t)16 << 20)

typedef struct Copy {
    hid_t to;
    const char *from_path, *to_path;
    Status status;
} Copy;

static Status copy_rows(const Copy *c, hid_t from, hid_t to, hid_t type, const CacheRows *r)
{
    const hsize_t row = r->width * H5Tget_size(type), most = row && row < COPY_BYTES ? COPY_BYTES / row : 1;
    void *buffer = mem_alloc(row * most);
    Status s = buffer ? STATUS_OK : STATUS_FAILED;
    for (hsize_t i = 0; i < r->dims[0] && s == STATUS_OK; i += most) {
        const hsize_t n = r->dims[0] - i < most ? r->dims[0] - i : most;
        if (!cache_move_rows(from, r, type, i, n, buffer, NULL) ||
            !cache_move_rows(to, r, type, i, n, NULL, buffer))
            s = h5_fail(c->to_path, "cannot be written");
    }
    mem_free(buffer);
    return s;
}

/* set as an array at path, entries of bytes or floats. */
static Status copy_array(const Copy *c, hid_t set, const char *path)
{
    CacheRows r;
    if (!cache_rows(set, &r))
        return status_fail("%s: %s has a shape that no cache has", c->from_path, path);
    const hid_t list = h5_create_list(), type = H5Dget_type(set), space = H5Dget_space(set);
    const hid_t to = H5Dcreate2(c->to, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    Status s = to >= 0 ? copy_rows(c, set, to, type, &r) : h5_fail(c->to_path, "cannot be written");
    if (to >= 0 && H5Dclose(to) < 0 && s == STATUS_OK)
        s = h5_fail(c->to_path, "cannot be written");
    H5Sclose(space);
    H5Tclose(type);
    H5Pclose(list);
    return s;
}

/* With its groups made if it is the first in them. */
static Status copy_to_key(const Copy *c, const char *key, const char *name, hid_t set)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    snprintf(folder, sizeof folder, "/cache/%s", key);
    snprintf(path, sizeof path, "/cache/%s/%s", key, name);
    TRY(h5_make_group(c->to, c->to_path, "/cache"));
    TRY(h5_make_group(c->to, c->to_path, folder));
    return copy_array(c, set, path);
}

/* A cache that was just written is read whole or not at all. */
static bool copy_visited(const char *key, const char *name, hid_t set, void *arg)
{
    Copy *c = arg;
    c->status = set < 0 ? h5_fail(c->from_path, "its cache cannot be read") : copy_to_key(c, key, name, set);
    return c->status == STATUS_OK;
}

Status cache_copy_into(const char *dataset, const char *cache)
{
    hid_t from = -1, to = -1;
    h5_begin();
    Status s = h5_open(cache, H5F_ACC_RDONLY, &from);
    if (s == STATUS_OK)
        s = h5_open(dataset, H5F_ACC_RDWR, &to);
    if (s == STATUS_OK && h5_exists(to, "/cache") && H5Ldelete(to, "/cache", H5P_DEFAULT) < 0)
        s = h5_fail(dataset, "cannot be written");
    Copy c = {.to = to, .from_path = cache, .to_path = dataset};
    if (s == STATUS_OK)
        cache_walk(from, copy_visited, &c);
    s = s == STATUS_OK ? c.status : s;
    if (from >= 0)
        H5Fclose(from);
    if (s == STATUS_OK) /* else it is left alone (h5_close): nobody wants it */
        s = h5_close(dataset, to);
    return h5_end(s);
}
