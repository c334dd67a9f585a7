/* What caches a dataset or cache file holds, for `data info`. */
#include "cache.h"

#include "cache_walk.h"

#include <limits.h>
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
    CacheRows r;
    if (set < 0 || ends_with(name, "_hash") || ends_with(name, "_check") || !cache_rows(set, &r))
        return true;
    CacheArray a = {.name = name, .rank = r.rank - 1};
    for (int i = 0; i < a.rank; i++) {
        if (r.dims[1 + i] > INT_MAX)
            return true;
        a.dims[i] = (int)r.dims[1 + i];
    }
    l->each(key, &a, (size_t)r.dims[0], l->arg);
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
