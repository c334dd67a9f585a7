/* Encoding a dataset once: VAE moments of every picture and the text encoder's states of every caption, kept
 * in a DatasetCache. data/cache/ knows how, here stands what: under which key, in which shape, and how one is
 * made. `data build --cache` and runs with train.cache_latents/cache_text share this.
 *
 *     CacheKind kind;
 *     TRY(caching_latents_kind(model, dtype, size, &kind));
 *     TRY(cache_open_for(dataset, "runs/cat/cat.cache.h5", &kind, &cache));
 *     TRY(caching_latents(pipeline, comm, dataset, size, flip, cache, NULL, NULL));
 *     TRY(caching_read_latents(cache, dataset, i, flipped, mean, std));
 *
 * Pictures are encoded one at a time, as the loader gives them without augmentation: scaled to cover, cropped
 * in the middle. Latents are unscaled (C,h,w); with flip the mirrored picture's are kept too, under names of
 * their own. Text is (T,D) of the caption as it stands in the dataset. */
#ifndef ATL_CACHING_H
#define ATL_CACHING_H

#include "data/cache/cache.h"
#include "infer/pipeline/pipeline.h"

/* The key is SHA-256 over names, shapes, types and the first and last 64 KiB of each of the encoder's
 * tensors, the storage type of activations, and size and crop, or clip_skip and the tokenizer. */
Status caching_latents_kind(const Model *m, DType activations, Size size, CacheKind *out);
Status caching_text_kind(const Model *m, DType activations, int clip_skip, CacheKind *out);

/* Encodes what the cache, opened with such a kind, does not have yet; the processes of comm share the work.
 * progress NULL: none. */
Status caching_latents(Pipeline *p, Comm *comm, Dataset *d, Size size, bool flip, DatasetCache *cache,
                       CacheProgress progress, void *arg);
Status caching_text(Pipeline *p, Comm *comm, const Dataset *d, int clip_skip, DatasetCache *cache,
                    CacheProgress progress, void *arg);

/* One entry; a missing one is an error (caching_* was not run or did not finish). */
Status caching_read_latents(DatasetCache *cache, const Dataset *d, int i, bool flipped, float *mean,
                            float *std);
Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out);

#endif
