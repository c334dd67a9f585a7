/* Convolutions as products of matrices, for weights that are stored in fewer bits than they are multiplied
 * in, where Winograd's way does not pay: small maps, strides. oneDNN would want each weight widened whole and
 * put into its own order; a product widens it panel by panel in the cache, from the order that files have, w
 * (K, C·kh·kw).
 *
 *     columns (pixels, C·kh·kw) = what each pixel's window shows of x     y = columns · wᵀ
 *     backward:   columns = grad y · w,   added up in grad x where each came from
 *
 * Tiling. As many pixels at a time as COLUMNS_BYTES hold; backward, where a pixel of x collects from several
 * windows, all pixels of a picture and as many channels, COLLECTED at most. */
#include "conv_columns.h"

#include "convert.h"
#include "gemm.h"

enum { COLUMNS_BYTES = 16 << 20, LEAST_PIXELS = 64, COLLECTED = 256 };

typedef struct Columns {
    const Conv *a;
    int64_t B, H, W, C, OH, OW, K, kh, kw; /* H, W: of x as it is stored */
    int64_t times;                         /* 2: x is read as a map of twice the size */
    DType type;                            /* of the columns */
    char *columns;
    int64_t first, channels; /* of the pixels, or of the channels, in columns */
    int64_t picture;
} Columns;

