/* What attention's two ways share (attention.c, attention_backward.c): one head's tokens as rows and lanes of
 * tiles (tiles.h), a thread's memory, the mask. */
#ifndef ATL_CPU_HEADS_H
#define ATL_CPU_HEADS_H

#include "kernels/cpu/convert.h"
#include "tiles.h"

#include <math.h>

enum {
    LANES_BLOCK = 128,
    ROWS = 128,
    QUERIES = 4 * LANES_BLOCK, /* of a task of the forward, at most */
};

/* The sizes, and one head's rows: element (row,i) of picture b, head h lies at (b*tokens + row)*stride + h*d
 * + i. */
typedef struct Heads {
    int64_t B, N, M, d, stride, depth; /* depth: cells of one token */
    int heads;
    bool pairs, causal;
    float scale;
} Heads;

static inline bool is_bf16(const Tensor *t)
{
    return !t || t->dtype == DTYPE_BF16;
}

static inline Heads heads_of(const Attention *a)
{
    const int64_t D = tensor_dim(a->q, -1), d = D / a->heads;
    const bool pairs = computes_bf16() && d % 2 == 0 && is_bf16(a->q) && is_bf16(a->k) && is_bf16(a->v) &&
                       is_bf16(a->grad_out);
    return (Heads){.B = a->q->shape[0],
                   .N = a->q->shape[1],
                   .M = a->k->shape[1],
                   .d = d,
                   .stride = D,
                   .depth = pairs ? d / 2 : d,
                   .heads = a->heads,
                   .pairs = pairs,
                   .causal = a->causal,
                   .scale = 1.0f / sqrtf((float)d)};
}

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One head of one tensor. */
typedef struct Head {
    const Tensor *t;
    int64_t at, tokens; /* of its first element, and how many tokens */
} Head;

static inline Head head_of(const Tensor *t, const Heads *h, int64_t picture, int64_t head)
{
    return (Head){t, picture * t->shape[1] * h->stride + head * h->d, t->shape[1]};
}

/* Operands of tiles
 * ---------------------------------------------------------------------------------------------- */

/* Rows of cells, at p, ld cells apart. */
typedef struct Rows {
    const Cell *p;
    int64_t ld;
} Rows;

/* `rows` tokens from `first` on for tile_scores: where they lie if they follow each other, else side by side
 * in `tile` (rows,d) as f32, or (rows,depth) as pairs. */
static inline Rows score_rows(Head x, int64_t first, int64_t rows, const Heads *h, Cell *tile)
{
    const char *from = at_element(x.t->data, x.t->dtype, x.at + first * h->stride);
    if (h->pairs)
        return (Rows){(const Cell *)(const void *)from, h->stride / 2};
    if (x.t->dtype == DTYPE_F32 && h->stride == h->d)
        return (Rows){(const Cell *)(const void *)from, h->d};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < h->d; i += VL) {
            const int n = vec_part(i, h->d);
            vec_put_n(tile, DTYPE_F32, r * h->d + i, vec_get_n(from, x.t->dtype, r * h->stride + i, n), n);
        }
    return (Rows){tile, h->d};
}

/* n words, 1 ≤ n ≤ VL, each in a lane. */
VEC vu words_of(const uint16_t *p, int n)
{
#if VL == 16
    return (vu)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
#else
    vu x = {0};
    for (int i = 0; i < n; i++)
        x[i] = p[i];
    return x;
#endif
}

/* The same tokens for tile_combine. In f32 they are the rows that tile_scores has; pairs of bf16 are of two
 * tokens here: tile (rows/2,d), a missing last token being 0. */
static inline Rows combine_rows(Head x, int64_t first, int64_t rows, const Heads *h, Rows scores, Cell *tile)
{
    if (!h->pairs)
        return scores;
    const uint16_t *from = (const uint16_t *)x.t->data + x.at + first * h->stride;
    for (int64_t r = 0; r < rows; r += 2)
        for (int64_t i = 0; i < h->d; i += VL) {
            const int n = vec_part(i, h->d);
            const uint16_t *at = from + r * h->stride + i;
            const vu a = words_of(at, n), b = r + 1 < rows ? words_of(at + h->stride, n) : (vu){0};
            vec_put_n(tile, DTYPE_F32, r / 2 * h->d + i, (vf)(a | b << 16), n);
        }
    return (Rows){tile, h->d};
}

