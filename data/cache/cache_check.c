/* Whether a cache file can be gone on with. A process that was killed, or a disk that failed, while HDF5 laid
 * out a new array can leave a file in which names stand for places that are not there; HDF5 can then neither
 * read nor remove them. Such a file is found out before anything is added to it. */
#include "cache_walk.h"

#include "kernels/base/mem.h"

/* The last row of an array of bytes or floats can be read. */
static bool last_row(hid_t set)
{
    hsize_t dims[2] = {0, 0};
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    bool ok = H5Sget_simple_extent_ndims(space) == 2 && H5Sget_simple_extent_dims(space, dims, NULL) == 2;
    if (ok && dims[0] > 0 && dims[1] > 0) {
        const hsize_t start[2] = {dims[0] - 1, 0}, count[2] = {1, dims[1]};
        const hid_t row = H5Screate_simple(2, count, NULL);
        void *buffer = mem_alloc(dims[1] * H5Tget_size(type));
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
        ok = buffer && H5Dread(set, type, row, space, H5P_DEFAULT, buffer) >= 0;
        mem_free(buffer);
        H5Sclose(row);
    }
    H5Sclose(space);
    H5Tclose(type);
    return ok;
}

static bool check_array(const char *key, const char *name, hid_t set, void *arg)
{
    (void)key;
    (void)name;
    (void)arg;
    return set >= 0 && last_row(set);
}

bool cache_is_sound(hid_t file)
{
    return cache_walk(file, check_array, NULL);
}
