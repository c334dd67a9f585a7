/* A curve of any number of values in bounded memory, for a plot some hundred points wide: neighbours share a
 * bucket, which keeps their mean and their extremes. When all buckets are full, two and two are put together,
 * and from then on each takes twice as many. */
#ifndef ATL_CURVE_H
#define ATL_CURVE_H

#include <stdint.h>

#define CURVE_BUCKETS 512

typedef struct Bucket {
    double x, y; /* means */
    double low, high;
    int64_t count;
} Bucket;

typedef struct Curve {
    Bucket buckets[CURVE_BUCKETS];
    int count;
    int64_t width; /* values that a bucket takes; 0: no value has come */
} Curve;

/* The next value; x does not decrease. One that is not finite is left out. */
void curve_add(Curve *c, double x, double y);
double curve_last(const Curve *c); /* NaN: no value has come */

#endif
