/* Encoding a dataset once: VAE moments of every picture and the text encoder's states of every caption, kept
 * in a DatasetCache under a key that names everything an entry depends on. `data build --cache` and runs with
 * train.cache_latents/cache_text share this.
 *
 *     char key[CACHE_KEY_SIZE];
 *     TRY(caching_latents_key(model, ctx_dtype, size, key));
 *     TRY(cache_open_for(dataset, "runs/cat/cat.cache.h5", key, &cache));
 *     TRY(caching_latents(pipeline, dataset, size, flip, cache, NULL, NULL));
 *     TRY(caching_read_latents(cache, dataset, i, flipped, mean, std, n));
 *
 * Pictures are encoded one at a time, as the loader gives them without augmentation: scaled to cover, cropped
 * in the middle. Latents are unscaled, NCHW (4,h,w), n = 4·h·w; with flip the mirrored picture's are kept
 * too, under names of their own. Text is (77,D) of the caption as it stands in the dataset. */
#ifndef ATL_CACHING_H
#define ATL_CACHING_H

#include "data/dataset/dataset.h"
#include "infer/pipeline/pipeline.h"

/* 64 hex digits of SHA-256 over names, shapes, types and the first and last 64 KiB of each of the encoder's
 * tensors, the storage type of activations, and size and crop, or clip_skip. */
Status caching_latents_key(const Model *m, DType activations, Size size, char key[CACHE_KEY_SIZE]);
Status caching_text_key(const Model *m, DType activations, int clip_skip, char key[CACHE_KEY_SIZE]);

/* Called at the beginning (done 0) and after each entry, encoded or found; what is "latents" or "text".
 * Returning false stops: STATUS_INTERRUPTED, with everything encoded so far kept. NULL: no progress. */
typedef bool (*CachingProgress)(const char *what, int done, int total, void *arg);

/* Encodes what the cache does not have yet. */
Status caching_latents(Pipeline *p, Dataset *d, Size size, bool flip, DatasetCache *cache,
                       CachingProgress progress, void *arg);
/* n: floats of one text, 77·D. */
Status caching_text(Pipeline *p, Dataset *d, int clip_skip, size_t n, DatasetCache *cache,
                    CachingProgress progress, void *arg);

/* One entry; a missing one is an error (caching_* was not run or did not finish). */
Status caching_read_latents(DatasetCache *cache, const Dataset *d, int i, bool flipped, float *mean,
                            float *std, size_t n);
Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out, size_t n);

#endif
