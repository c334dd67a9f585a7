#include "mask.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

#define WHITE 255
#define HALF_WHITE 128 /* v / 255 >= 0.5 */
#define CUT_OFF 2.5    /* σ; A1111's kernels end there */

static size_t pixels(const Picture *p)
{
    return (size_t)size_area(p->size);
}

Status mask_of(const Picture *p, Size size, Picture *out)
{
    TRY(picture_resize(p, size, out));
    for (size_t i = 0; i < pixels(out); i++) {
        uint8_t *rgb = out->rgb + 3 * i;
        /* ITU-R 601 in 16 bits of fraction */
        memset(rgb, (int)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16), 3);
    }
    return STATUS_OK;
}

/* Blur ------------------------------------------------------------------------------------------------- */

/* Place i of a line of n, mirrored at its ends. */
static int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    const int period = 2 * (n - 1);
    i = ((i % period) + period) % period;
    return i < n ? i : period - i;
}

/* A line of n numbers, `stride` apart, over itself; copy holds n. */
static void blur_line(float *line, int n, size_t stride, const float *kernel, int reach, float *copy)
{
    for (int i = 0; i < n; i++)
        copy[i] = line[(size_t)i * stride];
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = -reach; k <= reach; k++)
            sum += kernel[k + reach] * copy[mirrored(i + k, n)];
        line[(size_t)i * stride] = sum;
    }
}

static void make_kernel(float *kernel, int reach, int sigma)
{
    double sum = 0;
    for (int k = -reach; k <= reach; k++)
        sum += exp(-0.5 * k * k / ((double)sigma * sigma));
    for (int k = -reach; k <= reach; k++)
        kernel[k + reach] = (float)(exp(-0.5 * k * k / ((double)sigma * sigma)) / sum);
}

Status mask_blur(Picture *mask, int sigma)
{
    const int W = mask->size.width, H = mask->size.height, reach = (int)(CUT_OFF * sigma + 0.5);
    const size_t n = pixels(mask);
    if (sigma < 1)
        return STATUS_OK;
    float *kernel = mem_alloc((size_t)(2 * reach + 1 + (W > H ? W : H)) * sizeof *kernel);
    float *grey = mem_alloc(n * sizeof *grey), *copy = kernel + 2 * reach + 1;
    if (kernel && grey) {
        make_kernel(kernel, reach, sigma);
        for (size_t i = 0; i < n; i++)
            grey[i] = mask->rgb[3 * i];
        for (int y = 0; y < H; y++)
            blur_line(grey + (size_t)y * (size_t)W, W, 1, kernel, reach, copy);
        for (int x = 0; x < W; x++)
            blur_line(grey + x, H, (size_t)W, kernel, reach, copy);
        for (size_t i = 0; i < n; i++)
            memset(mask->rgb + 3 * i, (int)fminf(rintf(grey[i]), WHITE), 3);
    }
    const Status s = kernel && grey ? STATUS_OK : STATUS_FAILED;
    mem_free(kernel);
    mem_free(grey);
    return s;
}

/* Where it is ------------------------------------------------------------------------------------------ */

bool mask_bounds(const Picture *mask, int *x, int *y, Size *size)
{
    const int W = mask->size.width, H = mask->size.height;
    int left = W, right = -1, top = H, bottom = -1;
    for (int j = 0; j < H; j++)
        for (int i = 0; i < W; i++)
            if (mask->rgb[3 * ((size_t)j * (size_t)W + (size_t)i)]) {
                left = i < left ? i : left;
                right = i > right ? i : right;
                top = j < top ? j : top;
                bottom = j;
            }
    *x = left;
    *y = top;
    *size = (Size){right - left + 1, bottom - top + 1};
    return right >= 0;
}

/* The mean of a square from (x,y) on, 0 to 1. */
static float mean_of_square(const Picture *mask, int x, int y, int side)
{
    uint64_t sum = 0;
    for (int j = 0; j < side; j++)
        for (int i = 0; i < side; i++)
            sum += mask->rgb[3 * ((size_t)(y + j) * (size_t)mask->size.width + (size_t)(x + i))];
    return (float)((double)sum / ((double)WHITE * side * side));
}

/* A factor is a power of 2: the middle lies between pixels, but for one. */
static float mean_of_middle(const Picture *mask, int x, int y, int factor)
{
    const int before = factor > 1 ? factor / 2 - 1 : 0;
    return mean_of_square(mask, x + before, y + before, factor > 1 ? 2 : 1);
}

void mask_reduce(const Picture *mask, int factor, MaskReduction how, float *out)
{
    const int w = mask->size.width / factor, h = mask->size.height / factor;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const size_t at = (size_t)(y * factor) * (size_t)mask->size.width + (size_t)(x * factor);
            *out++ = how == MASK_MEAN     ? mean_of_square(mask, x * factor, y * factor, factor)
                     : how == MASK_MIDDLE ? mean_of_middle(mask, x * factor, y * factor, factor)
                                          : (float)(mask->rgb[3 * at] >= HALF_WHITE);
        }
}
