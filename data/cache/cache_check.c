/* Whether a cache file can be gone on with. A process that was killed, or a disk that failed, while HDF5 laid
 * out a new array can leave a file in which names stand for places that are not there; HDF5 can then neither
 * read nor remove them. Such a file is found out before anything is added to it. */
#include "cache_walk.h"

#include "kernels/base/mem.h"

/* The last entry of an array can be read. */
static bool last_row(hid_t set)
{
    CacheRows r;
    if (!cache_rows(set, &r))
        return false;
    if (r.dims[0] == 0 || r.width == 0)
        return true;
    const hid_t type = H5Dget_type(set);
    void *buffer = mem_alloc(r.width * H5Tget_size(type));
    const bool ok = buffer && cache_move_rows(set, &r, type, r.dims[0] - 1, 1, buffer, NULL);
    mem_free(buffer);
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
