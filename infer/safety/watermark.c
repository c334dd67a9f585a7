/* Navas et al. 2008 by name; what the package invisible-watermark 0.2.0 really does, which readers depend on:
 *
 *     U of YUV (OpenCV's fixed-point BGR2YUV)          cut to multiples of 4
 *     A, H, V, D = Haar wavelet of U                   cells of 2×2 pixels
 *     A in blocks of 4×4, in the order of reading; block n carries bit n mod length:
 *     its largest |coefficient| x, the first aside     -> sign(x) 36 (floor(|x| / 36) + 1/4 + bit / 2)
 *     U = inverse wavelet of A, V, H, D                (details change places there, and so here)
 *
 * Sums are made in the order of PyWavelets, in double without fused products: a cell that is left alone comes
 * back as 119.99999999999997 or 120, and is cut off to a byte. */
#include "watermark.h"

#include "kernels/base/mem.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define SCALE 36.0
#define BLOCK 4       /* cells */
#define LEAST_TIMES 4 /* that each bit comes */
#define CERTAIN 10.0  /* standard deviations that chance does not reach */
#define HALF_ROOT 0.7071067811865476

/* Colours, as OpenCV's cvtColor of bytes ---------------------------------------------------------------- */

#define SHIFT 14
#define MIDDLE 128

static int rounded_shift(int v)
{
    return (v + (1 << (SHIFT - 1))) >> SHIFT;
}

static uint8_t to_byte(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

typedef struct Yuv {
    uint8_t y, u, v;
} Yuv;

static Yuv yuv_of(const uint8_t *rgb)
{
    const int y = rounded_shift(4899 * rgb[0] + 9617 * rgb[1] + 1868 * rgb[2]);
    return (Yuv){to_byte(y), to_byte(rounded_shift(8061 * (rgb[2] - y) + (MIDDLE << SHIFT))),
                 to_byte(rounded_shift(14369 * (rgb[0] - y) + (MIDDLE << SHIFT)))};
}

static void rgb_of(Yuv c, uint8_t *rgb)
{
    const int u = c.u - MIDDLE, v = c.v - MIDDLE;
    rgb[0] = to_byte(c.y + rounded_shift(18678 * v));
    rgb[1] = to_byte(c.y + rounded_shift(-6472 * u - 9519 * v));
    rgb[2] = to_byte(c.y + rounded_shift(33292 * u));
}

/* The wavelet ------------------------------------------------------------------------------------------ */

typedef struct Cell {
    double a, h, v, d; /* aa, da, ad, dd of PyWavelets */
} Cell;

/* U of the picture's cells (rows,columns); *cells: mem_free. */
static Status cells_of(const Picture *p, int *rows, int *columns, Cell **cells)
{
    const int width = p->size.width;
    *rows = p->size.height / 4 * 2;
    *columns = width / 4 * 2;
    Cell *at = mem_alloc((size_t)*rows * (size_t)*columns * sizeof *at);
    *cells = at;
    if (!at)
        return STATUS_FAILED;
    for (int r = 0; r < *rows; r++)
        for (int c = 0; c < *columns; c++, at++) {
            const uint8_t *above = p->rgb + 3 * ((size_t)(2 * r) * (size_t)width + (size_t)(2 * c)),
                          *below = above + 3 * (size_t)width;
            const double f = HALF_ROOT, u00 = yuv_of(above).u, u01 = yuv_of(above + 3).u,
                         u10 = yuv_of(below).u, u11 = yuv_of(below + 3).u;
            const double low0 = f * u10 + f * u00, high0 = -f * u10 + f * u00, low1 = f * u11 + f * u01,
                         high1 = -f * u11 + f * u01;
            *at = (Cell){f * low1 + f * low0, f * high1 + f * high0, -f * low1 + f * low0,
                         -f * high1 + f * high0};
        }
    return STATUS_OK;
}

/* U of the cell's four pixels, details changed places. */
static void cell_pixels(const Cell *k, double u[4])
{
    const double f = HALF_ROOT, h = k->v, v = k->h;
    const double a0 = f * k->a + f * v, a1 = f * k->a + -f * v;
    const double d0 = f * h + f * k->d, d1 = f * h + -f * k->d;
    u[0] = f * a0 + f * d0;
    u[1] = f * a1 + f * d1;
    u[2] = f * a0 + -f * d0;
    u[3] = f * a1 + -f * d1;
}

/* The block's coefficient that carries its bit. */
static double *carrier(Cell *block, int columns)
{
    double *best = NULL;
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++) {
            double *a = &block[(size_t)r * (size_t)columns + (size_t)c].a;
            if (r + c && (!best || fabs(*a) > fabs(*best)))
                best = a;
        }
    return best;
}

