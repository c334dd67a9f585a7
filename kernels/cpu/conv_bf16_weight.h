/* Panels of a 3×3 weight for products of bf16 (conv_bf16.c), made in the cache from the order that files
 * have, (K,C,3,3).
 *
 * A panel is of LANES channels that are written and of `chunk` that are read, in pairs of neighbours:
 * (slot, chunk/2, LANES, 2). A slot is a tap of the window, turned by 180° backward, where lanes are the
 * file's C and pairs its K. Over a doubled map a window sees 2×2 different pixels of its own phase
 * (conv_weight.h); in rows, columns likewise, all phases together take four sums of the three weights,
 *
 *     w0    w1 + w2    w0 + w1    w2
 *
 * the first two an even result's, the others an odd one's. So 16 slots, 4 · (sum of rows) + (sum of columns);
 * the gradient of the input reads all of them for each pixel. */
#ifndef ATL_CPU_CONV_BF16_WEIGHT_H
#define ATL_CPU_CONV_BF16_WEIGHT_H

#include "vec.h"

enum {
    LANES = 2 * VL,
    TAPS = 9,
    SUMS = 16,
    CHUNK = 64, /* channels that are read, at most */
    PAIRS = CHUNK / 2,
    RUN = CHUNK * TAPS, /* numbers that follow each other in the file */
    FOUR = 4            /* words of 32 bits in a quarter of a vector */
};

typedef struct Panels {
    const void *w;
    DType type;
    int64_t K, C; /* of the file */
    int64_t chunk;
    bool turned, sums;
} Panels;

/* A thread's own memory for it. */
typedef struct Staged {
    uint16_t rows[VL][RUN];           /* of a weight that is not in bf16 */
    uint32_t taps[TAPS * PAIRS * VL]; /* before they are summed up */
} Staged;

/* Where the pair `pair` of slot `slot` has its lanes in a panel, or in what is staged. */
VEC int64_t place_of(const Panels *p, int64_t slot, int64_t pair, int64_t lanes)
{
    return (slot * (p->chunk / 2) + pair) * lanes;
}

/* Forward ----------------------------------------------------------------------------------------------- */

/* The run of the file's row k, from channel c on, in bf16. */
VEC const uint16_t *run_of(const Panels *p, int64_t k, int64_t c, uint16_t *staged)
{
    const int64_t at = (k * p->C + c) * TAPS;
    if (p->type == DTYPE_BF16)
        return (const uint16_t *)p->w + at;
    for (int64_t i = 0; i < p->chunk * TAPS; i += VL)
        WITH_DTYPE(p->type, vec_put(staged, DTYPE_BF16, i, vec_get(p->w, T, at + i)));
    return staged;
}

/* The words first … first + 3 of VL rows as VL lanes: rows j, j + 4, j + 8 and j + 12 lie in vector j. */
VEC void turn_words(const uint16_t *const row[VL], int64_t first, vu word[FOUR])
{
    __m512i x[FOUR], y[FOUR];
    for (int j = 0; j < FOUR; j++) {
        x[j] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)(row[j] + 2 * first)));
#define QUARTER(q)                                                                                           \
    x[j] = _mm512_inserti32x4(                                                                               \
        x[j], _mm_loadu_si128((const __m128i *)(const void *)(row[FOUR * q + j] + 2 * first)), q)
        QUARTER(1);
        QUARTER(2);
        QUARTER(3);
#undef QUARTER
    }
    y[0] = _mm512_unpacklo_epi32(x[0], x[1]), y[1] = _mm512_unpackhi_epi32(x[0], x[1]);
    y[2] = _mm512_unpacklo_epi32(x[2], x[3]), y[3] = _mm512_unpackhi_epi32(x[2], x[3]);
    word[0] = (vu)_mm512_unpacklo_epi64(y[0], y[2]), word[1] = (vu)_mm512_unpackhi_epi64(y[0], y[2]);
    word[2] = (vu)_mm512_unpacklo_epi64(y[1], y[3]), word[3] = (vu)_mm512_unpackhi_epi64(y[1], y[3]);
}

/* VL lanes from k on, each a row of the file. Two channels are 9 words there, whose 18 halves make 9 pairs of
 * numbers that lie 9 apart: of tap t, halves t and 9 + t. */
VEC void taps_forward(const Panels *p, int64_t k, int64_t c, Staged *own, uint32_t *to, int64_t lanes)
{
    const uint16_t *row[VL];
    for (int l = 0; l < VL; l++)
        row[l] = run_of(p, k + l, c, own->rows[l]);
    for (int64_t pair = 0; pair < p->chunk / 2; pair += FOUR) {
        vu word[TAPS * FOUR];
        for (int i = 0; i < TAPS; i++)
            turn_words(row, pair * TAPS + i * FOUR, word + i * FOUR);
        for (int i = 0; i < FOUR; i++)
            for (int t = 0; t < TAPS; t++) {
                const vu first = word[i * TAPS + t / 2], second = word[i * TAPS + (TAPS + t) / 2];
                const vu both = t % 2 ? first >> 16 | second << 16 : (first & 0xffff) | (second & 0xffff0000);
                vec_store((float *)(void *)(to + place_of(p, t, pair + i, lanes)), (vf)both);
            }
    }
}

