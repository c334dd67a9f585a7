/* Dynamic thresholding, with torch.quantile's interpolation between two numbers. */
#include "threshold.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void threshold_to_quantile(float *x, size_t n, float ratio, float most, float *scratch)
{
    if (n == 0)
        return;
    for (size_t k = 0; k < n; k++)
        scratch[k] = fabsf(x[k]);
    qsort(scratch, n, sizeof *scratch, ascending);
    const float place = ratio * (float)(n - 1), below = floorf(place);
    const float low = scratch[(size_t)below], high = scratch[(size_t)ceilf(place)];
    const float quantile = low + (place - below) * (high - low);
    const float s = quantile > most ? fmaxf(most, 1) : quantile > 1 ? quantile : 1;
    for (size_t k = 0; k < n; k++)
        x[k] = (x[k] < -s ? -s : x[k] > s ? s : x[k]) / s;
}
