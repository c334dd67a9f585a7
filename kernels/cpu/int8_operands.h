/* Operands of products of 8 bits (int8.c): what is rounded on the way, and weights in the order of their
 * use. */
#ifndef ATL_CPU_INT8_OPERANDS_H
#define ATL_CPU_INT8_OPERANDS_H

#include "convert.h"
#include "dot.h"

#include <math.h>
#include <string.h>

enum {
    PANEL = 2 * VL,           /* columns of y */
    ROWS = VL == 16 ? 12 : 6, /* of y, at a time */
    TAPS = 9,
    DEEP = 8192,     /* bytes of a row; beyond, one panel at a time is all that a
                        second-level cache holds */
    LEAST_ROWS = 16, /* of a product: a few rows are not worth it, such as the time's */
    PANELS = 2,      /* for which rows are walked over together */
    PHASES = 4,      /* of a doubled map's pixels, 2 · (row odd) + (column odd) */
    PARTS = 4,       /* panels, or phases of one, that a task has */
    TASKS = 4,       /* for each thread */
    AHEAD = 512,     /* bytes of weights that are asked for ahead, of so many columns that the processor does
                         not see where they lead */
};

typedef struct Job {
    /* the rounded operand: rows of `segments` pieces of `quads` · 4 bytes */
    uint8_t *q;
    float *step;
    int32_t *zero;
    int64_t rows, ld, segments, quads, segment_ld;
    /* a convolution's: rows are pixels (B,OH,OW), of a padded map (B,PH,PW,C) */
    const Conv *conv;
    int64_t OH, OW, PH, PW, C;
    bool phases; /* y is (B,2·OH,2·OW,N): a pixel's four are computed together */
    /* the weights (N, depth), a product's as they are, a convolution's (N,C,3,3) */
    const int8_t *w;
    const float *scales;
    int64_t N;
    bool geglu;
    /* what is added, and where to; y (rows, N), or (rows, N/2) */
    const Tensor *bias, *residual, *y;
    bool converts;        /* the processor rounds to bf16 */
    int64_t block, chunk; /* columns and rows of a task */
    int parts;            /* of a task: panels, or phases of one panel */
    char *own;            /* each thread's */
    int threads;
} Job;

/* What belongs to the columns of a task. */
typedef struct Block {
    int8_t *packed[PARTS];
    int32_t sum[PARTS][PANEL]; /* of the weights */
    float scale[PARTS][PANEL], bias[PARTS][PANEL];
} Block;

/* Rounding ---------------------------------------------------------------------------------------------- */

/* least ≤ 0 ≤ most; odd: NaN where one of the numbers is not finite. */
typedef struct Range {
    float least, most, odd;
} Range;

VEC Range range_of(const void *x, DType type, int64_t at, int64_t n)
{
    vf least[2] = {{0}}, most[2] = {{0}}, odd[2] = {{0}}; /* two, so that neither waits for the one before */
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            const vf v = vec_get(x, type, at + i + k * VL);
            least[k] = vec_min(v, least[k]);
            most[k] = vec_max(v, most[k]);
            odd[k] += v * 0.0f;
        }
    for (; i < n; i += VL) {
        const vf v = vec_get_n(x, type, at + i, vec_part(i, n));
        least[0] = vec_min(v, least[0]);
        most[0] = vec_max(v, most[0]);
        odd[0] += v * 0.0f;
    }
    return (Range){-vec_largest(-vec_min(least[0], least[1])), vec_largest(vec_max(most[0], most[1])),
                   vec_sum(odd[0] + odd[1])};
}

/* NaN as a step makes NaN of everything. */
static inline void step_of(Range r, float *step, int32_t *zero)
{
    const float s = (r.most - r.least) * (1.0f / 255), odd = r.odd + s * 0.0f;
    *step = s > 0 ? s + odd : 1 + odd;
    *zero = s > 0 && odd == 0 ? (int32_t)lrintf(-r.least / s) : 0;
}