/* Backward ---------------------------------------------------------------------------------------------- */

/* Every third of three vectors' numbers, from the b-th on: as two shuffles. */
#define THIRD(m, b) ((3 * m + b) % 32)
#define OR_OWN(m, b) (3 * m + b < 32 ? m : 16 + (3 * m + b) % 32)
#define EACH_LANE(f, b)                                                                                      \
    ((vi){f(0, b), f(1, b), f(2, b), f(3, b), f(4, b), f(5, b), f(6, b), f(7, b), f(8, b), f(9, b),          \
          f(10, b), f(11, b), f(12, b), f(13, b), f(14, b), f(15, b)})
#define THIRDS(x, b)                                                                                         \
    __builtin_shuffle(__builtin_shuffle((x)[0], (x)[1], EACH_LANE(THIRD, b)), (x)[2], EACH_LANE(OR_OWN, b))

/* VL numbers as they are stored, rounded to bf16, each in a 32-bit lane. */
VEC vu wide_bf16(const void *w, DType type, int64_t at)
{
    if (type == DTYPE_BF16)
        return __builtin_convertvector(*(const vh_mem *)((const uint16_t *)w + at), vu);
    return __builtin_convertvector(vec_to_bf16(vec_get(w, type, at)), vu);
}

/* VL lanes from c on, neighbours in the file, in which pairs are rows from k on. */
VEC void taps_turned(const Panels *p, DType type, int64_t k, int64_t c, uint32_t *to, int64_t lanes)
{
    for (int64_t pair = 0; pair < p->chunk / 2; pair++) {
        const int64_t at = ((k + 2 * pair) * p->C + c) * TAPS, next = at + p->C * TAPS;
        vf x[TAPS], thirds[3][3]; /* pairs in the order (lane, tap) */
        for (int i = 0; i < TAPS; i++)
            x[i] = (vf)(wide_bf16(p->w, type, at + i * VL) | wide_bf16(p->w, type, next + i * VL) << 16);
        for (int g = 0; g < 3; g++) {
            thirds[0][g] = THIRDS(x + 3 * g, 0);
            thirds[1][g] = THIRDS(x + 3 * g, 1);
            thirds[2][g] = THIRDS(x + 3 * g, 2);
        }
        for (int column = 0; column < 3; column++) {
            const vf row[3] = {THIRDS(thirds[column], 0), THIRDS(thirds[column], 1),
                               THIRDS(thirds[column], 2)};
            for (int i = 0; i < 3; i++)
                vec_store((float *)(void *)(to + place_of(p, TAPS - 1 - (3 * i + column), pair, lanes)),
                          row[i]);
        }
    }
}

/* Over a doubled map ------------------------------------------------------------------------------------- */

VEC void sums_of(vf to[4], const vf w[3])
{
    to[0] = w[0];
    to[1] = w[1] + w[2];
    to[2] = w[0] + w[1];
    to[3] = w[2];
}

/* The sixteen sums of nine taps, of each pair's first or second number. */
VEC void sums_of_taps(const vu taps[TAPS], bool second, vf sums[4][4])
{
    vf half[3][4], column[3];
    for (int v = 0; v < 3; v++) {
        for (int u = 0; u < 3; u++)
            column[u] = second ? (vf)(taps[u * 3 + v] & 0xffff0000u) : (vf)(taps[u * 3 + v] << 16);
        sums_of(half[v], column);
    }
    for (int i = 0; i < 4; i++) {
        const vf row[3] = {half[0][i], half[1][i], half[2][i]};
        sums_of(sums[i], row);
    }
}

/* Turned taps give turned sums: the first of them is then of the last. */
VEC void sum_taps(const Panels *p, const uint32_t *taps, uint32_t *to)
{
    for (int64_t pair = 0; pair < p->chunk / 2; pair++) {
        vu tap[TAPS];
        vf first[4][4], second[4][4];
        for (int t = 0; t < TAPS; t++)
            tap[t] = (vu)vec_load((const float *)(const void *)(taps + place_of(p, t, pair, VL)));
        sums_of_taps(tap, false, first);
        sums_of_taps(tap, true, second);
        for (int s = 0; s < SUMS; s++) {
            const vu low = __builtin_convertvector(vec_to_bf16(first[s / 4][s % 4]), vu),
                     high = (vu)vec_from_bf16(vec_to_bf16(second[s / 4][s % 4]));
            vec_store((float *)(void *)(to + place_of(p, s, pair, LANES)), (vf)(low | high));
        }
    }
}

/* The panel of the channels that are written from `out` on, of `chunk` that are read from `in` on. */
static inline void pack_panel(const Panels *p, int64_t out, int64_t in, Staged *own, uint32_t *panel)
{
    for (int half = 0; half < 2; half++) {
        uint32_t *to = p->sums ? own->taps : panel + half * VL;
        const int64_t lanes = p->sums ? VL : LANES;
        if (!p->turned)
            taps_forward(p, out + half * VL, in, own, to, lanes);
        else
            WITH_DTYPE(p->type, taps_turned(p, T, in, out + half * VL, to, lanes));
        if (p->sums)
            sum_taps(p, own->taps, panel + half * VL);
    }
}

#endif
