/* Group norm (with or without SiLU) and layer norm, forward and backward.
 *
 * Group norm, x (B,P,C), P positions, G groups of C/G channels:
 *
 *   y = f(z), z = (x - mean) rstd w + b, f the identity or SiLU
 *
 *   dx = rstd (w dz - (Σ w dz + x̂ Σ w dz x̂) / N), dz = dy f'(z), sums over the group's N = P C/G elements
 *
 * Memory decides, so x is read twice and no more: once for sums per channel, once for the result, where
 * everything that belongs to a channel is ready in rows of C floats (mean, factor, bias …). Sums are taken
 * over pieces of about 16384 elements, of x minus a value near it (the picture's first pixel), so that the
 * variance survives a mean that is large against it; pieces are added in double, in order. The backward works
 * z out again: cheaper than reading it.
 *
 * Layer norm goes by rows, each of which stays in the cache for its passes. */
#include "kernels/floats.h"
#include "families.h"
#include "pieces.h"
#include "vec.h"

#include <math.h>

#define NORM_PIECE 16384
#define NORM_LANES 16 /* rows of per-channel values are padded to this */

/* Group norm -------------------------------------------------------------------------------------------- */

typedef struct Group {
    const Tensor *x, *w, *b, *dy;
    Tensor *y, *mean, *rstd; /* y: the output, or grad_x */
    Tensor *grad_w, *grad_b;
    int64_t B, P, C, ld; /* ld: C padded */
    int groups;
    bool silu, given;
    float eps;
    int64_t piece_rows, pieces; /* of one picture */
    float *sums;                /* (B, pieces, 2, ld): two sums of each channel */
    double *totals;             /* (B, 2, ld): the pieces' sums added up */
    float *channel; /* (B, rows of ld): the forward has 3 (mean, factor, bias), the backward 2 more */
} Group;

static int64_t padded(int64_t n)
{
    return (n + NORM_LANES - 1) / NORM_LANES * NORM_LANES;
}

static Group group_of(const Tensor *x, int groups)
{
    Group s = {.x = x, .groups = groups, .B = x->shape[0], .C = tensor_dim(x, -1)};
    s.P = tensor_rows(x) / s.B;
    s.ld = padded(s.C);
    s.piece_rows = s.C >= NORM_PIECE ? 1 : NORM_PIECE / s.C;
    s.pieces = (s.P + s.piece_rows - 1) / s.piece_rows;
    return s;
}

static bool is_large(const Group *s)
{
    return s->B * s->P * s->C > NORM_PIECE;
}

/* Two sums of each channel over `rows` rows: of x - base and its square. */
VEC void forward_sums(const char *x, DType t, const char *base, int64_t rows, int64_t C, float *sum,
                      float *square)
{
    for (int64_t c = 0; c < C; c += VL) {
        const int n = vec_part(c, C);
        const vf origin = vec_get_n(base, t, c, n);
        vf s = {0}, q = {0};
        for (int64_t r = 0; r < rows; r++) {
            const vf d = vec_get_n(x, t, r * C + c, n) - origin;
            s += d;
            q += d * d;
        }
        vec_put_n(sum, DTYPE_F32, c, s, n);
        vec_put_n(square, DTYPE_F32, c, q, n);
    }
}

/* The pieces' sums of NORM_LANES channels added up, in the order of the pieces; item i counts them over all
 * pictures. */
static void add_pieces(const Group *s, int64_t i)
{
    const int64_t blocks = s->ld / NORM_LANES, b = i / blocks, c = i % blocks * NORM_LANES;
    double total[2][NORM_LANES] = {{0}};
    for (int64_t p = 0; p < s->pieces; p++)
        for (int which = 0; which < 2; which++) {
            const float *sums = s->sums + ((b * s->pieces + p) * 2 + which) * s->ld + c;
            for (int j = 0; j < NORM_LANES; j++)
                total[which][j] += (double)sums[j];
        }
    for (int which = 0; which < 2; which++)
        memcpy(s->totals + (b * 2 + which) * s->ld + c, total[which], sizeof total[which]);
}

