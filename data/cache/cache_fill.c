/* Encoding a dataset once: entries are looked for first, so a cache that a stopped run left behind is gone on
 * with, and one that is complete costs only looking. What makes an entry is the caller's. */
#include "cache.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"

#include <string.h>

static void hash_of(const DatasetCache *c, const Dataset *d, int number, uint8_t out[SHA256_SIZE])
{
    if (cache_kind(c)->of == CACHE_OF_CAPTIONS)
        dataset_caption_sha256(d, number, out);
    else
        dataset_sha256(d, number, out);
}

/* The group's entries, one after the other, by cache_read or cache_has. */
typedef Status (*CacheReader)(DatasetCache *c, int array, int i, const uint8_t hash[32], float *out,
                              bool *found);

static Status find_group(CacheReader find, DatasetCache *c, const Dataset *d, int i, int number, int group,
                         float *const values[], bool *found)
{
    const int together = cache_kind(c)->together;
    uint8_t hash[SHA256_SIZE];
    hash_of(c, d, number, hash);
    *found = true;
    for (int k = 0; k < together && *found; k++)
        TRY(find(c, group * together + k, i, hash, values[k], found));
    return STATUS_OK;
}

Status cache_get(DatasetCache *c, const Dataset *d, int i, int number, int group, float *const values[],
                 bool *found)
{
    return find_group(cache_read, c, d, i, number, group, values, found);
}

/* Filling ------------------------------------------------------------------------------------------------ */

/* An entry group that the cache lacks. */
typedef struct Gap {
    int32_t i, group;
    int32_t last; /* with it picture or caption i has all */
} Gap;

typedef struct Filling {
    DatasetCache *cache;
    const Dataset *dataset;
    const CacheFill *f;
    float *values[CACHE_MAX_ARRAYS]; /* of a group's arrays, one after the other */
    Gap *gaps;
    int64_t count;
    int done; /* pictures or captions that have all */
} Filling;

/* The picture or caption that entry i is made of. */
static int number_of(const Filling *w, int i)
{
    return w->f->numbers ? w->f->numbers[i] : i;
}

static Status show(const Filling *w)
{
    const CacheFill *f = w->f;
    return f->progress &&
                   !f->progress(cache_kind(w->cache)->what, w->done, cache_count(w->cache), f->progress_arg)
               ? status_interrupted()
               : STATUS_OK;
}

static Status make_entry(int64_t k, void *thing, void *arg)
{
    (void)thing; /* is values */
    const Filling *w = arg;
    const int i = w->gaps[k].i;
    const Status s = w->f->encode(i, w->gaps[k].group, w->values, w->f->arg);
    if (s == STATUS_OK || s == STATUS_INTERRUPTED)
        return s;
    return status_in(s, "%s: %s%s", dataset_path(w->dataset),
                     cache_kind(w->cache)->of == CACHE_OF_CAPTIONS ? "caption of " : "",
                     dataset_name(w->dataset, number_of(w, i)));
}

static Status take_entry(int64_t k, const void *thing, void *arg)
{
    (void)thing;
    Filling *w = arg;
    const Gap *gap = &w->gaps[k];
    const int together = cache_kind(w->cache)->together;
    uint8_t hash[SHA256_SIZE];
    hash_of(w->cache, w->dataset, number_of(w, gap->i), hash);
    for (int n = 0; n < together; n++)
        TRY(cache_write(w->cache, gap->group * together + n, gap->i, hash, w->values[n]));
    w->done += gap->last;
    return gap->last ? show(w) : STATUS_OK;
}

static Status find_gaps(Filling *w)
{
    TRY(show(w));
    for (int i = 0; i < cache_count(w->cache); i++) {
        const int64_t before = w->count;
        for (int group = 0; group < w->f->groups; group++) {
            bool found;
            TRY(find_group(cache_has, w->cache, w->dataset, i, number_of(w, i), group, w->values, &found));
            if (!found)
                w->gaps[w->count++] = (Gap){i, group, 0};
        }
        if (w->count > before) {
            w->gaps[w->count - 1].last = 1;
            continue;
        }
        w->done++;
        TRY(show(w));
    }
    return STATUS_OK;
}

/* Latents and texts that somebody else's run made are as good as one's own, and are named all the same. */
static void tell_reused(const Filling *w)
{
    const CacheKind *kind = cache_kind(w->cache);
    if (w->done)
        log_info("%s: %s of %d of %d %s used again, as they were encoded before", dataset_path(w->dataset),
                 kind->what, w->done, cache_count(w->cache),
                 kind->of == CACHE_OF_CAPTIONS ? "captions" : "pictures");
}

/* Process 0 looks, all encode. */
static Status fill_all(Filling *w, Comm *comm, size_t floats)
{
    w->gaps = mem_calloc((size_t)cache_count(w->cache) * (size_t)w->f->groups + 1, sizeof *w->gaps);
    Status s = w->gaps ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && comm->rank == 0)
        s = find_gaps(w);
    TRY(comm_agree(comm, s));
    tell_reused(w);
    TRY(comm_tell(comm, &w->count, sizeof w->count));
    TRY(comm_tell(comm, w->gaps, (size_t)w->count * sizeof *w->gaps));
    return comm_work(comm, &(CommWork){.count = w->count,
                                       .bytes = floats * sizeof(float),
                                       .thing = w->values[0],
                                       .make = make_entry,
                                       .take = take_entry,
                                       .arg = w});
}

/* Arrays at the same place of each group have the same shape. */
Status cache_fill(DatasetCache *c, const Dataset *d, const CacheFill *f)
{
    const CacheKind *kind = cache_kind(c);
    Filling w = {.cache = c, .dataset = d, .f = f};
    size_t floats = 0;
    for (int k = 0; k < kind->together; k++)
        floats += cache_floats(&kind->arrays[k]);
    float *memory = mem_alloc(floats * sizeof *memory), *at = memory;
    for (int k = 0; memory && k < kind->together; k++) {
        w.values[k] = at;
        at += cache_floats(&kind->arrays[k]);
    }
    const Status s = memory ? fill_all(&w, f->comm ? f->comm : comm_alone(), floats) : STATUS_FAILED;
    mem_free(memory);
    mem_free(w.gaps);
    return s;
}
