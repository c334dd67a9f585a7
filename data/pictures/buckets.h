/* At which size a picture of any shape is trained: sizes of about one area, in steps, and for each picture
 * the one of the nearest shape. The same answers as BucketManager of kohya's sd-scripts, so that a dataset
 * trains on the same pixels here and there. Nothing here reads a picture or knows a model. */
#ifndef ATL_BUCKETS_H
#define ATL_BUCKETS_H

#include "kernels/base/status.h"
#include "size.h"

typedef struct BucketRule {
    Size resolution;              /* what counts is its area: no bucket has more */
    int min_side, max_side, step; /* of a bucket; sides are multiples of step */
    bool enlarge; /* false ("no upscale"): a picture of less than the area keeps its size, less what step cuts
                     off */
} BucketRule;

typedef struct Buckets Buckets;
/* Refuses a rule whose numbers do not go together. */
Status buckets_new(const BucketRule *rule, Buckets **out);
void buckets_free(Buckets *b); /* NULL allowed */
/* Of the sizes that pictures are enlarged or reduced to. Without enlarge a picture makes its own, which need
 * not be one of them. */
int buckets_count(const Buckets *b);

/* Scale the picture to scaled, which covers the bucket, and cut the bucket out of it at (x,y), the middle. */
typedef struct BucketFit {
    Size bucket, scaled;
    int x, y;
} BucketFit;
/* Without buckets: scaled to cover the size, cut in the middle. */
BucketFit bucket_fit_size(Size picture, Size size);
/* The same bucket with the whole picture in it, squeezed: nothing is cut away. */
BucketFit bucket_fit_whole(BucketFit fit);
/* How much of the picture is cut away, from 0 to 1. */
double bucket_fit_loss(const BucketFit *fit);
/* Where sd-scripts tells SDXL that the picture began in its bucket, which is not where anything was cut: the
 * margins of the picture as it would lie inside the bucket, whole. A mirrored picture's left is its right. */
typedef struct BucketCorner {
    int top, left;
} BucketCorner;
BucketCorner bucket_corner(Size picture, Size bucket, bool mirrored);
/* Fails where a picture that is not enlarged is less than a step high or wide. */
Status buckets_fit(const Buckets *b, Size picture, BucketFit *out);

#endif
