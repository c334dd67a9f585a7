/* Caches into a dataset file, for `data build --cache`: array by array, because H5Ocopy crashes where a write
 * fails. */
#include "dataset.h"

#include "../kernels/mem.h"
#include "h5.h"

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
    const char *to_path, *key;
    Status status;
} Copy;

/* One array of a cache, with its group made if it is the first. */
static Status copy_array(const Copy *c, const char *folder, hid_t group, const char *name, const char *path)
{
    TRY(h5_make_group(c->to, c->to_path, "/cache"));
    TRY(h5_make_group(c->to, c->to_path, folder));
    const hid_t from = H5Dopen2(group, name, H5P_DEFAULT), list = h5_create_list();
    const hid_t type = H5Dget_type(from), space = H5Dget_space(from);
    const hid_t to = H5Dcreate2(c->to, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    hsize_t dims[2] = {0, 0};
    bool ok = to >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
              H5Sget_simple_extent_dims(space, dims, NULL) == 2;
    const hsize_t row = dims[1] * H5Tget_size(type), rows = row && row < COPY_BYTES ? COPY_BYTES / row : 1;
    void *buffer = mem_alloc(row * rows);
    for (hsize_t i = 0; ok && buffer && i < dims[0]; i += rows)
        ok = copy_rows(from, to, type, i, dims[0] - i < rows ? dims[0] - i : rows, dims[1], buffer);
    Status s = !buffer ? STATUS_FAILED : ok ? STATUS_OK : h5_fail(c->to_path, "cannot be written");
    if (to >= 0 && H5Dclose(to) < 0 && s == STATUS_OK)
        s = h5_fail(c->to_path, "cannot be written");
    mem_free(buffer);
    H5Sclose(space);
    H5Tclose(type);
    H5Pclose(list);
    H5Dclose(from);
    return s;
}

/* An array of the key's group. */
static herr_t copy_name(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    (void)info;
    Copy *c = arg;
    char folder[PATH_SIZE], path[PATH_SIZE];
    snprintf(folder, sizeof folder, "/cache/%s", c->key);
    snprintf(path, sizeof path, "/cache/%s/%s", c->key, name);
    c->status = copy_array(c, folder, group, name, path);
    return c->status == STATUS_OK ? 0 : -1;
}

static herr_t copy_key(hid_t caches, const char *key, const H5L_info_t *info, void *arg)
{
    (void)info;
    Copy *c = arg;
    const hid_t group = H5Gopen2(caches, key, H5P_DEFAULT);
    if (group < 0)
        return 0;
    c->key = key;
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_name, c);
    H5Gclose(group);
    return c->status == STATUS_OK ? 0 : -1;
}

static Status copy_caches(hid_t from, hid_t to, const char *to_path)
{
    Copy c = {.to = to, .to_path = to_path};
    if (!h5_exists(from, "/cache"))
        return STATUS_OK;
    const hid_t caches = H5Gopen2(from, "/cache", H5P_DEFAULT);
    if (caches < 0)
        return h5_fail(to_path, "its cache cannot be read");
    H5Literate(caches, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_key, &c);
    H5Gclose(caches);
    return c.status;
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
    if (s == STATUS_OK)
        s = copy_caches(from, to, dataset);
    if (from >= 0)
        H5Fclose(from);
    if (s == STATUS_OK) /* else it is left alone (h5_close): nobody wants it */
        s = h5_close(dataset, to);
    return h5_end(s);
}
