/* Resizing by Lanczos-3 or a cubic, the filter's support widened by the scale when shrinking, so that every
 * source pixel counts and nothing aliases. Separable: each row first, then each column. Coefficients are
 * normalised in double and rounded to fixed point with 22 fractional bits, and the picture between the passes
 * is rounded to 8 bits: the same arithmetic as Pillow's Image.resize(LANCZOS or BICUBIC), so that datasets
 * prepared there and here are the same pictures. Integer sums also make the result the same on every machine.
 *
 * A picture is taken by rows, and only what they leave after the pass across is kept, so that a decoder need
 * not have the whole picture in memory: 16,384 x 16,384 pixels cut to 512 x 512 take 25 MB instead of 805. */
#include "picture.h"

#include "kernels/base/mem.h"
#include "decode.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define LOBES 3.0
#define CUBIC_SLOPE (-0.5) /* Keys 1981 */
#define FRACTION_BITS 22   /* 32 bits less 8 of the pixel and 2 for negative lobes and sums over 1 */

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(M_PI * x) / (M_PI * x);
}

static double lanczos(double x)
{
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0.0;
}

static double cubic(double x)
{
    const double a = CUBIC_SLOPE, d = fabs(x);
    if (d < 1.0)
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1;
    return d < 2.0 ? (((d - 5) * d + 8) * d - 4) * a : 0.0;
}

typedef struct Kernel {
    double support;
    double (*weight)(double x);
} Kernel;
static const Kernel LANCZOS = {LOBES, lanczos}, CUBIC = {2.0, cubic};

/* For each of `count` output pixels of a line: the first source pixel it sees, how many, and their weights.
 */
typedef struct Filter {
    const Kernel *kernel;
    int taps;          /* room for each in weights */
    int count;         /* of output pixels */
    int *first, *seen; /* (count) */
    int32_t *weights;  /* (count,taps) */
} Filter;

static void filter_free(Filter *f)
{
    mem_free(f->first);
    mem_free(f->seen);
    mem_free(f->weights);
    *f = (Filter){0};
}

