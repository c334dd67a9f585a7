/* The colours around the mask are spread into it by means over squares, far ones first and nearer ones over
 * them, so that far from the edge there is a mean of all and near it what is just outside (A1111's masked
 * content "fill"). */
#include "fill.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

static const int REACHES[] = {256, 64, 16, 4}; /* pixels */
#define REACHES_COUNT ((int)(sizeof REACHES / sizeof *REACHES))

/* rgbw (n,4): colours times the weight that each counts with, and that weight; a running mean over 2 reach +
 * 1 along lines of n, `stride` apart. copy holds 4 n. */
static void mean_line(float *rgbw, int n, size_t stride, int reach, float *copy)
{
    for (int i = 0; i < n; i++)
        memcpy(copy + 4 * i, rgbw + 4 * stride * (size_t)i, 4 * sizeof *copy);
    for (int c = 0; c < 4; c++) {
        double sum = 0;
        for (int i = 0; i < reach && i < n; i++)
            sum += (double)copy[4 * i + c];
        for (int i = 0; i < n; i++) {
            if (i + reach < n)
                sum += (double)copy[4 * (i + reach) + c];
            if (i - reach - 1 >= 0)
                sum -= (double)copy[4 * (i - reach - 1) + c];
            rgbw[4 * stride * (size_t)i + (size_t)c] = (float)(sum / (2 * reach + 1));
        }
    }
}

/* The picture's unmasked colours, spread so many pixels, laid over out, as far as any come there. rgbw (n,4),
 * copy (4 · the longer side). */
static void fill_from(const Picture *p, const Picture *mask, int reach, float *rgbw, float *copy,
                      Picture *out)
{
    const int W = out->size.width, H = out->size.height;
    const size_t n = (size_t)size_area(out->size);
    for (size_t i = 0; i < n; i++) {
        const float weight = 1 - (float)mask->rgb[3 * i] / 255;
        for (size_t c = 0; c < 3; c++)
            rgbw[4 * i + c] = weight * (float)p->rgb[3 * i + c];
        rgbw[4 * i + 3] = weight;
    }
    for (int y = 0; y < H; y++)
        mean_line(rgbw + 4 * (size_t)y * (size_t)W, W, 1, reach, copy);
    for (int x = 0; x < W; x++)
        mean_line(rgbw + 4 * (size_t)x, H, (size_t)W, reach, copy);
    for (size_t i = 0; i < n; i++) {
        /* near the edge it counts fully; of the farthest anything is better than what was there */
        const float weight = rgbw[4 * i + 3], share = reach == REACHES[0] ? 1 : fminf(1, 2 * weight);
        for (size_t c = 0; c < 3 && weight > 1e-6f; c++) {
            uint8_t *v = &out->rgb[3 * i + c];
            *v = (uint8_t)fminf(255, rintf(share * rgbw[4 * i + c] / weight + (1 - share) * (float)*v));
        }
    }
}

Status fill_masked(const Picture *p, const Picture *mask, Picture *out)
{
    const Size size = p->size;
    const size_t n = (size_t)size_area(size);
    const int longer = size.width > size.height ? size.width : size.height;
    float *rgbw = mem_alloc(4 * n * sizeof *rgbw), *copy = mem_alloc(4 * (size_t)longer * sizeof *copy);
    Status s = rgbw && copy ? picture_crop(p, 0, 0, size, out) : STATUS_FAILED;
    if (s == STATUS_OK) {
        for (int i = 0; i < REACHES_COUNT; i++)
            fill_from(p, mask, REACHES[i], rgbw, copy, out);
        for (size_t i = 0; i < 3 * n; i++) {
            const int m = mask->rgb[i];
            out->rgb[i] = (uint8_t)((m * out->rgb[i] + (255 - m) * p->rgb[i] + 127) / 255);
        }
    }
    mem_free(rgbw);
    mem_free(copy);
    return s;
}