/* Mean and rstd of one group of one picture. */
static void group_moments(const Group *s, int64_t b, int g)
{
    const int64_t cg = s->C / s->groups, first = g * cg;
    const double P = (double)s->P, *sum = s->totals + b * 2 * s->ld, *square = sum + s->ld;
    double mean = 0, spread = 0;
    for (int pass = 0; pass < 2;
         pass++) /* the mean of the channels' means, then what they lie away from it */
        for (int64_t c = first; c < first + cg; c++) {
            const double m = (double)get_float(s->x->data, s->x->dtype, b * s->P * s->C + c) + sum[c] / P;
            if (pass == 0)
                mean += m / (double)cg;
            else
                spread += square[c] - sum[c] * sum[c] / P + P * (m - mean) * (m - mean);
        }
    spread = spread < 0 ? 0 : spread; /* rounding may give less than 0; fmax() would lose NaN */
    ((float *)s->mean->data)[b * s->groups + g] = (float)mean;
    ((float *)s->rstd->data)[b * s->groups + g] =
        (float)(1.0 / sqrt(spread / (P * (double)cg) + (double)s->eps));
}

/* One group of one picture: its mean and rstd, unless given, and its channels' mean, factor and bias. */
static void forward_group(const Group *s, int64_t b, int g)
{
    const int64_t cg = s->C / s->groups, first = g * cg;
    if (!s->given)
        group_moments(s, b, g);
    const float mean = ((const float *)s->mean->data)[b * s->groups + g],
                rstd = ((const float *)s->rstd->data)[b * s->groups + g];
    float *row = s->channel + b * 3 * s->ld;
    for (int64_t c = first; c < first + cg; c++) {
        row[c] = mean;
        row[s->ld + c] = rstd * get_float(s->w->data, s->w->dtype, c);
        row[2 * s->ld + c] = get_float(s->b->data, s->b->dtype, c);
    }
}

VEC void forward_rows(const char *x, DType xt, char *y, DType yt, const float *channel, int64_t ld,
                      int64_t rows, int64_t C, bool silu)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c += VL) {
            const int n = vec_part(c, C);
            const vf d = vec_get_n(x, xt, r * C + c, n) - vec_load(channel + c);
            vf z = d * vec_load(channel + ld + c) + vec_load(channel + 2 * ld + c);
            if (silu)
                z = z * vec_sigmoid(z);
            vec_put_n(y, yt, r * C + c, z, n);
        }
}

/* Where piece i of the whole batch begins: its picture, its first row in that picture, its rows. */
typedef struct Span {
    int64_t b, row, rows;
} Span;

static Span span_of(const Group *s, int64_t i)
{
    Span p = {.b = i / s->pieces, .row = i % s->pieces * s->piece_rows};
    p.rows = s->P - p.row < s->piece_rows ? s->P - p.row : s->piece_rows;
    return p;
}

static void forward_sums_piece(const Group *s, int64_t i)
{
    const Span p = span_of(s, i);
    const DType t = s->x->dtype;
    const char *base = at_element(s->x->data, t, p.b * s->P * s->C), *x = at_element(base, t, p.row * s->C);
    float *sums = s->sums + i * 2 * s->ld;
    WITH_DTYPE(t, forward_sums(x, T, base, p.rows, s->C, sums, sums + s->ld));
}

static void forward_piece(const Group *s, int64_t i)
{
    const Span p = span_of(s, i);
    const DType xt = s->x->dtype, yt = s->y->dtype;
    const int64_t at = (p.b * s->P + p.row) * s->C;
    const char *x = at_element(s->x->data, xt, at);
    char *y = at_element(s->y->data, yt, at);
    const float *channel = s->channel + p.b * 3 * s->ld;
    if (xt != yt)
        forward_rows(x, xt, y, yt, channel, s->ld, p.rows, s->C, s->silu);
    else if (s->silu)
        WITH_DTYPE(xt, forward_rows(x, T, y, T, channel, s->ld, p.rows, s->C, true));
    else
        WITH_DTYPE(xt, forward_rows(x, T, y, T, channel, s->ld, p.rows, s->C, false));
}

static Status cpu_group_norm_scratch(const Norm *n, size_t *bytes)
{
    const Group s = group_of(n->x, n->groups);
    *bytes = (size_t)(s.B * s.ld) * (2 * sizeof(double) + (size_t)(2 * s.pieces + 3) * sizeof(float));
    return STATUS_OK;
}

