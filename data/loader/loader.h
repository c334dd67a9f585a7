/* The prefetching loader: decoded, resized, cropped pictures of the batches that the order says, ahead of
 * time, on plain threads. What a sample is depends on seed and step alone, never on threads or timing. */
#ifndef ATL_LOADER_H
#define ATL_LOADER_H

#include "data/pictures/buckets.h"
#include "mask.h"

typedef struct LoaderSource {
    Dataset *dataset;
    const int *pictures; /* which of the dataset's pictures (after the validation split); borrowed */
    const BucketFit
        *fits; /* (count): how each is scaled and cut; borrowed. NULL: all to LoaderOptions.size */
    int count, repeats;
    bool random_crop, flip;
    float shift, scale; /* augmentation before the VAE: up to ± shift of the side, scale 1±scale; 0: none */
    MaskFrom mask;
} LoaderSource;

typedef struct LoaderOptions {
    const LoaderSource *sources;
    int source_count;
    Size size; /* that pictures without a fit are scaled and cut to */
    int batch; /* samples per optimizer step: batch × accumulate; all of a step have one size (order.h) */
    uint64_t seed;
    int threads, ahead; /* 0: 2 threads, 2 steps ahead */
    int64_t first_step; /* counts from 1 */
    /* Which places of the batch (and as many beside) this process computes, of several that share a step: the
     * others get no pixels. share 0: all. */
    int share_first, share;
    bool pixels;     /* false: only tell which pictures (latents come from a cache) */
    int mask_factor; /* masks come too, so much smaller than the pictures; 0: none */
    /* One more source, or NULL, in an order of its own: after a step's samples come as many of it and of the
     * step's size, with source = source_count. The samples before them are those that come without it. */
    const LoaderSource *beside;
} LoaderOptions;

typedef struct LoaderSample {
    int source, picture; /* dataset's number of the picture */
    int entry;           /* its place in the source's pictures */
    Size size;           /* the step's */
    bool flipped;
    PictureWindow window; /* what of the picture it shows */
    float *pixels;        /* (H,W,3), in [-1,1], or NULL */
    float *mask;          /* (H,W) / mask_factor, in [0,1]; NULL: all counts */
} LoaderSample;

typedef struct Loader Loader;
Status loader_new(const LoaderOptions *o, Loader **out);
void loader_free(Loader *l);
int64_t loader_epoch_samples(const Loader *l); /* Σ count × repeats, without those beside */
/* The samples of the next step (options.batch of them, and as many of those beside); valid until the next
 * call. */
Status loader_next(Loader *l, const LoaderSample **samples);

#endif
