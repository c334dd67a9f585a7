#include "curve.h"

#include <math.h>

static void join(Bucket *a, const Bucket *b)
{
    const double share = (double)b->count / (double)(a->count + b->count);
    a->x += (b->x - a->x) * share;
    a->y += (b->y - a->y) * share;
    a->low = fmin(a->low, b->low);
    a->high = fmax(a->high, b->high);
    a->count += b->count;
}

static void halve(Curve *c)
{
    for (int i = 0; i < CURVE_BUCKETS / 2; i++) {
        c->buckets[i] = c->buckets[2 * i];
        join(&c->buckets[i], &c->buckets[2 * i + 1]);
    }
    c->count = CURVE_BUCKETS / 2;
    c->width *= 2;
}

void curve_add(Curve *c, double x, double y)
{
    const Bucket one = {.x = x, .y = y, .low = y, .high = y, .count = 1};
    if (!isfinite(x) || !isfinite(y))
        return;
    if (c->width == 0)
        c->width = 1;
    if (c->count && c->buckets[c->count - 1].count < c->width) {
        join(&c->buckets[c->count - 1], &one);
        return;
    }
    if (c->count == CURVE_BUCKETS)
        halve(c);
    c->buckets[c->count++] = one;
}

double curve_last(const Curve *c)
{
    return c->count ? c->buckets[c->count - 1].y : NAN;
}