static Status cpu_group_norm(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->y);
    Group s = group_of(n->x, n->groups);
    s.w = n->w;
    s.b = n->b;
    s.eps = n->eps;
    s.silu = n->silu;
    s.given = n->given;
    s.y = n->y;
    s.mean = n->mean;
    s.rstd = n->rstd;
    s.totals = scratch;
    s.sums = (float *)(s.totals + s.B * 2 * s.ld);
    s.channel = s.sums + s.B * s.pieces * 2 * s.ld;
#pragma omp parallel if (is_large(&s))
    {
        if (!n->given) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < s.B * s.pieces; i++)
                forward_sums_piece(&s, i);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < s.B * s.ld / NORM_LANES; i++)
                add_pieces(&s, i);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.B * s.groups; i++)
            forward_group(&s, i / s.groups, (int)(i % s.groups));
        if (n->y) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < s.B * s.pieces; i++)
                forward_piece(&s, i);
        }
    }
    return STATUS_OK;
}

/* dz for one vector: dy, or dy silu'(z). channel rows: mean, factor, bias */
VEC vf gradient_of_z(vf d, vf dy, const float *channel, int64_t ld, int64_t c, bool silu)
{
    if (!silu)
        return dy;
    const vf z = d * vec_load(channel + ld + c) + vec_load(channel + 2 * ld + c), s = vec_sigmoid(z);
    return dy * (s * (1.0f + z * (1.0f - s)));
}

/* Σ dz and Σ dz (x - mean) of each channel */
VEC void backward_sums(const char *x, DType xt, const char *dy, DType gt, const float *channel, int64_t ld,
                       int64_t rows, int64_t C, bool silu, float *sums)
{
    for (int64_t c = 0; c < C; c += VL) {
        const int n = vec_part(c, C);
        const vf mean = vec_load(channel + c);
        vf s = {0}, q = {0};
        for (int64_t r = 0; r < rows; r++) {
            const vf d = vec_get_n(x, xt, r * C + c, n) - mean;
            const vf dz = gradient_of_z(d, vec_get_n(dy, gt, r * C + c, n), channel, ld, c, silu);
            s += dz;
            q += dz * d;
        }
        vec_put_n(sums, DTYPE_F32, c, s, n);
        vec_put_n(sums, DTYPE_F32, ld + c, q, n);
    }
}

/* dx = factor dz + (x - mean) slope + offset; channel rows: mean, factor, bias, slope, offset */
VEC void backward_rows(const char *x, DType xt, const char *dy, DType gt, char *dx, DType dt,
                       const float *channel, int64_t ld, int64_t rows, int64_t C, bool silu)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c += VL) {
            const int n = vec_part(c, C);
            const vf d = vec_get_n(x, xt, r * C + c, n) - vec_load(channel + c);
            const vf dz = gradient_of_z(d, vec_get_n(dy, gt, r * C + c, n), channel, ld, c, silu);
            const vf rest = d * vec_load(channel + 3 * ld + c) + vec_load(channel + 4 * ld + c);
            vec_put_n(dx, dt, r * C + c, dz * vec_load(channel + ld + c) + rest, n);
        }
}

/* The channels' mean, factor and bias again, from what the forward kept. */
static void backward_prepare(const Group *s, int64_t b)
{
    const int64_t cg = s->C / s->groups;
    float *row = s->channel + b * 5 * s->ld;
    for (int64_t c = 0; c < s->C; c++) {
        row[c] = ((const float *)s->mean->data)[b * s->groups + c / cg];
        row[s->ld + c] =
            ((const float *)s->rstd->data)[b * s->groups + c / cg] * get_float(s->w->data, s->w->dtype, c);
        row[2 * s->ld + c] = get_float(s->b->data, s->b->dtype, c);
    }
}

/* One group's channels' slope and offset. */
static void backward_group(const Group *s, int64_t b, int g)
{
    const int64_t cg = s->C / s->groups, first = g * cg;
    const double rstd = (double)((const float *)s->rstd->data)[b * s->groups + g];
    const double *dz = s->totals + b * 2 * s->ld, *dzx = dz + s->ld, N = (double)(s->P * cg);
    double sum = 0, product = 0;
    for (int64_t c = first; c < first + cg; c++) {
        const double w = (double)get_float(s->w->data, s->w->dtype, c);
        sum += w * dz[c];
        product += w * dzx[c] * rstd;
    }
    float *row = s->channel + b * 5 * s->ld;
    for (int64_t c = first; c < first + cg; c++) {
        row[3 * s->ld + c] = (float)(-rstd * rstd * product / N);
        row[4 * s->ld + c] = (float)(-rstd * sum / N);
    }
}

