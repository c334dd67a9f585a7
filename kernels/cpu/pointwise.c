/* Elementwise arithmetic: activations, sums and products, sums over the positions of a picture, copies.
 *
 * Each operation is a function of vectors (silu_of, gelu_grad_of …) under one of three loops: y = f(a), y =
 * f(a, b), and rows, where a row is the last dimension. Each loop is compiled for f32, bf16 and f16 when all
 * its tensors are stored alike, and once more for mixtures. */
#include "kernels/floats.h"
#include "convert.h"
#include "families.h"
#include "gelu.h"
#include "pieces.h"
#include "vec.h"

typedef struct Args {
    const Tensor *a, *b;
    Tensor *y;
    float value;
} Args;

/* Loops ------------------------------------------------------------------------------------------------- */

typedef vf (*Unary)(vf a);
typedef vf (*Binary)(vf a, vf b);

VEC void unary_loop(const Args *s, DType at, DType yt, int64_t first, int64_t last, Unary f)
{
    int64_t i = first;
    for (; i + VL <= last; i += VL)
        vec_put(s->y->data, yt, i, f(vec_get(s->a->data, at, i)));
    if (i < last)
        vec_put_n(s->y->data, yt, i, f(vec_get_n(s->a->data, at, i, (int)(last - i))), (int)(last - i));
}

VEC void binary_loop(const Args *s, DType at, DType bt, DType yt, int64_t first, int64_t last, Binary f)
{
    int64_t i = first;
    for (; i + VL <= last; i += VL)
        vec_put(s->y->data, yt, i, f(vec_get(s->a->data, at, i), vec_get(s->b->data, bt, i)));
    if (i < last) {
        const int n = (int)(last - i);
        vec_put_n(s->y->data, yt, i, f(vec_get_n(s->a->data, at, i, n), vec_get_n(s->b->data, bt, i, n)), n);
    }
}

/* Defines NAME_piece: the loop over f for elements first … last-1, and NAME, which runs it over the whole
 * tensor. */
#define UNARY_PIECE(name, f)                                                                                 \
    static void name##_piece(const void *args, int64_t first, int64_t last)                                  \
    {                                                                                                        \
        const Args *s = args;                                                                                \
        if (s->a->dtype == s->y->dtype)                                                                      \
            WITH_DTYPE(s->a->dtype, unary_loop(s, T, T, first, last, f));                                    \
        else                                                                                                 \
            unary_loop(s, s->a->dtype, s->y->dtype, first, last, f);                                         \
    }
#define UNARY_OP(name, f)                                                                                    \
    UNARY_PIECE(name, f)                                                                                     \
    static Status name(const Tensor *x, Tensor *y)                                                           \
    {                                                                                                        \
        FLOATS_ONLY(x, y);                                                                                   \
        for_pieces(tensor_count(y), 1, name##_piece, &(Args){.a = x, .y = y});                               \
        return STATUS_OK;                                                                                    \
    }
#define BINARY_PIECE(name, f)                                                                                \
    static void name##_piece(const void *args, int64_t first, int64_t last)                                  \
    {                                                                                                        \
        const Args *s = args;                                                                                \
        if (s->a->dtype == s->y->dtype && s->b->dtype == s->y->dtype)                                        \
            WITH_DTYPE(s->a->dtype, binary_loop(s, T, T, T, first, last, f));                                \
        else                                                                                                 \
            binary_loop(s, s->a->dtype, s->b->dtype, s->y->dtype, first, last, f);                           \
    }
#define BINARY_OP(name, f)                                                                                   \
    BINARY_PIECE(name, f)                                                                                    \
    static Status name(const Tensor *a, const Tensor *b, Tensor *y)                                          \
    {                                                                                                        \
        FLOATS_ONLY(a, b, y);                                                                                \
        for_pieces(tensor_count(y), 1, name##_piece, &(Args){.a = a, .b = b, .y = y});                       \
        return STATUS_OK;                                                                                    \
    }

/* Activations ------------------------------------------------------------------------------------------- */

VEC vf silu_of(vf x)
{
    return x * vec_sigmoid(x);
}
/* d/dx x σ(x) = σ(x) (1 + x (1 - σ(x))) */
VEC vf silu_grad_of(vf x, vf g)
{
    const vf s = vec_sigmoid(x);
    return g * (s * (1.0f + x * (1.0f - s)));
}

/* Φ(x) + x φ(x), φ the normal density */
VEC vf gelu_slope(vf x)
{
    return 0.5f + 0.5f * vec_erf(x * SQRT_HALF) + x * (RSQRT_2PI * vec_exp(x * x * -0.5f));
}
VEC vf gelu_grad_of(vf x, vf g)
{
    return g * gelu_slope(x);
}

#define QUICK 1.702f

VEC vf quick_gelu_of(vf x)
{
    return x * vec_sigmoid(x * QUICK);
}
VEC vf quick_gelu_grad_of(vf x, vf g)
{
    const vf s = vec_sigmoid(x * QUICK);
    return g * (s * (1.0f + x * QUICK * (1.0f - s)));
}

UNARY_OP(cpu_silu, silu_of)
BINARY_OP(cpu_silu_backward, silu_grad_of)
UNARY_OP(cpu_gelu, gelu_of)
BINARY_OP(cpu_gelu_backward, gelu_grad_of)
UNARY_OP(cpu_quick_gelu, quick_gelu_of)
BINARY_OP(cpu_quick_gelu_backward, quick_gelu_grad_of)

/* Sums and products ------------------------------------------------------------------------------------- */

VEC vf sum_of(vf a, vf b)
{
    return a + b;
}
VEC vf product_of(vf a, vf b)
{
    return a * b;
}
VEC vf same_of(vf x)
{
    return x;
}

BINARY_OP(cpu_add, sum_of)
BINARY_OP(cpu_multiply, product_of)
UNARY_OP(cpu_convert, same_of)

static void copy_bytes_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    memcpy(at_element(s->y->data, s->y->dtype, first), at_element(s->a->data, s->y->dtype, first),
           (size_t)(last - first) * dtype_size(s->y->dtype));
}

static Status cpu_copy(const Tensor *from, Tensor *to)
{
    FLOATS_ONLY(from, to);
    if (from->dtype != to->dtype)
        return cpu_convert(from, to);
    for_pieces(tensor_count(to), 1, copy_bytes_piece, &(Args){.a = from, .y = to});
    return STATUS_OK;
}

static void fill_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    int64_t i = first;
    for (; i + VL <= last; i += VL)
        vec_put(s->y->data, s->y->dtype, i, vec_set(s->value));
    if (i < last)
        vec_put_n(s->y->data, s->y->dtype, i, vec_set(s->value), (int)(last - i));
}