/* Writing ---------------------------------------------------------------------------------------------- */

static int64_t places(Size s)
{
    return (int64_t)(s.width / 4 * 2 / BLOCK) * (s.height / 4 * 2 / BLOCK);
}

Status watermark_check(Size size, const char *text)
{
    const int64_t bytes = (int64_t)strlen(text), fit = places(size) / LEAST_TIMES / 8;
    if (!bytes || bytes > WATERMARK_LONGEST)
        return status_refuse("watermark: a text of 1 to %d bytes is needed, this one has %lld",
                             WATERMARK_LONGEST, (long long)bytes);
    if (size_area(size) < WATERMARK_LEAST_AREA)
        return status_refuse("watermark: a picture of %dx%d is too small: 256x256 is the smallest",
                             size.width, size.height);
    if (bytes > fit)
        return status_refuse("watermark: a picture of %dx%d holds %lld bytes, the text has %lld", size.width,
                             size.height, (long long)fit, (long long)bytes);
    return STATUS_OK;
}

static int bit_of(const char *bytes, size_t count, int64_t place)
{
    const size_t bit = (size_t)(place % (int64_t)(8 * count));
    return (uint8_t)bytes[bit / 8] >> (7 - bit % 8) & 1;
}

static void carry(double *a, int bit)
{
    const double x = fabs(*a), whole = rint((x - fmod(x, SCALE)) / SCALE);
    const double marked = (whole + 0.25 + 0.5 * bit) * SCALE;
    *a = *a < 0 ? -marked : marked;
}

static void mark_cells(Cell *cells, int rows, int columns, const char *bytes, size_t count)
{
    int64_t place = 0;
    for (int r = 0; r + BLOCK <= rows; r += BLOCK)
        for (int c = 0; c + BLOCK <= columns; c += BLOCK)
            carry(carrier(cells + (size_t)r * (size_t)columns + (size_t)c, columns),
                  bit_of(bytes, count, place++));
}

/* Every pixel goes to YUV and back, those outside of the cells too. */
static void write_pixels(const Cell *cells, int rows, int columns, Picture *p)
{
    for (int y = 0; y < p->size.height; y++)
        for (int x = 0; x < p->size.width; x++) {
            uint8_t *rgb = p->rgb + 3 * ((size_t)y * (size_t)p->size.width + (size_t)x);
            Yuv c = yuv_of(rgb);
            if (y / 2 < rows && x / 2 < columns) {
                double u[4];
                cell_pixels(&cells[(size_t)(y / 2) * (size_t)columns + (size_t)(x / 2)], u);
                const double own = u[y % 2 * 2 + x % 2];
                c.u = (uint8_t)(own < 0 ? 0 : own > 255 ? 255 : own); /* cut off, as NumPy does */
            }
            rgb_of(c, rgb);
        }
}

Status watermark_write(Picture *p, const char *bytes, size_t count)
{
    Cell *cells;
    int rows, columns;
    TRY(cells_of(p, &rows, &columns, &cells));
    mark_cells(cells, rows, columns, bytes, count);
    write_pixels(cells, rows, columns, p);
    mem_free(cells);
    return STATUS_OK;
}