static void backward_sums_piece(const Group *s, int64_t i)
{
    const Span p = span_of(s, i);
    const DType xt = s->x->dtype, gt = s->dy->dtype;
    const int64_t at = (p.b * s->P + p.row) * s->C;
    const char *x = at_element(s->x->data, xt, at), *dy = at_element(s->dy->data, gt, at);
    const float *channel = s->channel + p.b * 5 * s->ld;
    float *sums = s->sums + i * 2 * s->ld;
    if (xt != gt)
        backward_sums(x, xt, dy, gt, channel, s->ld, p.rows, s->C, s->silu, sums);
    else if (s->silu)
        WITH_DTYPE(xt, backward_sums(x, T, dy, T, channel, s->ld, p.rows, s->C, true, sums));
    else
        WITH_DTYPE(xt, backward_sums(x, T, dy, T, channel, s->ld, p.rows, s->C, false, sums));
}

static void backward_piece(const Group *s, int64_t i)
{
    const Span p = span_of(s, i);
    const DType xt = s->x->dtype, gt = s->dy->dtype, dt = s->y->dtype;
    const int64_t at = (p.b * s->P + p.row) * s->C;
    const char *x = at_element(s->x->data, xt, at), *dy = at_element(s->dy->data, gt, at);
    char *dx = at_element(s->y->data, dt, at);
    const float *channel = s->channel + p.b * 5 * s->ld;
    if (xt != gt || xt != dt)
        backward_rows(x, xt, dy, gt, dx, dt, channel, s->ld, p.rows, s->C, s->silu);
    else if (s->silu)
        WITH_DTYPE(xt, backward_rows(x, T, dy, T, dx, T, channel, s->ld, p.rows, s->C, true));
    else
        WITH_DTYPE(xt, backward_rows(x, T, dy, T, dx, T, channel, s->ld, p.rows, s->C, false));
}

/* Gradients of weight and bias: the channels' sums, picture after picture. */
static void add_weight_gradients(const Group *s)
{
    const int64_t cg = s->C / s->groups;
    for (int64_t c = 0; c < s->C; c++) {
        double dw = 0, db = 0;
        for (int64_t b = 0; b < s->B; b++) {
            db += s->totals[b * 2 * s->ld + c];
            dw += s->totals[(b * 2 + 1) * s->ld + c] *
                  (double)((const float *)s->rstd->data)[b * s->groups + c / cg];
        }
        if (s->grad_w)
            ((float *)s->grad_w->data)[c] += (float)dw;
        if (s->grad_b)
            ((float *)s->grad_b->data)[c] += (float)db;
    }
}

static Status cpu_group_norm_backward_scratch(const Norm *n, size_t *bytes)
{
    const Group s = group_of(n->x, n->groups);
    *bytes = (size_t)(s.B * s.ld) * (2 * sizeof(double) + (size_t)(2 * s.pieces + 5) * sizeof(float));
    return STATUS_OK;
}

static Status cpu_group_norm_backward(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->grad_y, n->grad_x);
    Group s = group_of(n->x, n->groups);
    s.w = n->w;
    s.b = n->b;
    s.silu = n->silu;
    s.dy = n->grad_y;
    s.y = n->grad_x;
    s.mean = n->mean;
    s.rstd = n->rstd;
    s.grad_w = n->grad_w;
    s.grad_b = n->grad_b;
    s.totals = scratch;
    s.sums = (float *)(s.totals + s.B * 2 * s.ld);
    s.channel = s.sums + s.B * s.pieces * 2 * s.ld;
#pragma omp parallel if (is_large(&s))
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.B; i++)
            backward_prepare(&s, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.B * s.pieces; i++)
            backward_sums_piece(&s, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.B * s.ld / NORM_LANES; i++)
            add_pieces(&s, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s.B * s.groups; i++)
            backward_group(&s, i / s.groups, (int)(i % s.groups));
        if (n->grad_x) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < s.B * s.pieces; i++)
                backward_piece(&s, i);
        }
    }
    if (n->grad_w || n->grad_b)
        add_weight_gradients(&s);
    return STATUS_OK;
}

