/* One sample of a training step: what is drawn for it, and its pixels. The loader's threads call these;
 * nothing here knows of threads but the cache's lock. */
#ifndef ATL_SAMPLE_H
#define ATL_SAMPLE_H

#include "loader.h"

/* Pictures decoded (and, where the crop is not drawn, cut out) once and kept, as long as all of them take no
 * more than PIXEL_CACHE_BYTES: small pictures are read thousands of times in a run. */
#define PIXEL_CACHE_BYTES ((size_t)256 << 20)
typedef struct PixelCache PixelCache;
Status pixel_cache_new(const LoaderSource *sources, int source_count, PixelCache **out);
void pixel_cache_free(PixelCache *c); /* NULL allowed */

/* Draws flip, crop and augmentation of the sample at this place of the step: fills flipped and window of s,
 * whose source, picture, entry and size are set. */
void sample_choose(const LoaderSource *source, uint64_t seed, int64_t step, int place, LoaderSample *s);
/* Writes (H,W,3) floats in [-1,1] to s->pixels. */
Status sample_pixels(const LoaderSource *source, uint64_t seed, int64_t step, int place, PixelCache *cache,
                     LoaderSample *s);

/* The picture as a sample without augmentation shows it. */
Status dataset_picture(Dataset *d, int i, const BucketFit *fit, Picture *out);

#endif
