/* The two products that attention is made of, on tiles that stay in cache.
 *
 * One side of a tile are lanes: a strip of LANES tokens side by side, stored transposed as (depth,LANES). The
 * other side are rows, used as they lie in memory, one number broadcast at a time. So softmax over rows is
 * vertical, and neither product needs the other's result turned around:
 *
 *     scores    t (rows,LANES) = rows (rows,depth) · lanes (depth,LANES)          q k^T, do v^T
 *     combine   o (d,LANES)   += rows^T (d,rows) · t (rows,LANES)                 p v, ds k, …
 *
 * Everything is made of 32-bit cells: a float, or, where the processor multiplies bf16, two neighbours along
 * the summed dimension. (depth is then d/2, and combine's rows are pairs of tokens.) */
#ifndef ATL_CPU_TILES_H
#define ATL_CPU_TILES_H

#include "kernels/cpu/vec.h"

enum {
    LANES = 2 * VL, /* two vectors */
    GROUP_ROWS =
        VL == 16 ? 8 : 6, /* rows of scores at a time; with two vectors each they fill the registers */
    GROUP_FEATURES = VL == 16 ? 12 : 6, /* rows of combine's result at a time */
};

typedef float Cell;

/* acc += a b: as floats, or as two products of bf16 each. */
VEC vf cell_product(bool pairs, vf acc, vf a, vf b)
{
#if VL == 16
    if (pairs) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
        return acc;
    }
#endif
    (void)pairs;
    return acc + a * b;
}

/* n rows of scores. */
VEC void score_group(bool pairs, int n, const Cell *row, int64_t ld, const Cell *lanes, int64_t depth,
                     float *t)
{
    vf acc[GROUP_ROWS][2] = {{{0}}};
    for (int64_t i = 0; i < depth; i++) {
        const vf a = vec_load(lanes + i * LANES), b = vec_load(lanes + i * LANES + VL);
#pragma GCC unroll 16
        for (int r = 0; r < n; r++) {
            const vf x = vec_set(row[r * ld + i]);
            acc[r][0] = cell_product(pairs, acc[r][0], a, x);
            acc[r][1] = cell_product(pairs, acc[r][1], b, x);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        vec_store(t + r * LANES, acc[r][0]);
        vec_store(t + r * LANES + VL, acc[r][1]);
    }
}

VEC void scores_of(bool pairs, const Cell *row, int64_t ld, int64_t rows, const Cell *lanes, int64_t depth,
                   float *t)
{
    int64_t r = 0;
    for (; r + GROUP_ROWS <= rows; r += GROUP_ROWS)
        score_group(pairs, GROUP_ROWS, row + r * ld, ld, lanes, depth, t + r * LANES);
    for (; r + 2 <= rows; r += 2)
        score_group(pairs, 2, row + r * ld, ld, lanes, depth, t + r * LANES);
    if (r < rows)
        score_group(pairs, 1, row + r * ld, ld, lanes, depth, t + r * LANES);
}

/* n rows of combine's result, features f … f+n-1. */
VEC void combine_group(bool pairs, int n, const Cell *row, int64_t ld, int64_t rows, const Cell *t, float *o)
{
    vf acc[GROUP_FEATURES][2];
#pragma GCC unroll 16
    for (int f = 0; f < n; f++) {
        acc[f][0] = vec_load(o + f * LANES);
        acc[f][1] = vec_load(o + f * LANES + VL);
    }
    for (int64_t r = 0; r < rows; r++) {
        const vf a = vec_load(t + r * LANES), b = vec_load(t + r * LANES + VL);
#pragma GCC unroll 16
        for (int f = 0; f < n; f++) {
            const vf x = vec_set(row[r * ld + f]);
            acc[f][0] = cell_product(pairs, acc[f][0], a, x);
            acc[f][1] = cell_product(pairs, acc[f][1], b, x);
        }
    }
#pragma GCC unroll 16
    for (int f = 0; f < n; f++) {
        vec_store(o + f * LANES, acc[f][0]);
        vec_store(o + f * LANES + VL, acc[f][1]);
    }
}

/* Features in groups as equal as possible: 40 are 4 groups of 10, not 12, 12, 12 and 4. */
VEC void combine_of(bool pairs, const Cell *row, int64_t ld, int64_t rows, const Cell *t, int64_t d, float *o)
{
    int64_t left = (d + GROUP_FEATURES - 1) / GROUP_FEATURES;
    for (int64_t f = 0; f < d; left--) {
        const int64_t n = (d - f + left - 1) / left;
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        combine_group(pairs, n_ < GROUP_FEATURES ? n_ : GROUP_FEATURES, row + f, ld, rows, t,                \
                      o + f * LANES);                                                                        \
        break;
        switch (n) {
            EACH_TO_12(GROUP)
        default:
            break;
        }
#undef GROUP
        f += n;
    }
}

static inline void tile_scores(bool pairs, const Cell *row, int64_t ld, int64_t rows, const Cell *lanes,
                               int64_t depth, float *t)
{
    if (VL == 16 && pairs)
        scores_of(true, row, ld, rows, lanes, depth, t);
    else
        scores_of(false, row, ld, rows, lanes, depth, t);
}

static inline void tile_combine(bool pairs, const Cell *row, int64_t ld, int64_t rows, const Cell *t,
                                int64_t d, float *o)
{
    if (VL == 16 && pairs)
        combine_of(true, row, ld, rows, t, d, o);
    else
        combine_of(false, row, ld, rows, t, d, o);
}

/* 2^x for x from -126 up, within 1e-7 of itself; smaller x give 2^-126 or so, and NaN stays NaN. A minimax
 * polynomial on ±1/2. */
VEC vf tile_exp2(vf x)
{
    x = vec_max(vec_set(-126.0f), x);
#if VL == 16
    const __m512 n = _mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf f = x - (vf)n;
#else
    /* 1.5 · 2^23: adding it rounds to an integer, which the low bits then hold. With 127 more they are the
     * exponent of 2^n as it stands in a float. Of vec_max the second argument is the one whose NaN it keeps,
     * and a product keeps it whatever the other factor's bits have come to. */
    const float magic = 12582912.0f + 127.0f;
    const vf n = x + magic;
    const vf f = x - (n - magic);
#endif
    vf p = f * 1.3276470424e-3f + 9.6755416184e-3f;
    p = p * f + 5.5507132809e-2f;
    p = p * f + 2.4022119719e-1f;
    p = p * f + 6.9314696706e-1f;
    p = p * f + 1.0000000717f;
#if VL == 16
    return (vf)_mm512_scalef_ps((__m512)p, n);
#else
    return p * (vf)((vu)n << 23);
#endif
}

/* Two rows of floats as pairs of bf16, a in the low half. NaN stays NaN. */
VEC vf pair_up(vf a, vf b)
{
#if VL == 16
    static const uint16_t zipped[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(a), "v"(b));
    return (vf)_mm512_permutexvar_epi16(_mm512_loadu_si512(zipped), both);
#else
    (void)b; /* pairs are of processors with bf16 */
    return a;
#endif
}

#endif