static Status cpu_fill(Tensor *t, float value)
{
    FLOATS_ONLY(t);
    for_pieces(tensor_count(t), 1, fill_piece, &(Args){.y = t, .value = value});
    return STATUS_OK;
}

static Status cpu_decode(const Tensor *w, const Tensor *scales, Tensor *y)
{
    FLOATS_ONLY(scales, y);
    const int64_t n = tensor_count(w) / w->shape[0];
    convert_rows(&(ConvertRows){.to = y->data,
                                .from = w->data,
                                .scales = scales->data,
                                .to_type = y->dtype,
                                .from_type = DTYPE_I8,
                                .columns = n,
                                .to_ld = n,
                                .from_ld = n},
                 w->shape[0]);
    return STATUS_OK;
}

/* GEGLU (gelu.h) ------------------------------------------------------- */

static Status cpu_geglu(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    geglu_rows(&(Geglu){.x = x->data, .y = y->data, .xt = x->dtype, .yt = y->dtype, .C = tensor_dim(y, -1)},
               tensor_rows(y));
    return STATUS_OK;
}

/* da = g gelu(b), db = g a gelu'(b) */
VEC void geglu_backward_row(const char *x, DType xt, const char *g, DType gt, char *dx, DType dt, int64_t C)
{
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        const vf a = vec_get_n(x, xt, i, n), b = vec_get_n(x, xt, C + i, n), gy = vec_get_n(g, gt, i, n);
        const vf phi = 0.5f + 0.5f * vec_erf(b * SQRT_HALF);
        vec_put_n(dx, dt, i, gy * (b * phi), n);
        vec_put_n(dx, dt, C + i, gy * a * (phi + b * (RSQRT_2PI * vec_exp(b * b * -0.5f))), n);
    }
}

static void geglu_backward_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const DType xt = s->a->dtype, gt = s->b->dtype, dt = s->y->dtype;
    const int64_t C = tensor_dim(s->b, -1);
    for (int64_t r = first; r < last; r++) {
        const char *x = at_element(s->a->data, xt, r * 2 * C), *g = at_element(s->b->data, gt, r * C);
        char *dx = at_element(s->y->data, dt, r * 2 * C);
        if (xt == gt && xt == dt)
            WITH_DTYPE(xt, geglu_backward_row(x, T, g, T, dx, T, C));
        else
            geglu_backward_row(x, xt, g, gt, dx, dt, C);
    }
}

static Status cpu_geglu_backward(const Tensor *x, const Tensor *grad_y, Tensor *grad_x)
{
    FLOATS_ONLY(x, grad_y, grad_x);
    for_pieces(tensor_rows(grad_y), 2 * tensor_dim(grad_y, -1), geglu_backward_piece,
               &(Args){.a = x, .b = grad_y, .y = grad_x});
    return STATUS_OK;
}

