/* Caches into a dataset file, for `data build --cache`: array by array, because H5Ocopy crashes where a write
 * fails. */
#include "data/dataset/dataset.h"

#include "kernels/base/mem.h"
#include "cache_walk.h"

#include <stdio.h>

#define PATH_SIZE 160 /* of a name inside the file */
#define COPY_BYTES ((hsize_t)16 << 20)

/* Rows `first` to `first + rows` of one array to the other's. */
static bool copy_rows(hid_t from, hid_t to, hid_t type, hsize_t first, hsize_t rows, hsize_t width,
                      void *buffer)
{
    const hsize_t start[2] = {first, 0}, count[2] = {rows, width};
    const hid_t memory = H5Screate_simple(2, count, NULL);
    const hid_t in = H5Dget_space(from), out = H5Dget_space(to);
    H5Sselect_hyperslab(in, H5S_SELECT_SET, start, NULL, count, NULL);
    H5Sselect_hyperslab(out, H5S_SELECT_SET, start, NULL, count, NULL);
    const bool ok = H5Dread(from, type, memory, in, H5P_DEFAULT, buffer) >= 0 &&
                    H5Dwrite(to, type, memory, out, H5P_DEFAULT, buffer) >= 0;
    H5Sclose(memory);
    H5Sclose(in);
    H5Sclose(out);
    return ok;
}

typedef struct Copy {
    hid_t to;
    const char *from_path, *to_path;
    Status status;
} Copy;

/* set as an array at path, rows of bytes or floats. */
static Status copy_array(const Copy *c, hid_t set, const char *path)
{
    const hid_t list = h5_create_list(), type = H5Dget_type(set), space = H5Dget_space(set);
    const hid_t to = H5Dcreate2(c->to, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    hsize_t dims[2] = {0, 0};
    bool ok = to >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
              H5Sget_simple_extent_dims(space, dims, NULL) == 2;
    const hsize_t row = dims[1] * H5Tget_size(type), rows = row && row < COPY_BYTES ? COPY_BYTES / row : 1;
    void *buffer = mem_alloc(row * rows);
    for (hsize_t i = 0; ok && buffer && i < dims[0]; i += rows)
        ok = copy_rows(set, to, type, i, dims[0] - i < rows ? dims[0] - i : rows, dims[1], buffer);
    Status s = !buffer ? STATUS_FAILED : ok ? STATUS_OK : h5_fail(c->to_path, "cannot be written");
    if (to >= 0 && H5Dclose(to) < 0 && s == STATUS_OK)
        s = h5_fail(c->to_path, "cannot be written");
    mem_free(buffer);
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

Status dataset_add_caches(const char *dataset, const char *cache)
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
