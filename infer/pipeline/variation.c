#include "variation.h"

#include <math.h>

#define ALIKE 0.9995 /* mean cosine above which the arc is a line */

typedef struct Column {
    double a, b, dot;
} Column;

/* Lengths and product of column x of channel c. */
static Column column_of(const float *a, const float *b, int c, int x, Size s)
{
    Column k = {0};
    for (int y = 0; y < s.height; y++) {
        const int64_t at = ((int64_t)c * s.height + y) * s.width + x;
        k.a += (double)a[at] * (double)a[at];
        k.b += (double)b[at] * (double)b[at];
        k.dot += (double)a[at] * (double)b[at];
    }
    k.a = sqrt(k.a);
    k.b = sqrt(k.b);
    k.dot /= k.a * k.b;
    return k;
}

static void mix_column(float *noise, const float *other, double mine, double others, int c, int x, Size s)
{
    for (int y = 0; y < s.height; y++) {
        const int64_t at = ((int64_t)c * s.height + y) * s.width + x;
        noise[at] = (float)(mine * (double)noise[at] + others * (double)other[at]);
    }
}

void noise_between(float *noise, const float *other, float share, int channels, Size size)
{
    double mean = 0;
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < size.width; x++)
            mean += column_of(noise, other, c, x, size).dot / ((double)channels * size.width);
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < size.width; x++) {
            const double dot = column_of(noise, other, c, x, size).dot;
            const double omega = acos(dot < -1 ? -1 : dot > 1 ? 1 : dot), so = sin(omega);
            if (mean > ALIKE || so == 0)
                mix_column(noise, other, 1 - (double)share, (double)share, c, x, size);
            else
                mix_column(noise, other, sin((1 - (double)share) * omega) / so,
                           sin((double)share * omega) / so, c, x, size);
        }
}