static Columns columns_of(const Conv *a, bool backward)
{
    const Tensor *x = a->x, *y = a->y, *w = a->w;
    return (Columns){.a = a,
                     .B = x->shape[0],
                     .H = x->shape[1],
                     .W = x->shape[2],
                     .C = x->shape[3],
                     .OH = y->shape[1],
                     .OW = y->shape[2],
                     .K = y->shape[3],
                     .kh = w->shape[2],
                     .kw = w->shape[3],
                     .times = a->s.upsample ? 2 : 1,
                     .type = !backward && computes_bf16() && x->dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32};
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Forward ----------------------------------------------------------------------------------------------- */

static int64_t window_of(const Columns *s)
{
    return s->C * s->kh * s->kw;
}

/* Pixels of y at a time. */
static int64_t pixels_at_once(const Columns *s)
{
    const int64_t fit = COLUMNS_BYTES / (window_of(s) * (int64_t)dtype_size(s->type)) / LEAST_PIXELS;
    return smaller((fit ? fit : 1) * LEAST_PIXELS, s->B * s->OH * s->OW);
}

/* What one tap shows of x, to every kh·kw-th number of a row of columns. */
VEC void take_tap(const void *x, DType from, int64_t at, int64_t C, int64_t taps, void *row, DType to)
{
    for (int64_t c = 0; c < C; c++)
        put_float(row, to, c * taps, get_float(x, from, at + c));
}

static void leave_tap(int64_t C, int64_t taps, void *row, DType to)
{
    for (int64_t c = 0; c < C; c++)
        put_float(row, to, c * taps, 0);
}

/* Pixels of y, counted from s->first on. */
static void take_piece(const void *args, int64_t first, int64_t last)
{
    const Columns *s = args;
    const ConvShape *k = &s->a->s;
    const Tensor *x = s->a->x;
    const int64_t taps = s->kh * s->kw;
    for (int64_t i = first; i < last; i++) {
        const int64_t pixel = s->first + i, b = pixel / (s->OH * s->OW), row = pixel / s->OW % s->OH;
        for (int64_t t = 0; t < taps; t++) {
            const int64_t h = row * k->stride + t / s->kw - k->pad_top,
                          w = pixel % s->OW * k->stride + t % s->kw - k->pad_left;
            void *to = at_element(s->columns, s->type, i * window_of(s) + t);
            const int64_t at = ((b * s->H + h / s->times) * s->W + w / s->times) * s->C;
            if (h < 0 || w < 0 || h >= s->times * s->H || w >= s->times * s->W)
                leave_tap(s->C, taps, to, s->type);
            else if (s->type == DTYPE_BF16)
                take_tap(x->data, DTYPE_BF16, at, s->C, taps, to, DTYPE_BF16);
            else
                WITH_DTYPE(x->dtype, take_tap(x->data, T, at, s->C, taps, to, DTYPE_F32));
        }
    }
}

static Gemm forward_product(const Columns *s, int64_t first, int64_t pixels)
{
    const Conv *a = s->a;
    const Tensor *y = a->y, *residual = a->residual;
    return (Gemm){.m = pixels,
                  .n = s->K,
                  .k = window_of(s),
                  .trans_b = true,
                  .alpha = 1,
                  .a = s->columns,
                  .b = a->w->data,
                  .b_scales = a->w->scales ? a->w->scales->data : NULL,
                  .residual = residual && residual->data
                                  ? at_element(residual->data, residual->dtype, first * s->K)
                                  : NULL,
                  .bias = a->bias,
                  .y = y->data ? at_element(y->data, y->dtype, first * s->K) : NULL,
                  .a_type = s->type,
                  .b_type = a->w->dtype,
                  .y_type = y->dtype,
                  .residual_type = residual ? residual->dtype : y->dtype,
                  .adds = residual != NULL,
                  .lda = window_of(s),
                  .ldb = window_of(s),
                  .ldy = s->K};
}

/* Pixels of y += what their picture adds. */
static void per_picture_piece(const void *args, int64_t first, int64_t last)
{
    const Columns *s = args;
    const Tensor *y = s->a->y, *v = s->a->per_picture;
    for (int64_t pixel = first; pixel < last; pixel++)
        for (int64_t c = 0; c < s->K; c += VL) {
            const int n = vec_part(c, s->K);
            const int64_t at = pixel * s->K + c;
            vec_put_n(y->data, y->dtype, at,
                      vec_get_n(y->data, y->dtype, at, n) +
                          vec_get_n(v->data, v->dtype, pixel / (s->OH * s->OW) * s->K + c, n),
                      n);
        }
}

static size_t columns_bytes(const Columns *s)
{
    return aligned_bytes((size_t)(pixels_at_once(s) * window_of(s)) * dtype_size(s->type));
}

Status ISA(columns_scratch)(const Conv *a, size_t *bytes)
{
    const Columns s = columns_of(a, false);
    const int64_t all = s.B * s.OH * s.OW, at_once = pixels_at_once(&s);
    *bytes = 0;
    if (all == 0)
        return STATUS_OK;
    const Gemm first = forward_product(&s, 0, at_once),
               last = forward_product(&s, 0, (all - 1) % at_once + 1);
    size_t of_first, of_last;
    TRY(ISA(gemm_scratch)(&first, &of_first));
    TRY(ISA(gemm_scratch)(&last, &of_last));
    *bytes = columns_bytes(&s) + (of_first > of_last ? of_first : of_last);
    return STATUS_OK;
}

Status ISA(columns_run)(const Conv *a, void *scratch)
{
    Columns s = columns_of(a, false);
    const int64_t all = s.B * s.OH * s.OW, at_once = pixels_at_once(&s);
    s.columns = scratch;
    for (; s.first < all; s.first += at_once) {
        const int64_t pixels = smaller(at_once, all - s.first);
        for_pieces(pixels, window_of(&s), take_piece, &s);
        const Gemm g = forward_product(&s, s.first, pixels);
        TRY(ISA(gemm)(&g, s.columns + columns_bytes(&s)));
    }
    if (a->per_picture)
        for_pieces(all, s.K, per_picture_piece, &s);
    return STATUS_OK;
}

/* The gradient of the input -------------------------------------------------------------------------------
 */

/* Channels of x at a time. */
static int64_t channels_at_once(const Columns *s)
{
    const int64_t fit = COLUMNS_BYTES / (s->OH * s->OW * s->kh * s->kw * (int64_t)sizeof(float)) / VL * VL;
    return smaller(smaller(fit ? fit : VL, COLLECTED), s->C);
}

/* columns (OH·OW, channels·kh·kw) of a picture, from its grad y. */
static Gemm backward_product(const Columns *s)
{
    const Conv *a = s->a;
    const int64_t n = s->channels * s->kh * s->kw;
    const void *y = a->y->data, *w = a->w->data;
    return (Gemm){.m = s->OH * s->OW,
                  .n = n,
                  .k = s->K,
                  .alpha = 1,
                  .a = y ? at_element(y, a->y->dtype, s->picture * s->OH * s->OW * s->K) : NULL,
                  .b = w ? at_element(w, a->w->dtype, s->first * s->kh * s->kw) : NULL,
                  .b_scales = a->w->scales ? a->w->scales->data : NULL,
                  .y = s->columns,
                  .a_type = a->y->dtype,
                  .b_type = a->w->dtype,
                  .y_type = DTYPE_F32,
                  .residual_type = DTYPE_F32,
                  .lda = s->K,
                  .ldb = window_of(s),
                  .ldy = n};
}

/* sum += what the windows hold of the pixel (h,w) of the map as it is seen. */
static void collect(const Columns *s, int64_t h, int64_t w, float *sum)
{
    const ConvShape *k = &s->a->s;
    const float *columns = (const float *)(const void *)s->columns;
    const int64_t taps = s->kh * s->kw;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t i = h + k->pad_top - t / s->kw, j = w + k->pad_left - t % s->kw;
        if (i < 0 || j < 0 || i % k->stride || j % k->stride || i / k->stride >= s->OH ||
            j / k->stride >= s->OW)
            continue;
        const float *from = columns + (i / k->stride * s->OW + j / k->stride) * s->channels * taps + t;
        for (int64_t c = 0; c < s->channels; c++)
            sum[c] += from[c * taps];
    }
}

