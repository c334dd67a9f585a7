/* Encoding a dataset once: VAE moments of every picture and the text encoder's states of every caption, kept
 * in a DatasetCache. data/cache/ knows how, here stands what: under which key, in which shape, and how one is
 * made. `data build --cache` and runs with train.cache_latents/cache_text share this.
 *
 *     CacheKind kind;
 *     TRY(caching_latents_kind(model, dtype, &views, &kind));
 *     TRY(cache_open_for(dataset, "runs/cat/cat.cache.h5", &kind, views.count, &cache));
 *     TRY(caching_latents(pipeline, comm, &views, flip, cache, NULL, NULL));
 *     TRY(caching_read_latents(cache, &views, i, flipped, mean, std));
 *
 * Pictures are encoded one at a time, as the loader gives them without augmentation; a cache holds those that
 * are scaled and cut to one size. Latents are unscaled (C,h,w); with flip the mirrored picture's are kept
 * too, under names of their own. Text is (T,D) of the caption as it stands in the dataset. */
#ifndef ATL_CACHING_H
#define ATL_CACHING_H

#include "data/cache/cache.h"
#include "data/pictures/buckets.h"
#include "infer/pipeline/pipeline.h"

/* Pictures of a dataset, all scaled and cut to one size. */
typedef struct Views {
    Dataset *dataset;
    const int *pictures;   /* NULL: all */
    const BucketFit *fits; /* (count) */
    int count;
} Views;

/* The key is SHA-256 over names, shapes, types and the first and last 64 KiB of each of the encoder's
 * tensors, the storage type of activations, and size and crops, or clip_skip and the tokenizer. */
Status caching_latents_kind(const Model *m, DType activations, const Views *v, CacheKind *out);
Status caching_text_kind(const Model *m, DType activations, int clip_skip, CacheKind *out);

/* Encodes what the cache, opened with such a kind, does not have yet; the processes of comm share the work.
 * progress NULL: none. */
Status caching_latents(Pipeline *p, Comm *comm, const Views *v, bool flip, DatasetCache *cache,
                       CacheProgress progress, void *arg);
Status caching_text(Pipeline *p, Comm *comm, const Dataset *d, int clip_skip, DatasetCache *cache,
                    CacheProgress progress, void *arg);

/* One entry; a missing one is an error (caching_* was not run or did not finish). */
Status caching_read_latents(DatasetCache *cache, const Views *v, int i, bool flipped, float *mean,
                            float *std);
Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out);

#endif