/* Reading ---------------------------------------------------------------------------------------------- */

Status watermark_read(const Picture *p, WatermarkBits *out)
{
    Cell *cells;
    int rows, columns;
    *out = (WatermarkBits){0};
    if (size_area(p->size) < WATERMARK_LEAST_AREA)
        return status_refuse("%dx%d is too small to hold a watermark: 256x256 is the smallest", p->size.width,
                             p->size.height);
    TRY(cells_of(p, &rows, &columns, &cells));
    out->bits = mem_alloc((size_t)places(p->size));
    for (int r = 0; out->bits && r + BLOCK <= rows; r += BLOCK)
        for (int c = 0; c + BLOCK <= columns; c += BLOCK) {
            const double *a = carrier(cells + (size_t)r * (size_t)columns + (size_t)c, columns);
            out->bits[out->count++] = fmod(fabs(*a), SCALE) > SCALE / 2;
        }
    mem_free(cells);
    return out->bits ? STATUS_OK : STATUS_FAILED;
}

void watermark_bits_free(WatermarkBits *b)
{
    mem_free(b->bits);
    *b = (WatermarkBits){0};
}

/* The bytes that places of a text so long agree on, as the package decodes them. out: count bytes. */
static void read_bytes(const WatermarkBits *b, size_t count, char *out)
{
    const int64_t length = 8 * (int64_t)count;
    memset(out, 0, count);
    for (int64_t i = 0; i < length; i++) {
        int64_t ones = 0, seen = 0;
        for (int64_t n = i; n < b->count; n += length, seen++)
            ones += b->bits[n];
        if (seen && 255 * ones > 127 * seen)
            out[i / 8] = (char)(out[i / 8] | 1 << (7 - i % 8));
    }
}

/* Correlation between the places' bits and the text's, in standard deviations of what chance makes of it; a
 * picture whose places all say the same tells nothing. */
static double certainty(const WatermarkBits *b, const char *bytes, size_t count)
{
    double n = 0, x = 0, y = 0, both = 0;
    for (int64_t i = 0; i < b->count; i++) {
        const int wanted = bit_of(bytes, count, i), got = b->bits[i];
        n++;
        x += wanted;
        y += got;
        both += wanted & got;
    }
    const double spread = sqrt(x * (n - x) * y * (n - y));
    return spread > 0 ? (n * both - x * y) / spread * sqrt(n) : 0;
}

WatermarkMatch watermark_match(const WatermarkBits *b, const char *bytes, size_t count)
{
    char got[WATERMARK_LONGEST];
    int64_t agreed = 0;
    WatermarkMatch m = {.found = certainty(b, bytes, count) > CERTAIN};
    read_bytes(b, count, got);
    for (int64_t i = 0; i < (int64_t)(8 * count); i++)
        m.right += bit_of(bytes, count, i) == bit_of(got, count, i);
    for (int64_t i = 0; i < b->count; i++)
        agreed += b->bits[i] == bit_of(bytes, count, i);
    m.share = b->count ? (double)agreed / (double)b->count : 0;
    return m;
}

static bool printable(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isprint((unsigned char)text[i]))
            return false;
    return true;
}

/* The most certain one. Of chance alone, the text that most places agree on would have some √bits standard
 * deviations; what fits as n bytes also fits as 2n, with less above that. */
bool watermark_guess(const WatermarkBits *b, char *out)
{
    double best = CERTAIN;
    char text[WATERMARK_LONGEST];
    out[0] = 0;
    for (size_t count = 1; count <= WATERMARK_LONGEST && (int64_t)(8 * count) * LEAST_TIMES <= b->count;
         count++) {
        read_bytes(b, count, text);
        const double above = certainty(b, text, count) - sqrt(8 * (double)count);
        if (above <= best || !printable(text, count))
            continue;
        best = above;
        memcpy(out, text, count);
        out[count] = 0;
    }
    return out[0];
}