/* One vector for many rows: x (B,P,C) + v (B,C), and x (B,T,D) + rows (T,D) ----------------------------- */

VEC void add_row(const char *x, DType xt, const char *v, DType vt, char *y, DType yt, int64_t C)
{
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        vec_put_n(y, yt, i, vec_get_n(x, xt, i, n) + vec_get_n(v, vt, i, n), n);
    }
}

/* y row r = x row r + v row at. */
static void add_row_any(const Args *s, int64_t r, int64_t at)
{
    const DType xt = s->a->dtype, vt = s->b->dtype, yt = s->y->dtype;
    const int64_t C = tensor_dim(s->y, -1);
    const char *x = at_element(s->a->data, xt, r * C), *v = at_element(s->b->data, vt, at * C);
    char *y = at_element(s->y->data, yt, r * C);
    if (xt == vt && xt == yt)
        WITH_DTYPE(xt, add_row(x, T, v, T, y, T, C));
    else
        add_row(x, xt, v, vt, y, yt, C);
}

static void add_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    for (int64_t r = first; r < last; r++)
        add_row_any(s, r, r % s->y->shape[1]);
}

static Status cpu_add_rows(const Tensor *x, const Tensor *rows, Tensor *y)
{
    FLOATS_ONLY(x, rows, y);
    for_pieces(tensor_rows(y), tensor_dim(y, -1), add_rows_piece, &(Args){.a = x, .b = rows, .y = y});
    return STATUS_OK;
}

/* Sums over the positions of a picture, in f32: 64 rows at a time, then the sums of these, so that rounding
 * grows with 64 + P/64 terms rather than P. An item is one vector of channels of one picture. */
#define SUM_ROWS 64

VEC vf channel_sum(const void *g, DType t, int64_t P, int64_t C, int64_t c, int n)
{
    vf total = {0};
    for (int64_t p = 0; p < P; p += SUM_ROWS) {
        vf part = {0};
        for (int64_t q = p; q < P && q < p + SUM_ROWS; q++)
            part += vec_get_n(g, t, q * C + c, n);
        total += part;
    }
    return total;
}

static void sum_per_channel_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t C = tensor_dim(s->a, -1), P = tensor_rows(s->a) / s->a->shape[0], parts = (C + VL - 1) / VL;
    for (int64_t i = first; i < last; i++) {
        const int64_t b = i / parts, c = i % parts * VL;
        const int n = vec_part(c, C);
        const void *g = at_element(s->a->data, s->a->dtype, b * P * C);
        vf sum;
        WITH_DTYPE(s->a->dtype, sum = channel_sum(g, T, P, C, c, n));
        vec_put_n(s->y->data, s->y->dtype, b * C + c, sum, n);
    }
}

static Status cpu_sum_per_channel(const Tensor *g, Tensor *v)
{
    FLOATS_ONLY(g, v);
    const int64_t C = tensor_dim(g, -1), P = tensor_rows(g) / g->shape[0];
    for_pieces(g->shape[0] * ((C + VL - 1) / VL), P * VL, sum_per_channel_piece, &(Args){.a = g, .y = v});
    return STATUS_OK;
}

/* rows (T,D) f32 += sum over B of g (B,T,D) */
static void sum_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t B = s->a->shape[0], n = tensor_count(s->a) / B;
    float *rows = s->y->data;
    for (int64_t i = first; i < last; i += VL) {
        const int part = vec_part(i, last);
        vf sum = {0};
        for (int64_t b = 0; b < B; b++)
            sum += vec_get_n(s->a->data, s->a->dtype, b * n + i, part);
        vec_put_n(rows, DTYPE_F32, i, vec_get_n(rows, DTYPE_F32, i, part) + sum, part);
    }
}

static Status cpu_sum_rows(const Tensor *g, Tensor *rows)
{
    FLOATS_ONLY(g, rows);
    for_pieces(tensor_count(g) / g->shape[0], 1, sum_rows_piece, &(Args){.a = g, .y = rows});
    return STATUS_OK;
}

void ISA(pointwise_table)(Device *d)
{
    d->copy = cpu_copy;
    d->decode = cpu_decode;
    d->fill = cpu_fill;
    d->silu = cpu_silu;
    d->silu_backward = cpu_silu_backward;
    d->gelu = cpu_gelu;
    d->gelu_backward = cpu_gelu_backward;
    d->quick_gelu = cpu_quick_gelu;
    d->quick_gelu_backward = cpu_quick_gelu_backward;
    d->geglu = cpu_geglu;
    d->geglu_backward = cpu_geglu_backward;
    d->add = cpu_add;
    d->multiply = cpu_multiply;
    d->sum_per_channel = cpu_sum_per_channel;
    d->add_rows = cpu_add_rows;
    d->sum_rows = cpu_sum_rows;
}
