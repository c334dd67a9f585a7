/* Encoding pictures and captions, each once: VAE moments of a picture as it is scaled and cut, and what the
 * text encoder makes of a caption, kept in a Cache. data/cache/ knows how, here stands what: under which key,
 * in which shape, and how one is made. `data build --cache` and runs with train.cache_latents and cache_text
 * share this.
 *
 *     TRY(caching_new(pipeline, DTYPE_BF16, 0, CACHING_ALL, &caching));
 *     TRY(caching_fill_latents(caching, comm, cache, &views, flip, NULL, NULL));
 *     TRY(caching_latents(caching, cache, dataset, i, &fit, flipped, moments));
 *
 * Pictures are encoded one at a time, as the loader gives them without augmentation. Latents are unscaled:
 * mean and deviation, (2,C,h,w). Text is (T,D), and what is pooled of it follows. */
#ifndef ATL_CACHING_H
#define ATL_CACHING_H

#include "data/cache/cache.h"
#include "data/dataset/dataset.h"
#include "data/pictures/buckets.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/comm/comm.h"

enum { CACHING_LATENTS = 1, CACHING_TEXTS = 2, CACHING_ALL = 3 };

/* A loaded model's encoders, and what keys of theirs begin with: SHA-256 over names, shapes, types and the
 * first and last 64 KiB of each of their tensors, and the storage type of activations, with TF32. */
typedef struct Caching Caching;
Status caching_new(Pipeline *p, DType activations, int clip_skip, int parts, Caching **out);
void caching_free(Caching *c); /* NULL allowed */

/* The key of picture i's latents, by its encoded bytes, and of a caption's text. */
void caching_latents_key(const Caching *c, const Dataset *d, int i, const BucketFit *fit, bool flipped,
                         CacheKey out);
void caching_text_key(const Caching *c, const char *caption, CacheKey out);

/* Floats of the moments at a size in pixels, and of a text. */
size_t caching_latents_floats(const Caching *c, Size size);
size_t caching_text_floats(const Caching *c);

/* From the cache, or made where it is not there or damaged. */
Status caching_latents(Caching *c, Cache *cache, Dataset *d, int i, const BucketFit *fit, bool flipped,
                       float *moments);
Status caching_text(Caching *c, Cache *cache, const char *caption, float *out);

/* Called at the beginning (done 0) and after each that was encoded. Returning false stops:
 * STATUS_INTERRUPTED, with everything encoded so far kept. */
typedef bool (*CachingProgress)(const char *what, int done, int total, void *arg);

/* Some of a dataset's pictures, each as it is scaled and cut. */
typedef struct Views {
    Dataset *dataset;
    const int *pictures;
    const BucketFit *fits;
    int count;
} Views;
/* Makes what the cache lacks; the processes of comm share the work, and process 0 alone adds to the cache.
 * flip: mirrored ones too. progress NULL: none. */
Status caching_fill_latents(Caching *c, Comm *comm, Cache *cache, const Views *v, bool flip,
                            CachingProgress progress, void *arg);
Status caching_fill_texts(Caching *c, Comm *comm, Cache *cache, const Dataset *d, CachingProgress progress,
                          void *arg);

#endif
