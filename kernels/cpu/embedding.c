/* Tables of vectors and texts' tokens, looked up by number, and the sine and cosine features of a timestep.
 */
#include "kernels/floats.h"
#include "families.h"
#include "pieces.h"
#include "vec.h"

#include <math.h>
#include <string.h>

/* ids i32 (N), w (V,D) -> y (N,D). A number outside the table is refused with its place. */
static Status check_ids(const Tensor *ids, int64_t V)
{
    const int32_t *id = ids->data;
    for (int64_t i = 0; i < tensor_count(ids); i++)
        if (id[i] < 0 || id[i] >= V)
            return status_refuse("token %lld is number %d, the table has %lld entries", (long long)i, id[i],
                                 (long long)V);
    return STATUS_OK;
}

static Status cpu_embedding(const Tensor *ids, const Tensor *w, Tensor *y)
{
    FLOATS_ONLY(w, y);
    const int64_t D = w->shape[1];
    const int32_t *id = ids->data;
    TRY(check_ids(ids, w->shape[0]));
    for (int64_t i = 0; i < tensor_count(ids); i++)
        convert_floats(at_element(y->data, y->dtype, i * D), y->dtype,
                       at_element(w->data, w->dtype, id[i] * D), w->dtype, D);
    return STATUS_OK;
}

typedef struct Args {
    const Tensor *ids, *grad_y;
    Tensor *grad_w;
} Args;

/* Columns first … last-1 of grad_w, f32: the tokens in their order, so that a number that occurs twice is
 * always added in the same order. */
static void embedding_backward_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t N = tensor_count(s->ids), D = s->grad_w->shape[1];
    const int32_t *id = s->ids->data;
    const DType t = s->grad_y->dtype;
    for (int64_t i = 0; i < N; i++) {
        float *row = (float *)s->grad_w->data + id[i] * D;
        for (int64_t c = first; c < last; c += VL) {
            const int n = vec_part(c, last);
            const vf sum = vec_get_n(row, DTYPE_F32, c, n) + vec_get_n(s->grad_y->data, t, i * D + c, n);
            vec_put_n(row, DTYPE_F32, c, sum, n);
        }
    }
}

static Status cpu_embedding_backward(const Tensor *ids, const Tensor *grad_y, Tensor *grad_w)
{
    FLOATS_ONLY(grad_y, grad_w);
    TRY(check_ids(ids, grad_w->shape[0]));
    for_pieces(grad_w->shape[1], tensor_count(ids), embedding_backward_piece,
               &(Args){.ids = ids, .grad_y = grad_y, .grad_w = grad_w});
    return STATUS_OK;
}

/* A row outside of x is refused with its place. */
static Status check_rows(const Tensor *rows, int64_t T)
{
    const int32_t *row = rows->data;
    for (int64_t b = 0; b < tensor_count(rows); b++)
        if (row[b] < 0 || row[b] >= T)
            return status_refuse("row %lld is number %d, there are %lld", (long long)b, row[b], (long long)T);
    return STATUS_OK;
}

/* x (B,T,D), rows i32 (B) -> y (B,D) */
static Status cpu_take_rows(const Tensor *x, const Tensor *rows, Tensor *y)
{
    FLOATS_ONLY(x, y);
    const int64_t B = x->shape[0], T = x->shape[1], D = x->shape[2];
    const int32_t *row = rows->data;
    TRY(check_rows(rows, T));
    for (int64_t b = 0; b < B; b++)
        convert_floats(at_element(y->data, y->dtype, b * D), y->dtype,
                       at_element(x->data, x->dtype, (b * T + row[b]) * D), x->dtype, D);
    return STATUS_OK;
}

typedef struct TakeArgs {
    const Tensor *rows, *grad_y;
    Tensor *grad_x;
} TakeArgs;

/* Tokens first … last-1 of all texts: the gradient of the one that was taken, zeros in the others. */
static void take_rows_backward_piece(const void *args, int64_t first, int64_t last)
{
    const TakeArgs *s = args;
    const int64_t T = s->grad_x->shape[1], D = s->grad_x->shape[2];
    const DType type = s->grad_x->dtype;
    for (int64_t i = first; i < last; i++) {
        void *to = at_element(s->grad_x->data, type, i * D);
        if (i % T == ((const int32_t *)s->rows->data)[i / T])
            convert_floats(to, type, at_element(s->grad_y->data, s->grad_y->dtype, i / T * D),
                           s->grad_y->dtype, D);
        else
            memset(to, 0, (size_t)D * dtype_size(type));
    }
}

static Status cpu_take_rows_backward(const Tensor *rows, const Tensor *grad_y, Tensor *grad_x)
{
    FLOATS_ONLY(grad_y, grad_x);
    for_pieces(grad_x->shape[0] * grad_x->shape[1], grad_x->shape[2], take_rows_backward_piece,
               &(TakeArgs){.rows = rows, .grad_y = grad_y, .grad_x = grad_x});
    return STATUS_OK;
}

/* diffusers' get_timestep_embedding: frequencies 10000^(-i / (half - shift)), i < half = dim/2; (sin, cos) of
 * t times frequency, or (cos, sin) if flipped; an odd dim ends in 0. Rounded to f32 where PyTorch rounds: at
 * t = 999 the last bit of a frequency is worth 6e-5. */
static Status cpu_timestep_embedding(const Tensor *t, bool flip_sin_to_cos, float downscale_freq_shift,
                                     Tensor *y)
{
    FLOATS_ONLY(y);
    const int64_t B = tensor_count(t), dim = tensor_dim(y, -1), half = dim / 2;
    const int64_t sin_at = flip_sin_to_cos ? half : 0, cos_at = flip_sin_to_cos ? 0 : half;
    const float log_period = -9.210340371976184f; /* -ln 10000 */
    for (int64_t i = 0; i < half; i++) {
        const float exponent = log_period * (float)i / ((float)half - downscale_freq_shift);
        const float frequency = (float)exp((double)exponent);
        for (int64_t b = 0; b < B; b++) {
            const float angle = ((const float *)t->data)[b] * frequency;
            put_float(y->data, y->dtype, b * dim + sin_at + i, (float)sin((double)angle));
            put_float(y->data, y->dtype, b * dim + cos_at + i, (float)cos((double)angle));
        }
    }
    if (dim % 2)
        for (int64_t b = 0; b < B; b++)
            put_float(y->data, y->dtype, b * dim + dim - 1, 0);
    return STATUS_OK;
}

void ISA(embedding_table)(Device *d)
{
    d->embedding = cpu_embedding;
    d->embedding_backward = cpu_embedding_backward;
    d->take_rows = cpu_take_rows;
    d->take_rows_backward = cpu_take_rows_backward;
    d->timestep_embedding = cpu_timestep_embedding;
}