/* VL tokens from `lane` on of n, turned into columns: to (depth,LANES). Tokens beyond n are 0. */
static inline void pack_vector(Rows from, int64_t lane, int64_t n, int64_t depth, Cell *to)
{
    for (int64_t i = 0; i < depth; i += VL) {
        const int part = vec_part(i, depth);
        vf x[VL];
        for (int j = 0; j < VL; j++)
            x[j] = lane + j < n ? vec_get_n(from.p, DTYPE_F32, (lane + j) * from.ld + i, part) : vec_set(0);
        vec_transpose(x);
        for (int j = 0; j < part; j++)
            vec_store(to + (i + j) * LANES, x[j]);
    }
}

/* `lanes` tokens from `first` on, transposed into strips (strip,depth,LANES); lanes beyond are 0. tile is
 * (ROWS,d). */
static inline void pack_lanes(Head x, int64_t first, int64_t lanes, const Heads *h, Cell *tile, Cell *packed)
{
    const Rows from = score_rows(x, first, lanes, h, tile);
    for (int64_t lane = 0; lane < (lanes + LANES - 1) / LANES * LANES; lane += VL)
        pack_vector(from, lane, lanes, h->depth, packed + lane / LANES * h->depth * LANES + lane % LANES);
}

/* A result (strip,d,LANES), times factor[lane], back into its tensor. */
static inline void unpack_lanes(const float *packed, const float *factor, int64_t lanes, const Heads *h,
                                Tensor *t, int64_t at)
{
    for (int64_t lane = 0; lane < lanes; lane += VL) {
        const float *from = packed + lane / LANES * h->d * LANES + lane % LANES;
        const vf by = vec_load(factor + lane);
        for (int64_t i = 0; i < h->d; i += VL) {
            const int part = vec_part(i, h->d);
            vf x[VL];
            for (int j = 0; j < VL; j++)
                x[j] = j < part ? vec_load(from + (i + j) * LANES) * by : vec_set(0);
            vec_transpose(x);
            for (int j = 0; j < VL && lane + j < lanes; j++)
                vec_put_n(t->data, t->dtype, at + (lane + j) * h->stride + i, x[j], part);
        }
    }
}

/* Numbers of a strip's lanes: first, first+1, … */
VEC vi lane_numbers(int64_t first)
{
    vi x;
    for (int i = 0; i < VL; i++)
        x[i] = (int32_t)first + i;
    return x;
}

/* A thread's scratch memory: two operands and two results in lanes, two tiles of scores, rows of three
 * tensors widened and two paired. Rows are ROWS tokens, also where they serve pack_lanes. */
typedef struct Work {
    Cell *lanes[2], *rows[3], *paired[2];
    float *sum[2], *tile[2];
} Work;

static inline int64_t padded(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static inline Work work_of(float *p, const Heads *h)
{
    Work w;
    const int64_t lanes = LANES_BLOCK * padded(h->d), rows = ROWS * padded(h->d);
    for (int i = 0; i < 2; i++, p += lanes)
        w.lanes[i] = p;
    for (int i = 0; i < 2; i++, p += lanes)
        w.sum[i] = p;
    for (int i = 0; i < 3; i++, p += rows)
        w.rows[i] = p;
    for (int i = 0; i < 2; i++, p += rows / 2)
        w.paired[i] = p;
    for (int i = 0; i < 2; i++, p += ROWS * LANES)
        w.tile[i] = p;
    return w;
}

static inline int64_t work_floats(const Heads *h)
{
    return (4 * LANES_BLOCK + 4 * ROWS) * padded(h->d) + 2 * ROWS * LANES;
}

/* Rows first … of a tile belong to keys that a lane's query, or to queries that a lane's key, may not meet:
 * sees where lane ≥ row (lanes are queries) or lane ≤ row (lanes are keys). Only tiles on the diagonal are
 * masked. */
static inline void mask_tile(float *t, int64_t row, int64_t rows, int64_t lane, bool lanes_are_queries)
{
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++) {
            const vi number = lane_numbers(lane + v * VL), here = (vi){0} + (int32_t)(row + r);
            const vi hidden = lanes_are_queries ? number < here : number > here;
            float *cell = t + r * LANES + v * VL;
            vec_store(cell, vec_select(hidden, vec_set(-INFINITY), vec_load(cell)));
        }
}

static inline int64_t blocks_of(int64_t tokens)
{
    return (tokens + LANES_BLOCK - 1) / LANES_BLOCK;
}

#endif