/* Pixels of x, of one picture. */
static void collect_piece(const void *args, int64_t first, int64_t last)
{
    const Columns *s = args;
    const Tensor *x = s->a->x;
    for (int64_t pixel = first; pixel < last; pixel++) {
        float sum[COLLECTED] = {0};
        for (int64_t t = 0; t < s->times * s->times; t++)
            collect(s, pixel / s->W * s->times + t / s->times, pixel % s->W * s->times + t % s->times, sum);
        const int64_t at = (s->picture * s->H * s->W + pixel) * s->C + s->first;
        for (int64_t c = 0; c < s->channels; c += VL) {
            const int n = vec_part(c, s->channels);
            vec_put_n(x->data, x->dtype, at + c, vec_get_n(sum, DTYPE_F32, c, n), n);
        }
    }
}

static size_t backward_bytes(const Columns *s)
{
    return aligned_bytes((size_t)(s->OH * s->OW * channels_at_once(s) * s->kh * s->kw) * sizeof(float));
}

Status ISA(columns_backward_scratch)(const Conv *a, size_t *bytes)
{
    Columns s = columns_of(a, true);
    *bytes = 0;
    if (s.C == 0 || s.B == 0)
        return STATUS_OK;
    s.channels = channels_at_once(&s);
    const Gemm first = backward_product(&s);
    s.channels = (s.C - 1) % s.channels + 1;
    const Gemm last = backward_product(&s);
    size_t of_first, of_last;
    TRY(ISA(gemm_scratch)(&first, &of_first));
    TRY(ISA(gemm_scratch)(&last, &of_last));
    *bytes = backward_bytes(&s) + (of_first > of_last ? of_first : of_last);
    return STATUS_OK;
}

Status ISA(columns_backward_run)(const Conv *a, void *scratch)
{
    Columns s = columns_of(a, true);
    const int64_t at_once = channels_at_once(&s);
    s.columns = scratch;
    for (s.picture = 0; s.picture < s.B; s.picture++)
        for (s.first = 0; s.first < s.C; s.first += at_once) {
            s.channels = smaller(at_once, s.C - s.first);
            const Gemm g = backward_product(&s);
            TRY(ISA(gemm)(&g, s.columns + backward_bytes(&s)));
            for_pieces(s.H * s.W, s.channels * s.kh * s.kw, collect_piece, &s);
        }
    return STATUS_OK;
}