VEC void round_row(const void *x, DType type, int64_t at, int64_t n, float step, int32_t zero, uint8_t *q)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds; the lowest
                                        byte is the number's */
    const float by = 1.0f / step;
    for (int64_t i = 0; i < n; i += VL) {
        const int part = vec_part(i, n);
        vf v = vec_get_n(x, type, at + i, part) * by + (float)zero;
        v = vec_min(vec_set(255), vec_max(vec_set(0), v)) + magic;
        const vb bytes = __builtin_convertvector((vu)v & 0xff, vb);
        if (part == VL)
            *(vb_mem *)(q + i) = bytes;
        else
            memcpy(q + i, &bytes, (size_t)part);
    }
}

typedef struct Rounding {
    const Tensor *x;
    const Job *j;
    Range *ranges; /* of a map's rows */
} Rounding;

static inline void product_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const Job *j = s->j;
    const int64_t k = j->quads * QUAD;
    for (int64_t r = first; r < last; r++) {
        Range range;
        WITH_DTYPE(s->x->dtype, range = range_of(s->x->data, T, r * k, k));
        step_of(range, &j->step[r], &j->zero[r]);
        WITH_DTYPE(s->x->dtype, round_row(s->x->data, T, r * k, k, j->step[r], j->zero[r], j->q + r * j->ld));
    }
}

static inline void map_ranges_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const int64_t n = s->x->shape[2] * s->j->C;
    for (int64_t r = first; r < last; r++)
        WITH_DTYPE(s->x->dtype, s->ranges[r] = range_of(s->x->data, T, r * n, n));
}

/* Rows of the padded map. */
static inline void map_rows_piece(const void *args, int64_t first, int64_t last)
{
    const Rounding *s = args;
    const Job *j = s->j;
    const int64_t H = s->x->shape[1], W = s->x->shape[2], n = W * j->C, left = j->conv->s.pad_left * j->C;
    for (int64_t r = first; r < last; r++) {
        const int64_t b = r / j->PH, h = r % j->PH - j->conv->s.pad_top;
        uint8_t *q = j->q + r * j->PW * j->C;
        memset(q, j->zero[b], (size_t)(j->PW * j->C));
        if (h >= 0 && h < H)
            WITH_DTYPE(s->x->dtype,
                       round_row(s->x->data, T, (b * H + h) * n, n, j->step[b], j->zero[b], q + left));
    }
}

static inline void round_map(const Job *j, const Tensor *x, Range *ranges)
{
    const Rounding s = {.x = x, .j = j, .ranges = ranges};
    const int64_t B = x->shape[0], H = x->shape[1], n = x->shape[2] * j->C;
    for_pieces(B * H, n, map_ranges_piece, &s);
    for (int64_t b = 0; b < B; b++) {
        Range all = {0};
        for (const Range *r = ranges + b * H; r < ranges + (b + 1) * H; r++) {
            all.least = fminf(all.least, r->least);
            all.most = fmaxf(all.most, r->most);
            all.odd += r->odd;
        }
        step_of(all, &j->step[b], &j->zero[b]);
    }
    for_pieces(B * j->PH, n, map_rows_piece, &s);
}

/* Weights ----------------------------------------------------------------------------------------------- */

/* A quad of VL columns to its place in a panel; their sums are added to *sum. */
VEC void put_quad(vf x, int8_t *to, vi *sum)
{
    vec_store((float *)(void *)to, x);
    *sum = dot(*sum, (vi){0} + 0x01010101, (vi)x);
}

/* VL columns from `column` on, as far as there are, of a product's weights. */
static inline void pack_rows(const Job *j, int64_t column, int columns, int8_t *to, int32_t *sums)
{
    const int64_t k = j->quads * QUAD;
    vi sum = {0};
    for (int64_t i = 0; i < k; i += QUAD * VL) {
        const int64_t bytes = k - i < QUAD * VL ? k - i : QUAD * VL;
        vf x[VL] = {0};
        for (int l = 0; l < columns; l++) {
            const int8_t *from = j->w + (column + l) * k + i;
            __builtin_prefetch(from + AHEAD);
            memcpy(&x[l], from, (size_t)bytes);
        }
        vec_transpose(x);
        for (int64_t q = 0; q < bytes / QUAD; q++)
            put_quad(x[q], to + (i + q * QUAD) * PANEL, &sum);
    }
    memcpy(sums, &sum, sizeof sum);
}

