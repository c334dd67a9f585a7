/* What lies in a file's /cache/KEY/ARRAY, one array after another. */
#ifndef ATL_CACHE_WALK_H
#define ATL_CACHE_WALK_H

#include "data/dataset/h5.h"

/* One array, open during the call; set -1: it cannot be opened. name NULL: the key's group, and key NULL:
 * /cache itself, cannot be opened or read to its end. Returns false to end the walk. */
typedef bool (*CacheVisitor)(const char *key, const char *name, hid_t set, void *arg);
/* False if the visitor ended it. A file without caches is walked at once. */
bool cache_walk(hid_t file, CacheVisitor visit, void *arg);

#endif
