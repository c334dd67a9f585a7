/* Rearranging: joining and cutting of NHWC maps, and the way from and to NCHW, which files and
 * PyTorch use. Rows (the last dimension) are copied whole; where storage types differ they are converted on
 * the way. */
#include "kernels/floats.h"
#include "families.h"
#include "pieces.h"
#include "vec.h"

typedef struct Args {
    const Tensor *a, *b;
    Tensor *y;
    int64_t first;
} Args;

/* Element i of a tensor's storage. */
static void *element(const Tensor *t, int64_t i)
{
    return at_element(t->data, t->dtype, i);
}

static void copy_elements(const Tensor *to, int64_t at, const Tensor *from, int64_t i, int64_t n)
{
    convert_floats(element(to, at), to->dtype, element(from, i), from->dtype, n);
}

/* a (N,C), b (N,K) -> y (N,C+K) */
static void concat_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t C = tensor_dim(s->a, -1), K = tensor_dim(s->b, -1);
    for (int64_t r = first; r < last; r++) {
        copy_elements(s->y, r * (C + K), s->a, r * C, C);
        copy_elements(s->y, r * (C + K) + C, s->b, r * K, K);
    }
}

static Status cpu_concat(const Tensor *a, const Tensor *b, Tensor *y)
{
    FLOATS_ONLY(a, b, y);
    for_pieces(tensor_rows(y), tensor_dim(y, -1), concat_piece, &(Args){.a = a, .b = b, .y = y});
    return STATUS_OK;
}

/* x (N,C) -> y (N,K): columns first … first+K-1 */
static void slice_piece(const void *args, int64_t begin, int64_t end)
{
    const Args *s = args;
    const int64_t C = tensor_dim(s->a, -1), K = tensor_dim(s->y, -1);
    for (int64_t r = begin; r < end; r++)
        copy_elements(s->y, r * K, s->a, r * C + s->first, K);
}

static Status cpu_slice_channels(const Tensor *x, int64_t first, Tensor *y)
{
    FLOATS_ONLY(x, y);
    for_pieces(tensor_rows(y), tensor_dim(y, -1), slice_piece, &(Args){.a = x, .y = y, .first = first});
    return STATUS_OK;
}

/* x (B,C,H,W) f32 <-> y (B,H,W,C). Transposed in blocks of 8 channels × 64 positions, which stay in the
 * first-level cache on both sides; an item is 64 positions of one picture. */
#define TRANSPOSE_POSITIONS 64
#define TRANSPOSE_CHANNELS 8

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

VEC void transpose_block(float *nchw, const Tensor *nhwc, int64_t b, int64_t p, int64_t P, int64_t C,
                         bool to_nchw)
{
    const int64_t p_end = smaller(P, p + TRANSPOSE_POSITIONS);
    for (int64_t c0 = 0; c0 < C; c0 += TRANSPOSE_CHANNELS)
        for (int64_t q = p; q < p_end; q++)
            for (int64_t c = c0; c < smaller(C, c0 + TRANSPOSE_CHANNELS); c++) {
                float *here = nchw + (b * C + c) * P + q;
                const int64_t there = (b * P + q) * C + c;
                if (to_nchw)
                    *here = get_float(nhwc->data, nhwc->dtype, there);
                else
                    put_float(nhwc->data, nhwc->dtype, there, *here);
            }
}

/* a: the NCHW side, b: the NHWC side */
static void from_nchw_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t C = s->a->shape[1], P = s->a->shape[2] * s->a->shape[3];
    const int64_t parts = (P + TRANSPOSE_POSITIONS - 1) / TRANSPOSE_POSITIONS;
    for (int64_t i = first; i < last; i++)
        transpose_block(s->a->data, s->b, i / parts, i % parts * TRANSPOSE_POSITIONS, P, C, false);
}

static void to_nchw_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    const int64_t C = s->a->shape[1], P = s->a->shape[2] * s->a->shape[3];
    const int64_t parts = (P + TRANSPOSE_POSITIONS - 1) / TRANSPOSE_POSITIONS;
    for (int64_t i = first; i < last; i++)
        transpose_block(s->a->data, s->b, i / parts, i % parts * TRANSPOSE_POSITIONS, P, C, true);
}

static void transpose(const Tensor *nchw, const Tensor *nhwc, PieceFn piece)
{
    const int64_t P = nchw->shape[2] * nchw->shape[3];
    for_pieces(nchw->shape[0] * ((P + TRANSPOSE_POSITIONS - 1) / TRANSPOSE_POSITIONS),
               TRANSPOSE_POSITIONS * nchw->shape[1], piece, &(Args){.a = nchw, .b = nhwc});
}

static Status cpu_from_nchw(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    transpose(x, y, from_nchw_piece);
    return STATUS_OK;
}

static Status cpu_to_nchw(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    transpose(y, x, to_nchw_piece);
    return STATUS_OK;
}

void ISA(shape_table)(Device *d)
{
    d->concat = cpu_concat;
    d->slice_channels = cpu_slice_channels;
    d->from_nchw = cpu_from_nchw;
    d->to_nchw = cpu_to_nchw;
}
