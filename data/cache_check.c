/* Whether a cache file can be gone on with. A process that was killed, or a disk that failed, while HDF5 laid
 * out a new array can leave a file in which names stand for places that are not there; HDF5 can then neither
 * read nor remove them. Such a file is found out before anything is added to it. */
#include "h5.h"

#include "../kernels/mem.h"

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

static herr_t check_array(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    bool *sound = arg;
    (void)info;
    const hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    *sound = set >= 0 && last_row(set);
    if (set >= 0)
        H5Dclose(set);
    return *sound ? 0 : -1;
}

static herr_t check_key(hid_t caches, const char *key, const H5L_info_t *info, void *arg)
{
    bool *sound = arg;
    (void)info;
    const hid_t group = H5Gopen2(caches, key, H5P_DEFAULT);
    if (group < 0 || H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, check_array, arg) < 0)
        *sound = false;
    if (group >= 0)
        H5Gclose(group);
    return *sound ? 0 : -1;
}

bool cache_is_sound(hid_t file)
{
    bool sound = true;
    const htri_t there = H5Lexists(file, "/cache", H5P_DEFAULT);
    if (there <= 0)
        return there == 0;
    const hid_t caches = H5Gopen2(file, "/cache", H5P_DEFAULT);
    if (caches < 0 || H5Literate(caches, H5_INDEX_NAME, H5_ITER_INC, NULL, check_key, &sound) < 0)
        sound = false;
    if (caches >= 0)
        H5Gclose(caches);
    return sound;
}