/* Layer norm: x (N,D), each row by itself --------------------------------------------------------------- */

#define LAYER_NORM_ROWS 64 /* rows of one partial sum of the weights' gradients */

typedef struct Rows {
    const Tensor *x, *w, *b, *dy, *mean, *rstd;
    Tensor *y;
    float eps;
    float *sums; /* (pieces, 2, ld), or NULL: frozen */
} Rows;

/* Sum over the row of x, or of (x - mean)². */
VEC float row_sum(const char *x, DType t, int64_t D, float mean, bool squares)
{
    vf even = {0}, odd = {0};
    for (int64_t i = 0; i < D; i += 2 * VL)
        for (int half = 0; half < 2; half++) {
            const int64_t at = i + half * VL;
            if (at >= D)
                break;
            const int n = vec_part(at, D);
            vf d = vec_get_n(x, t, at, n);
            if (squares) {
                d = d - mean;
                if (n < VL) /* lanes past the end are 0 - mean: take them out */
                    d = vec_get_n((const float *)&d, DTYPE_F32, 0, n);
                d = d * d;
            }
            if (half)
                odd += d;
            else
                even += d;
        }
    return vec_sum(even + odd);
}

VEC void layer_norm_row(const Rows *s, int64_t r, DType xt, DType yt)
{
    const int64_t D = tensor_dim(s->x, -1);
    const char *x = at_element(s->x->data, xt, r * D);
    char *y = at_element(s->y->data, yt, r * D);
    const float mean = row_sum(x, xt, D, 0, false) / (float)D;
    const float rstd = 1.0f / sqrtf(row_sum(x, xt, D, mean, true) / (float)D + s->eps);
    ((float *)s->mean->data)[r] = mean;
    ((float *)s->rstd->data)[r] = rstd;
    for (int64_t i = 0; i < D; i += VL) {
        const int n = vec_part(i, D);
        const vf x_hat = (vec_get_n(x, xt, i, n) - mean) * rstd;
        vec_put_n(y, yt, i,
                  x_hat * vec_get_n(s->w->data, s->w->dtype, i, n) + vec_get_n(s->b->data, s->b->dtype, i, n),
                  n);
    }
}

static void layer_norm_piece(const void *args, int64_t first, int64_t last)
{
    const Rows *s = args;
    for (int64_t r = first; r < last; r++)
        if (s->x->dtype == s->y->dtype)
            WITH_DTYPE(s->x->dtype, layer_norm_row(s, r, T, T));
        else
            layer_norm_row(s, r, s->x->dtype, s->y->dtype);
}

static Status cpu_layer_norm(const Norm *n)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->y);
    for_pieces(
        tensor_rows(n->x), tensor_dim(n->x, -1), layer_norm_piece,
        &(Rows){.x = n->x, .w = n->w, .b = n->b, .eps = n->eps, .y = n->y, .mean = n->mean, .rstd = n->rstd});
    return STATUS_OK;
}

/* dx = rstd (w dy - mean(w dy) - x̂ mean(w dy x̂)) */
VEC void layer_norm_backward_row(const Rows *s, int64_t r, DType xt, DType gt, DType dt)
{
    const int64_t D = tensor_dim(s->x, -1);
    const char *x = at_element(s->x->data, xt, r * D), *dy = at_element(s->dy->data, gt, r * D);
    const float mean = ((const float *)s->mean->data)[r], rstd = ((const float *)s->rstd->data)[r];
    vf sum = {0}, product = {0};
    for (int64_t i = 0; i < D; i += VL) {
        const int n = vec_part(i, D);
        const vf g = vec_get_n(dy, gt, i, n) * vec_get_n(s->w->data, s->w->dtype, i, n);
        sum += g;
        product += g * (vec_get_n(x, xt, i, n) - mean);
    }
    const float sum_mean = vec_sum(sum) / (float)D, slope = vec_sum(product) * rstd * rstd / (float)D;
    char *dx = at_element(s->y->data, dt, r * D);
    for (int64_t i = 0; i < D; i += VL) {
        const int n = vec_part(i, D);
        const vf g = vec_get_n(dy, gt, i, n) * vec_get_n(s->w->data, s->w->dtype, i, n);
        vec_put_n(dx, dt, i, ((g - sum_mean) - (vec_get_n(x, xt, i, n) - mean) * slope) * rstd, n);
    }
}

