/* Encoding a dataset once: entries are looked for first, so a cache that a stopped run left behind is gone on
 * with, and one that is complete costs only looking. What makes an entry is the caller's. */
#include "cache.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"

#include <string.h>

static void hash_of(const DatasetCache *c, const Dataset *d, int i, uint8_t out[SHA256_SIZE])
{
    if (cache_kind(c)->of == CACHE_OF_CAPTIONS)
        dataset_caption_sha256(d, i, out);
    else
        memcpy(out, dataset_sha256(d, i), SHA256_SIZE);
}

/* The group's entries, one after the other, by cache_read or cache_has. */
typedef Status (*CacheReader)(DatasetCache *c, int array, int i, const uint8_t hash[32], float *out,
                              bool *found);

static Status find_group(CacheReader find, DatasetCache *c, const Dataset *d, int i, int group,
                         float *const values[], bool *found)
{
    const int together = cache_kind(c)->together;
    uint8_t hash[SHA256_SIZE];
    hash_of(c, d, i, hash);
    *found = true;
    for (int k = 0; k < together && *found; k++)
        TRY(find(c, group * together + k, i, hash, values[k], found));
    return STATUS_OK;
}

Status cache_get(DatasetCache *c, const Dataset *d, int i, int group, float *const values[], bool *found)
{
    return find_group(cache_read, c, d, i, group, values, found);
}

/* *whole stays true where the entry was there. */
static Status fill_group(DatasetCache *c, const Dataset *d, const CacheFill *f, int i, int group,
                         float *const values[], bool *whole)
{
    const CacheKind *kind = cache_kind(c);
    uint8_t hash[SHA256_SIZE];
    bool found;
    TRY(find_group(cache_has, c, d, i, group, values, &found));
    if (found)
        return STATUS_OK;
    *whole = false;
    const Status s = f->encode(i, group, values, f->arg);
    if (s != STATUS_OK)
        return s == STATUS_INTERRUPTED
                   ? s
                   : status_in(s, "%s: %s%s", dataset_path(d),
                               kind->of == CACHE_OF_CAPTIONS ? "caption of " : "", dataset_name(d, i));
    hash_of(c, d, i, hash);
    for (int k = 0; k < kind->together; k++)
        TRY(cache_write(c, group * kind->together + k, i, hash, values[k]));
    return STATUS_OK;
}

/* Latents and texts that somebody else's run made are as good as one's own, and are named all the same. */
static void tell_reused(const DatasetCache *c, const Dataset *d, int reused)
{
    const CacheKind *kind = cache_kind(c);
    const int count = dataset_count(d);
    if (reused)
        log_info("%s: %s of %d of %d %s used again, as they were encoded before", dataset_path(d), kind->what,
                 reused, count, kind->of == CACHE_OF_CAPTIONS ? "captions" : "pictures");
}

static Status fill_all(DatasetCache *c, const Dataset *d, const CacheFill *f, float *const values[])
{
    const int count = dataset_count(d);
    const char *what = cache_kind(c)->what;
    int reused = 0;
    if (f->progress && !f->progress(what, 0, count, f->progress_arg))
        return status_interrupted();
    for (int i = 0; i < count; i++) {
        bool whole = true;
        for (int group = 0; group < f->groups; group++)
            TRY(fill_group(c, d, f, i, group, values, &whole));
        reused += whole;
        if (f->progress && !f->progress(what, i + 1, count, f->progress_arg))
            return status_interrupted();
    }
    tell_reused(c, d, reused);
    return STATUS_OK;
}

/* Arrays at the same place of each group have the same shape. */
Status cache_fill(DatasetCache *c, const Dataset *d, const CacheFill *f)
{
    const CacheKind *kind = cache_kind(c);
    float *values[CACHE_MAX_ARRAYS] = {0};
    Status s = STATUS_OK;
    for (int k = 0; k < kind->together; k++)
        if (!(values[k] = mem_alloc(cache_floats(&kind->arrays[k]) * sizeof(float))))
            s = STATUS_FAILED;
    if (s == STATUS_OK)
        s = fill_all(c, d, f, values);
    for (int k = 0; k < kind->together; k++)
        mem_free(values[k]);
    return s;
}
