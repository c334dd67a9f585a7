/* What caches a dataset or cache file holds, for `data info`. */
#include "dataset.h"

#include "h5.h"

#include <stdio.h>
#include <string.h>

typedef struct Listing {
    CacheListed each;
    void *arg;
    const char *key;
} Listing;

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

/* One array of a key; hashes and checks belong to the array beside them. */
static herr_t list_name(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    const Listing *l = arg;
    (void)info;
    if (ends_with(name, "_hash") || ends_with(name, "_check"))
        return 0;
    const hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    if (set < 0)
        return 0;
    const hid_t space = H5Dget_space(set);
    hsize_t dims[2] = {0, 0};
    if (H5Sget_simple_extent_ndims(space) == 2 && H5Sget_simple_extent_dims(space, dims, NULL) == 2)
        l->each(l->key, name, (size_t)dims[0], (size_t)dims[1], l->arg);
    H5Sclose(space);
    H5Dclose(set);
    return 0;
}

static herr_t list_key(hid_t caches, const char *key, const H5L_info_t *info, void *arg)
{
    Listing *l = arg;
    (void)info;
    const hid_t group = H5Gopen2(caches, key, H5P_DEFAULT);
    if (group < 0)
        return 0;
    l->key = key;
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, list_name, l);
    H5Gclose(group);
    return 0;
}

Status cache_list(const char *path, CacheListed each, void *arg)
{
    hid_t file = -1;
    h5_begin();
    const Status s = h5_open(path, H5F_ACC_RDONLY, &file);
    if (s == STATUS_OK && h5_exists(file, "/cache")) {
        const hid_t caches = H5Gopen2(file, "/cache", H5P_DEFAULT);
        Listing l = {each, arg, NULL};
        if (caches >= 0) {
            H5Literate(caches, H5_INDEX_NAME, H5_ITER_INC, NULL, list_key, &l);
            H5Gclose(caches);
        }
    }
    if (file >= 0)
        H5Fclose(file);
    return h5_end(s);
}
