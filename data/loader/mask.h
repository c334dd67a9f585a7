/* Masks of samples: how much each position of a latent counts. The loader's threads call these; nothing here
 * knows of threads but the cache's lock. */
#ifndef ATL_LOADER_MASK_H
#define ATL_LOADER_MASK_H

#include "data/dataset/dataset.h"
#include "data/pictures/picture.h"

typedef enum MaskFrom {
    MASK_AUTO,  /* the dataset's mask, where the picture has one */
    MASK_ALPHA, /* that, else the picture's alpha channel */
    MASK_NONE
} MaskFrom;
#define MASK_CHOICES "auto|alpha|none"

/* Masks read once and kept, as long as all of them take no more than MASK_CACHE_BYTES. */
#define MASK_CACHE_BYTES ((size_t)64 << 20)
typedef struct MaskCache MaskCache;
MaskCache *mask_cache_new(void);    /* NULL: out of memory, which is said */
void mask_cache_free(MaskCache *c); /* NULL allowed */

/* Whether a sample of picture i may have a mask. */
bool mask_is_there(const Dataset *d, MaskFrom from, int i);

/* The part of a picture that a sample shows. */
typedef struct MaskView {
    int picture; /* the dataset's number */
    PictureWindow window;
    bool flipped;
} MaskView;
/* What the view shows, as the picture's mask has it, made smaller by factor (the VAE's) each way: (h,w) means
 * of its blocks, in [0,1]; as F.interpolate(mode="area") does. Without a mask all is 1. c NULL: nothing is
 * kept. */
Status sample_mask(MaskCache *c, Dataset *d, MaskFrom from, const MaskView *v, int factor, float *out);

#endif