/* Weights of place i for pixel o of a line resized by 1/scale, normalised; scratch holds f->taps doubles. */
static void filter_pixel(Filter *f, int i, int o, int in, double scale, double *scratch)
{
    const double stretch = scale < 1.0 ? 1.0 : scale, support = f->kernel->support * stretch;
    const double center = (o + 0.5) * scale;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    end = end > in ? in : end;
    double sum = 0.0;
    for (int k = first; k < end; k++) {
        scratch[k - first] = f->kernel->weight((k - center + 0.5) / stretch);
        sum += scratch[k - first];
    }
    int32_t *w = f->weights + (size_t)i * (size_t)f->taps;
    for (int k = 0; k < end - first; k++) {
        const double v = (sum != 0.0 ? scratch[k] / sum : scratch[k]) * (1 << FRACTION_BITS);
        w[k] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
    f->first[i] = first;
    f->seen[i] = end - first;
}

/* Pixels start … start + count - 1 of a line of `in` pixels resized to `out`; outside the line the edge's. */
static Status filter_make(const Kernel *kernel, int in, int out, int start, int count, Filter *f)
{
    const double scale = (double)in / out;
    f->kernel = kernel;
    f->taps = (int)ceil(kernel->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    f->count = count;
    f->first = mem_alloc((size_t)count * sizeof *f->first);
    f->seen = mem_alloc((size_t)count * sizeof *f->seen);
    f->weights = mem_alloc((size_t)count * (size_t)f->taps * sizeof *f->weights);
    double *scratch = mem_alloc((size_t)f->taps * sizeof *scratch);
    const bool ok = f->first && f->seen && f->weights && scratch;
    for (int i = 0; i < count && ok; i++) {
        const int o = start + i;
        filter_pixel(f, i, o < 0 ? 0 : o >= out ? out - 1 : o, in, scale, scratch);
    }
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

/* (in,3) -> (count,3). */
static void resize_row(const uint8_t *row, const Filter *f, uint8_t *to)
{
    for (int x = 0; x < f->count; x++, to += 3) {
        const uint8_t *p = row + 3 * f->first[x];
        const int32_t *w = f->weights + (size_t)x * (size_t)f->taps;
        int32_t r = 1 << (FRACTION_BITS - 1), g = r, b = r;
        for (int i = 0; i < f->seen[x]; i++, p += 3) {
            r += w[i] * p[0];
            g += w[i] * p[1];
            b += w[i] * p[2];
        }
        to[0] = round_pixel(r);
        to[1] = round_pixel(g);
        to[2] = round_pixel(b);
    }
}

/* in, whose first row is row `top` of the picture that f was made for: (·,w,3) -> (count,w,3); sums holds
 * 3·w. */
static void resize_columns(const Picture *in, int top, const Filter *f, int32_t *sums, Picture *out)
{
    const size_t n = 3 * (size_t)in->size.width;
    for (int y = 0; y < out->size.height; y++) {
        const int32_t *w = f->weights + (size_t)y * (size_t)f->taps;
        for (size_t i = 0; i < n; i++)
            sums[i] = 1 << (FRACTION_BITS - 1);
        for (int k = 0; k < f->seen[y]; k++) {
            const uint8_t *row = in->rgb + n * (size_t)(f->first[y] - top + k);
            for (size_t i = 0; i < n; i++)
                sums[i] += w[k] * row[i];
        }
        uint8_t *to = out->rgb + n * (size_t)y;
        for (size_t i = 0; i < n; i++)
            to[i] = round_pixel(sums[i]);
    }
}

static Status to_height(const Picture *in, int top, const Filter *f, Picture *out)
{
    int32_t *sums = mem_alloc(3 * (size_t)in->size.width * sizeof *sums);
    const Status s = sums ? picture_new((Size){in->size.width, f->count}, out) : STATUS_FAILED;
    if (s == STATUS_OK)
        resize_columns(in, top, f, sums, out);
    mem_free(sums);
    return s;
}

/* By rows ---------------------------------------------------------------------------------------------- */

struct RowReducer {
    const Kernel *kernel;
    Size size; /* of the picture that comes */
    PictureWindow window;
    Filter across, down; /* count 0: that side stays as it is */
    int at;              /* the row that comes next */
    int top, bottom;     /* the rows that the window sees */
    Picture between;     /* those rows, (bottom-top,columns,3) */
};

void row_reducer_free(RowReducer *r)
{
    if (!r)
        return;
    filter_free(&r->across);
    filter_free(&r->down);
    picture_free(&r->between);
    mem_free(r);
}

static Status prepare(RowReducer *r)
{
    const PictureWindow *w = &r->window;
    if (w->whole.width < 1 || w->whole.height < 1 || w->size.width < 1 || w->size.height < 1)
        return status_fail("a picture cannot be resized to %d x %d", w->whole.width, w->whole.height);
    r->top = clamp(w->y, 0, r->size.height - 1);
    r->bottom = clamp(w->y + w->size.height - 1, 0, r->size.height - 1) + 1;
    if (w->whole.width != r->size.width)
        TRY(filter_make(r->kernel, r->size.width, w->whole.width, w->x, w->size.width, &r->across));
    if (w->whole.height != r->size.height) {
        const int last = w->size.height - 1;
        TRY(filter_make(r->kernel, r->size.height, w->whole.height, w->y, w->size.height, &r->down));
        r->top = r->down.first[0];
        r->bottom = r->down.first[last] + r->down.seen[last];
    }
    return picture_new((Size){w->size.width, r->bottom - r->top}, &r->between);
}

static Status reducer_new(const Kernel *kernel, Size size, const PictureWindow *w, RowReducer **out)
{
    RowReducer *r = mem_calloc(1, sizeof *r);
    *out = r;
    if (!r)
        return STATUS_FAILED;
    *r = (RowReducer){.kernel = kernel, .size = size, .window = *w};
    const Status s = prepare(r);
    if (s != STATUS_OK) {
        row_reducer_free(r);
        *out = NULL;
    }
    return s;
}

Status row_reducer_new(Size size, const PictureWindow *w, RowReducer **out)
{
    return reducer_new(&LANCZOS, size, w, out);
}

void row_reducer_add(RowReducer *r, const uint8_t *rgb)
{
    const int y = r->at++, columns = r->window.size.width;
    if (y < r->top || y >= r->bottom)
        return;
    uint8_t *to = r->between.rgb + 3 * (size_t)columns * (size_t)(y - r->top);
    if (r->across.count)
        resize_row(rgb, &r->across, to);
    else
        for (int i = 0; i < columns; i++)
            memcpy(to + 3 * i, rgb + 3 * clamp(r->window.x + i, 0, r->size.width - 1), 3);
}

/* Rows y … of a picture whose height stays as it is; outside, the edge's. */
static Status take_rows(RowReducer *r, Picture *out)
{
    const PictureWindow *w = &r->window;
    const size_t n = 3 * (size_t)w->size.width;
    TRY(picture_new(w->size, out));
    for (int i = 0; i < w->size.height; i++)
        memcpy(out->rgb + n * (size_t)i,
               r->between.rgb + n * (size_t)(clamp(w->y + i, r->top, r->bottom - 1) - r->top), n);
    return STATUS_OK;
}

Status row_reducer_finish(RowReducer *r, Picture *out)
{
    *out = (Picture){0};
    return r->down.count ? to_height(&r->between, r->top, &r->down, out) : take_rows(r, out);
}

static Status resize_window(const Kernel *kernel, const Picture *in, const PictureWindow *w, Picture *out)
{
    RowReducer *r;
    *out = (Picture){0};
    TRY(reducer_new(kernel, in->size, w, &r));
    for (r->at = r->top; r->at < r->bottom;)
        row_reducer_add(r, in->rgb + 3 * (size_t)in->size.width * (size_t)r->at);
    const Status s = row_reducer_finish(r, out);
    row_reducer_free(r);
    return s;
}

Status picture_resize_window(const Picture *in, const PictureWindow *w, Picture *out)
{
    return resize_window(&LANCZOS, in, w, out);
}

Status picture_resize_cubic(const Picture *in, const PictureWindow *w, Picture *out)
{
    return resize_window(&CUBIC, in, w, out);
}

Status picture_resize(const Picture *in, Size size, Picture *out)
{
    return picture_resize_window(in, &(PictureWindow){.whole = size, .size = size}, out);
}

Size picture_cover_size(Size in, Size covered)
{
    const double scale = fmax((double)covered.width / in.width, (double)covered.height / in.height);
    const int w = (int)fmin(in.width * scale + 0.5, INT_MAX / 2),
              h = (int)fmin(in.height * scale + 0.5, INT_MAX / 2);
    return (Size){w < covered.width ? covered.width : w, h < covered.height ? covered.height : h};
}
