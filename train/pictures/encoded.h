/* What a run encodes once, before its first step: latents of every picture at every size that it comes in,
 * and captions. A dataset's cache lies beside it (cat.h5 or the folder cat: cat.cache) and is every run's;
 * where that cannot be written, what is missing goes into the run's folder. */
#ifndef ATL_ENCODED_H
#define ATL_ENCODED_H

#include "sources.h"

/* The processes of comm share the encoding; what they write process 0 writes. Opens caches as config.train
 * asks for (cache_latents; cache_text unless the text encoder is trained), and encodes what they lack, with
 * progress shown; names the captions that are too long. */
Status sources_cache(Sources *s, const Config *config, const char *folder, Pipeline *pipeline, Comm *comm,
                     const Model *m, DType activations, const volatile sig_atomic_t *stop);

/* The moments of an entry's picture, (2,C,h,w). Only where source->latents. */
Status encoded_latents(const Source *source, const Entries *e, int entry, bool flipped, float *moments);

/* Where the cache of the dataset at that path lies: "cat.cache" of "cat.h5" and of the folder "cat". Caller:
 * mem_free. NULL: out of memory. */
char *encoded_path(const char *dataset);

#endif
