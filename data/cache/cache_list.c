/* What caches a dataset or cache file holds, for `data info`. */
#include "data/dataset/dataset.h"

#include "cache_walk.h"

#include <stdio.h>
#include <string.h>

typedef struct Listing {
    CacheListed each;
    void *arg;
} Listing;

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

/* Hashes and checks belong to the array beside them; what cannot be opened is not listed. */
static bool list_array(const char *key, const char *name, hid_t set, void *arg)
{
    const Listing *l = arg;
    hsize_t dims[2] = {0, 0};
    if (set < 0 || ends_with(name, "_hash") || ends_with(name, "_check"))
        return true;
    const hid_t space = H5Dget_space(set);
    if (H5Sget_simple_extent_ndims(space) == 2 && H5Sget_simple_extent_dims(space, dims, NULL) == 2)
        l->each(key, name, (size_t)dims[0], (size_t)dims[1], l->arg);
    H5Sclose(space);
    return true;
}

Status cache_list(const char *path, CacheListed each, void *arg)
{
    hid_t file = -1;
    h5_begin();
    const Status s = h5_open(path, H5F_ACC_RDONLY, &file);
    if (s == STATUS_OK)
        cache_walk(file, list_array, &(Listing){each, arg});
    if (file >= 0)
        H5Fclose(file);
    return h5_end(s);
}