enum { TURNED = (TAPS + VL - 1) / VL * VL };

/* Of each lane's 36 bytes, in nine quads, those of tap t: bytes t, 9 + t, 18 + t and 27 + t, which stand in
 * four different places of a quad, so that turning it by some bytes puts all where they belong. */
VEC vf tap_of(const vf bytes[TAPS], int t)
{
    vu quad = {0};
#pragma GCC unroll 4
    for (int c = 0; c < QUAD; c++) {
        const int at = c * TAPS + t;
        quad |= (vu)bytes[at / QUAD] & 0xffu << 8 * (at % QUAD);
    }
    const int turn = 8 * (t % QUAD);
    return (vf)(turn ? quad >> turn | quad << (32 - turn) : quad);
}

/* The taps of four channels from c on, each a quad of VL columns from `column` on. */
VEC void taps_of(const Job *j, int64_t column, int columns, int64_t c, vf taps[TAPS])
{
    vf bytes[TURNED]; /* a column's four channels follow each other */
#pragma GCC unroll 2
    for (int i = 0; i < TAPS; i += VL) {
        for (int l = 0; l < VL; l++) {
            const int8_t *from = j->w + ((column + l) * j->C + c) * TAPS + i * QUAD;
            __builtin_prefetch(from + AHEAD);
            bytes[i + l] = l < columns ? vec_get_n(from, DTYPE_F32, 0, vec_part(i, TAPS)) : vec_set(0);
        }
        vec_transpose(bytes + i);
    }
#pragma GCC unroll 9
    for (int t = 0; t < TAPS; t++)
        taps[t] = tap_of(bytes, t);
}

/* A convolution's, whose taps come in the order in which a window's bytes do. */
static inline void pack_windows(const Job *j, int64_t column, int columns, int8_t *to, int32_t *sums)
{
    const int64_t quads = j->C / QUAD;
    vi sum = {0};
    for (int64_t c = 0; c < quads; c++) {
        vf taps[TAPS];
        taps_of(j, column, columns, c * QUAD, taps);
        for (int t = 0; t < TAPS; t++)
            put_quad(taps[t], to + (t * quads + c) * PANEL * QUAD, &sum);
    }
    memcpy(sums, &sum, sizeof sum);
}

/* Over a doubled map: a phase's window shows 2×2 pixels, whose weights are sums of up to four (conv_weight.h
 * has the formula). Sums that leave 8 bits are rounded again, all of a column with one factor. */
typedef int16_t vs __attribute__((vector_size(4 * VL)));

/* From nine taps' bytes, the even or the odd ones of each quad, in 16 bits. */
VEC void phase_sums(const vf taps[TAPS], bool odd, int phase, vs sums[4])
{
    vs w[TAPS], rows[2][3];
    for (int t = 0; t < TAPS; t++)
        w[t] = odd ? (vs)taps[t] >> 8 : (vs)((vs)taps[t] << 8) >> 8;
    for (int v = 0; v < 3; v++) {
        rows[0][v] = phase / 2 ? w[v] + w[3 + v] : w[v];
        rows[1][v] = phase / 2 ? w[6 + v] : w[3 + v] + w[6 + v];
    }
    for (int p = 0; p < 2; p++) {
        sums[2 * p] = phase % 2 ? rows[p][0] + rows[p][1] : rows[p][0];
        sums[2 * p + 1] = phase % 2 ? rows[p][2] : rows[p][1] + rows[p][2];
    }
}

VEC vs larger_of(vs a, vs b)
{
    const vs which = a > b;
    return (a & which) | (b & ~which);
}

/* s by / 2^15, rounded; where by is 0, s. */
VEC vs scaled_by(vs s, vs by)
{
#if VL == 16
    const vs y = (vs)_mm512_mulhrs_epi16((__m512i)s, (__m512i)by);
#else
    const vs y = (vs)_mm256_mulhrs_epi16((__m256i)s, (__m256i)by);
#endif
    const vs whole = by == 0;
    return (s & whole) | (y & ~whole);
}