/* sums += dy x̂ and dy of one row */
VEC void layer_norm_weight_row(const Rows *s, int64_t r, DType xt, DType gt, float *sums, int64_t ld)
{
    const int64_t D = tensor_dim(s->x, -1);
    const float mean = ((const float *)s->mean->data)[r], rstd = ((const float *)s->rstd->data)[r];
    for (int64_t i = 0; i < D; i += VL) {
        const int n = vec_part(i, D);
        const vf g = vec_get_n(s->dy->data, gt, r * D + i, n);
        const vf x_hat = (vec_get_n(s->x->data, xt, r * D + i, n) - mean) * rstd;
        vec_put_n(sums, DTYPE_F32, i, vec_get_n(sums, DTYPE_F32, i, n) + g * x_hat, n);
        vec_put_n(sums, DTYPE_F32, ld + i, vec_get_n(sums, DTYPE_F32, ld + i, n) + g, n);
    }
}

/* An item is LAYER_NORM_ROWS rows. */
static void layer_norm_backward_piece(const void *args, int64_t first, int64_t last)
{
    const Rows *s = args;
    const int64_t N = tensor_rows(s->x), ld = padded(tensor_dim(s->x, -1));
    const DType xt = s->x->dtype, gt = s->dy->dtype;
    for (int64_t i = first; i < last; i++) {
        float *sums = s->sums ? s->sums + i * 2 * ld : NULL;
        if (sums)
            memset(sums, 0, (size_t)(2 * ld) * sizeof *sums);
        for (int64_t r = i * LAYER_NORM_ROWS; r < N && r < (i + 1) * LAYER_NORM_ROWS; r++) {
            if (s->y && xt == gt && xt == s->y->dtype)
                WITH_DTYPE(xt, layer_norm_backward_row(s, r, T, T, T));
            else if (s->y)
                layer_norm_backward_row(s, r, xt, gt, s->y->dtype);
            if (sums)
                layer_norm_weight_row(s, r, xt, gt, sums, ld);
        }
    }
}

static Status cpu_layer_norm_backward_scratch(const Norm *n, size_t *bytes)
{
    const int64_t pieces = (tensor_rows(n->x) + LAYER_NORM_ROWS - 1) / LAYER_NORM_ROWS;
    const bool trained = n->grad_w || n->grad_b;
    *bytes = trained ? (size_t)(pieces * 2 * padded(tensor_dim(n->x, -1))) * sizeof(float) : 0;
    return STATUS_OK;
}

static Status cpu_layer_norm_backward(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->grad_y, n->grad_x);
    const int64_t D = tensor_dim(n->x, -1), ld = padded(D);
    const int64_t pieces = (tensor_rows(n->x) + LAYER_NORM_ROWS - 1) / LAYER_NORM_ROWS;
    const bool trained = n->grad_w || n->grad_b;
    const Rows s = {.x = n->x,
                    .w = n->w,
                    .dy = n->grad_y,
                    .mean = n->mean,
                    .rstd = n->rstd,
                    .y = n->grad_x,
                    .sums = trained ? scratch : NULL};
    for_pieces(pieces, LAYER_NORM_ROWS * D, layer_norm_backward_piece, &s);
    for (int64_t c = 0; trained && c < D; c++) {
        double dw = 0, db = 0;
        for (int64_t i = 0; i < pieces; i++) {
            dw += (double)s.sums[i * 2 * ld + c];
            db += (double)s.sums[(i * 2 + 1) * ld + c];
        }
        if (n->grad_w)
            ((float *)n->grad_w->data)[c] += (float)dw;
        if (n->grad_b)
            ((float *)n->grad_b->data)[c] += (float)db;
    }
    return STATUS_OK;
}

void ISA(norm_table)(Device *d)
{
    d->group_norm_scratch = cpu_group_norm_scratch;
    d->group_norm = cpu_group_norm;
    d->group_norm_backward_scratch = cpu_group_norm_backward_scratch;
    d->group_norm_backward = cpu_group_norm_backward;
    d->layer_norm = cpu_layer_norm;
    d->layer_norm_backward_scratch = cpu_layer_norm_backward_scratch;
    d->layer_norm_backward = cpu_layer_norm_backward;
}
