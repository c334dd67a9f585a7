/* Caches of what a model makes of pictures and captions (docs/cache-file.md): a flat file of records, each
 * under a key that stands for all that it was made of: the encoder, the picture or caption, size and crop.
 *
 * A record is added whole or not at all and never changed, so that a file is read by any number of processes
 * while one after the other adds to it, and what a killed one left behind is used. A record whose check sum
 * is wrong is not there, and is added again. Nothing here knows a model. */
#ifndef ATL_CACHE_H
#define ATL_CACHE_H

#include "kernels/base/sha256.h"
#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t CacheKey[SHA256_SIZE];

typedef enum CacheKind { CACHE_LATENTS = 1, CACHE_TEXT = 2 } CacheKind;

#define CACHE_DIMS 4

/* What a record says of itself, for those who read the file without its key. */
typedef struct CacheLabel {
    CacheKind kind;
    /* of the values, f32: (2,C,h,w), mean and deviation; (T,D) and what follows it is (P). Unused ones 0. */
    uint32_t dims[CACHE_DIMS];
} CacheLabel;

typedef struct Cache Cache;
/* path: the file, made when the first record is added; where it cannot be written, records are added to
 * `otherwise` (NULL: nowhere), and both are read. Refuses a file that is there and is none of these. */
Status cache_open(const char *path, const char *otherwise, Cache **out);
void cache_close(Cache *c); /* NULL allowed */
/* Where records are added. NULL: nowhere. */
const char *cache_path(const Cache *c);

/* Is it there, of so many floats? Looks at the index alone. */
bool cache_has(const Cache *c, const CacheKey key, size_t floats);
/* *found false: not there, or damaged. A record that is whole and holds NaN or infinity is a failure that
 * names the file. */
Status cache_read(Cache *c, const CacheKey key, float *out, size_t floats, bool *found);
/* Adds a record, unless another process has done so in the meantime. */
Status cache_add(Cache *c, const CacheKey key, const CacheLabel *label, const float *values, size_t floats);
/* Sees what other processes have added. */
Status cache_refresh(Cache *c);

/* Records by kind and dims. */
typedef void (*CacheListed)(const CacheLabel *label, int64_t count, void *arg);
Status cache_list(const Cache *c, CacheListed each, void *arg);

#endif
