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
