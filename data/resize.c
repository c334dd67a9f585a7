/* Resizing by Lanczos-3, the filter's support widened by the scale when shrinking, so that every source pixel
 * counts and nothing aliases. Separable: each row first, then each column. Coefficients are normalised in
 * double and rounded to fixed point with 22 fractional bits, and the picture between the passes is rounded to
 * 8 bits: the same arithmetic as Pillow's Image.resize(LANCZOS), so that datasets prepared there and here are
 * the same pictures. Integer sums also make the result the same on every machine. */
#include "picture.h"

#include "../kernels/mem.h"

#include <math.h>
#include <string.h>

#define LOBES 3.0
#define FRACTION_BITS 22 /* 32 bits less 8 of the pixel and 2 for negative lobes and sums over 1 */

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(M_PI * x) / (M_PI * x);
}

static double lanczos(double x)
{
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0.0;
}

/* For each of the out pixels of a line: the first source pixel it sees, how many, and their weights. */
typedef struct Filter {
    int taps;           /* room for each in weights */
    int *first, *count; /* (out) */
    int32_t *weights;   /* (out,taps) */
} Filter;

static void filter_free(Filter *f)
{
    mem_free(f->first);
    mem_free(f->count);
    mem_free(f->weights);
}

/* Weights of one output pixel, normalised; scratch holds f->taps doubles. */
static void filter_pixel(Filter *f, int o, int in, double scale, double *scratch)
{
    const double stretch = scale < 1.0 ? 1.0 : scale, support = LOBES * stretch;
    const double center = (o + 0.5) * scale;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    end = end > in ? in : end;
    double sum = 0.0;
    for (int i = first; i < end; i++) {
        scratch[i - first] = lanczos((i - center + 0.5) / stretch);
        sum += scratch[i - first];
    }
    int32_t *w = f->weights + (size_t)o * (size_t)f->taps;
    for (int i = 0; i < end - first; i++) {
        const double v = (sum != 0.0 ? scratch[i] / sum : scratch[i]) * (1 << FRACTION_BITS);
        w[i] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
    f->first[o] = first;
    f->count[o] = end - first;
}

static Status filter_make(int in, int out, Filter *f)
{
    const double scale = (double)in / out;
    f->taps = (int)ceil(LOBES * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    f->first = mem_alloc((size_t)out * sizeof *f->first);
    f->count = mem_alloc((size_t)out * sizeof *f->count);
    f->weights = mem_alloc((size_t)out * (size_t)f->taps * sizeof *f->weights);
    double *scratch = mem_alloc((size_t)f->taps * sizeof *scratch);
    const bool ok = f->first && f->count && f->weights && scratch;
    for (int o = 0; o < out && ok; o++)
        filter_pixel(f, o, in, scale, scratch);
    mem_free(scratch);
    if (!ok)
        filter_free(f);
    return ok ? STATUS_OK : STATUS_FAILED;
}

static uint8_t round_pixel(int32_t sum)
{
    const int32_t v = sum >> FRACTION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* (h,in,3) -> (h,out,3) */
static void resize_rows(const Picture *in, const Filter *f, Picture *out)
{
    for (int y = 0; y < in->height; y++) {
        const uint8_t *row = in->rgb + 3 * (size_t)in->width * (size_t)y;
        uint8_t *to = out->rgb + 3 * (size_t)out->width * (size_t)y;
        for (int x = 0; x < out->width; x++, to += 3) {
            const uint8_t *p = row + 3 * f->first[x];
            const int32_t *w = f->weights + (size_t)x * (size_t)f->taps;
            int32_t r = 1 << (FRACTION_BITS - 1), g = r, b = r;
            for (int i = 0; i < f->count[x]; i++, p += 3) {
                r += w[i] * p[0];
                g += w[i] * p[1];
                b += w[i] * p[2];
            }
            to[0] = round_pixel(r);
            to[1] = round_pixel(g);
            to[2] = round_pixel(b);
        }
    }
}

/* (in,w,3) -> (out,w,3); sums holds 3·w. */
static void resize_columns(const Picture *in, const Filter *f, int32_t *sums, Picture *out)
{
    const size_t n = 3 * (size_t)in->width;
    for (int y = 0; y < out->height; y++) {
        const int32_t *w = f->weights + (size_t)y * (size_t)f->taps;
        for (size_t i = 0; i < n; i++)
            sums[i] = 1 << (FRACTION_BITS - 1);
        for (int k = 0; k < f->count[y]; k++) {
            const uint8_t *row = in->rgb + n * (size_t)(f->first[y] + k);
            for (size_t i = 0; i < n; i++)
                sums[i] += w[k] * row[i];
        }
        uint8_t *to = out->rgb + n * (size_t)y;
        for (size_t i = 0; i < n; i++)
            to[i] = round_pixel(sums[i]);
    }
}

static Status copy(const Picture *in, Picture *out)
{
    TRY(picture_new(in->width, in->height, out));
    memcpy(out->rgb, in->rgb, 3 * (size_t)in->width * (size_t)in->height);
    return STATUS_OK;
}

static Status to_width(const Picture *in, int width, Picture *out)
{
    Filter f;
    TRY(filter_make(in->width, width, &f));
    const Status s = picture_new(width, in->height, out);
    if (s == STATUS_OK)
        resize_rows(in, &f, out);
    filter_free(&f);
    return s;
}

static Status to_height(const Picture *in, int height, Picture *out)
{
    Filter f;
    TRY(filter_make(in->height, height, &f));
    int32_t *sums = mem_alloc(3 * (size_t)in->width * sizeof *sums);
    const Status s = sums ? picture_new(in->width, height, out) : STATUS_FAILED;
    if (s == STATUS_OK)
        resize_columns(in, &f, sums, out);
    mem_free(sums);
    filter_free(&f);
    return s;
}

Status picture_resize(const Picture *in, int width, int height, Picture *out)
{
    *out = (Picture){0};
    if (width == in->width && height == in->height)
        return copy(in, out);
    if (height == in->height)
        return to_width(in, width, out);
    if (width == in->width)
        return to_height(in, height, out);
    Picture between;
    TRY(to_width(in, width, &between));
    const Status s = to_height(&between, height, out);
    picture_free(&between);
    return s;
}

void picture_cover_size(const Picture *in, int width, int height, int *covering_width, int *covering_height)
{
    const double scale = fmax((double)width / in->width, (double)height / in->height);
    const int w = (int)(in->width * scale + 0.5), h = (int)(in->height * scale + 0.5);
    *covering_width = w < width ? width : w;
    *covering_height = h < height ? height : h;
}