/* The factors of VL columns, from their largest sums, and what they make of the columns' scales. */
static inline vs factors_of(vs largest, float scale[VL])
{
    int16_t most[2 * VL], by[2 * VL];
    vs factors;
    memcpy(most, &largest, sizeof most);
    for (int l = 0; l < VL; l++) {
        const int m = most[2 * l] > most[2 * l + 1] ? most[2 * l] : most[2 * l + 1];
        by[2 * l] = by[2 * l + 1] = (int16_t)(m > 127 ? (127 << 15) / m : 0);
        if (m > 127)
            scale[l] *= 32768.0f / (float)by[2 * l];
    }
    memcpy(&factors, by, sizeof factors);
    return factors;
}

/* VL columns of all phases, the half-th half of their panels. */
static inline void pack_phases(const Job *j, int64_t column, int columns, int half, Block *b)
{
    const int64_t quads = j->C / QUAD;
    vs largest[PHASES] = {{0}}, by[PHASES], sums[2][4];
    vf taps[TAPS];
    for (int64_t c = 0; c < quads; c++) {
        taps_of(j, column, columns, c * QUAD, taps);
        for (int phase = 0; phase < PHASES; phase++)
            for (int odd = 0; odd < 2; odd++) {
                phase_sums(taps, odd, phase, sums[odd]);
                for (int t = 0; t < 4; t++)
                    largest[phase] = larger_of(largest[phase], larger_of(sums[odd][t], -sums[odd][t]));
            }
    }
    for (int phase = 0; phase < PHASES; phase++)
        by[phase] = factors_of(largest[phase], b->scale[phase] + half * VL);
    vi sum[PHASES] = {{0}};
    for (int64_t c = 0; c < quads; c++) {
        taps_of(j, column, columns, c * QUAD, taps);
        for (int phase = 0; phase < PHASES; phase++) {
            phase_sums(taps, false, phase, sums[0]);
            phase_sums(taps, true, phase, sums[1]);
            for (int t = 0; t < 4; t++) {
                const vs x = (scaled_by(sums[0][t], by[phase]) & 0xff) | scaled_by(sums[1][t], by[phase])
                                                                             << 8;
                put_quad((vf)x, b->packed[phase] + half * VL * QUAD + (t * quads + c) * PANEL * QUAD,
                         &sum[phase]);
            }
        }
    }
    for (int phase = 0; phase < PHASES; phase++)
        memcpy(b->sum[phase] + half * VL, &sum[phase], sizeof sum[phase]);
}

/* The columns of h, or of y, that half `half` of a task's part stands for, from the task's column on: how
 * many there are. */
static inline int64_t half_column(const Job *j, int64_t first, int part, int half, int *columns)
{
    const int64_t end = j->geglu ? j->N / 2 : j->N, panel = j->phases ? 0 : part;
    const int64_t at = j->geglu ? first + panel * VL : first + panel * PANEL + half * VL;
    const int64_t left = end - at;
    *columns = left < 0 ? 0 : left < VL ? (int)left : VL;
    return at + (j->geglu && half ? j->N / 2 : 0);
}

static inline void pack_block(const Job *j, int64_t first, Block *b)
{
    for (int p = 0; p < j->parts; p++)
        for (int half = 0; half < 2; half++) {
            int columns;
            const int64_t at = half_column(j, first, p, half, &columns);
            int8_t *to = b->packed[p] + half * VL * QUAD;
            for (int l = 0; l < VL; l++) {
                b->scale[p][half * VL + l] = l < columns ? j->scales[at + l] : 0;
                b->bias[p][half * VL + l] =
                    l < columns && j->bias ? get_float(j->bias->data, j->bias->dtype, at + l) : 0;
            }
            if (j->phases && p == PHASES - 1) /* whose scales are all there now */
                pack_phases(j, at, columns, half, b);
            else if (j->conv && !j->phases)
                pack_windows(j, at, columns, to, b->sum[p] + half * VL);
            else if (!j->conv)
                pack_rows(j, at, columns, to, b->sum[p] + half * VL);
        }
}

#endif
