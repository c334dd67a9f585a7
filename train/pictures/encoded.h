/* What a run encodes once, before its first step: latents of every picture at every size that it comes in,
 * and captions. Caches that the datasets bring are used; what is missing is encoded into files of the run's
 * own.
 */
#ifndef ATL_ENCODED_H
#define ATL_ENCODED_H

#include "sources.h"

/* The processes of comm share the encoding; what they write process 0 writes. Opens caches as config.train
 * asks for (cache_latents; cache_text unless the text encoder is trained), and encodes what they lack, with
 * progress shown; names the captions that are too long. */
Status sources_cache(Sources *s, const Config *config, const char *folder, Pipeline *pipeline, Comm *comm,
                     const Model *m, DType activations, const volatile sig_atomic_t *stop);

/* The moments of a picture that is scaled and cut so: (C,h,w) each. Only where source->latents is. */
Status encoded_latents(const Source *source, int picture, const BucketFit *fit, bool flipped, float *mean,
                       float *std);

#endif
