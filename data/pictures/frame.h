/* How a dataset's pictures come to the sizes that they are trained at: by buckets, or all to one square. */
#ifndef ATL_FRAME_H
#define ATL_FRAME_H

#include "buckets.h"

typedef struct FrameRule {
    int side;              /* of the square whose area it is */
    bool buckets, enlarge; /* false, false: the square itself */
    bool whole;            /* nothing is cut away: squeezed instead */
    int step, least, most; /* of a bucket's sides; 0: frame_settle says */
} FrameRule;

/* What the rule leaves open, for a model that takes multiples of `multiple` and was made for pictures of
 * made_for: steps of 64, or the model's own where it was made for small pictures; sides from half of the
 * resolution to twice as much. Refuses what the model cannot take. */
Status frame_settle(FrameRule *r, int multiple, int made_for);

typedef struct Framer Framer;
Status framer_new(const FrameRule *settled, Framer **out);
void framer_free(Framer *f); /* NULL allowed */
/* Of a picture of that size. Fails as buckets_fit does. */
Status framer_fit(const Framer *f, Size picture, BucketFit *out);

#endif
