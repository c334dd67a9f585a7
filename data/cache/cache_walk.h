/* What lies in a file's /cache/KEY/ARRAY, one array after another, and the rows of an array. HDF5's lock is
 * held by whoever calls. */
#ifndef ATL_CACHE_WALK_H
#define ATL_CACHE_WALK_H

#include "data/dataset/h5.h"

/* One array, open during the call; set -1: it cannot be opened. name NULL: the key's group, and key NULL:
 * /cache itself, cannot be opened or read to its end. Returns false to end the walk. */
typedef bool (*CacheVisitor)(const char *key, const char *name, hid_t set, void *arg);
/* False if the visitor ended it. A file without caches is walked at once. */
bool cache_walk(hid_t file, CacheVisitor visit, void *arg);

#define CACHE_MAX_DIMS 4 /* entries, and an entry's own */

/* An array as it is stored: (entries, …). */
typedef struct CacheRows {
    int rank;
    hsize_t dims[CACHE_MAX_DIMS];
    hsize_t width; /* elements of an entry */
} CacheRows;
/* False: it has a shape that no cache has. */
bool cache_rows(hid_t set, CacheRows *out);
/* Moves entries first to first + n: in or out of memory of this type, as they follow each other; the other is
 * NULL. */
bool cache_move_rows(hid_t set, const CacheRows *r, hid_t type, hsize_t first, hsize_t n, void *in,
                     const void *out);

/* True if every array of the file's caches can be read (cache_check.c). */
bool cache_is_sound(hid_t file);

#endif
