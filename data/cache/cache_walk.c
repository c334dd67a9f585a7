#include "cache_walk.h"

typedef struct Walk {
    CacheVisitor visit;
    void *arg;
    const char *key;
    bool going;
} Walk;

static void walk_group(Walk *w, hid_t parent, const char *name, H5L_iterate_t each)
{
    const hid_t group = H5Gopen2(parent, name, H5P_DEFAULT);
    const bool read = group >= 0 && H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, each, w) >= 0;
    if (!read && w->going)
        w->going = w->visit(w->key, NULL, -1, w->arg);
    if (group >= 0)
        H5Gclose(group);
}

static herr_t visit_array(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    (void)info;
    Walk *w = arg;
    const hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    w->going = w->visit(w->key, name, set, w->arg);
    if (set >= 0)
        H5Dclose(set);
    return w->going ? 0 : 1; /* 1: enough, and no error */
}

static herr_t visit_key(hid_t caches, const char *key, const H5L_info_t *info, void *arg)
{
    (void)info;
    Walk *w = arg;
    w->key = key;
    walk_group(w, caches, key, visit_array);
    w->key = NULL;
    return w->going ? 0 : 1;
}

bool cache_walk(hid_t file, CacheVisitor visit, void *arg)
{
    Walk w = {.visit = visit, .arg = arg, .going = true};
    if (H5Lexists(file, "/cache", H5P_DEFAULT) != 0) /* negative: it cannot even be looked for */
        walk_group(&w, file, "/cache", visit_key);
    return w.going;
}

bool cache_rows(hid_t set, CacheRows *out)
{
    const hid_t space = H5Dget_space(set);
    const int rank = H5Sget_simple_extent_ndims(space);
    const bool fits = rank >= 2 && rank <= CACHE_MAX_DIMS;
    *out = (CacheRows){.rank = rank, .width = 1};
    bool ok = fits && H5Sget_simple_extent_dims(space, out->dims, NULL) == rank;
    H5Sclose(space);
    for (int i = 1; ok && i < rank; i++)
        ok = !__builtin_mul_overflow(out->width, out->dims[i], &out->width);
    return ok;
}

bool cache_move_rows(hid_t set, const CacheRows *r, hid_t type, hsize_t first, hsize_t n, void *in,
                     const void *out)
{
    hsize_t start[CACHE_MAX_DIMS] = {first}, count[CACHE_MAX_DIMS] = {n};
    for (int i = 1; i < r->rank; i++)
        count[i] = r->dims[i];
    const hsize_t elements = n * r->width;
    const hid_t stored = H5Dget_space(set), memory = H5Screate_simple(1, &elements, NULL);
    H5Sselect_hyperslab(stored, H5S_SELECT_SET, start, NULL, count, NULL);
    const herr_t result = in ? H5Dread(set, type, memory, stored, H5P_DEFAULT, in)
                             : H5Dwrite(set, type, memory, stored, H5P_DEFAULT, out);
    H5Sclose(stored);
    H5Sclose(memory);
    return result >= 0;
}
