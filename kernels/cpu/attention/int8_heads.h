/* One head's queries, keys and values in 8 bits, in the order of their use (attention_int8.c).
 *
 *     k ≈ step (u − 128) + centre[i]      u without a sign, one step for the head, a centre for each channel
 *     v ≈ step[i] w + centre[i]           w with a sign, a step and a centre for each channel
 *     q ≈ step n                          n with a sign, a step for each query
 *
 * Keys' centres are left away: they add the same to all scores of a query, which softmax does not see. Nor
 * does it see what is left of u's 128, but taking that off as well keeps sums small. Values' centres are
 * added to the result, as the weights of a query sum up to 1. */
#ifndef ATL_CPU_INT8_HEADS_H
#define ATL_CPU_INT8_HEADS_H

#include "kernels/cpu/dot.h"
#include "heads.h"

#include <math.h>
#include <string.h>

enum {
    MOST_CHANNELS = 256, /* of a head */
    KEY_GROUP = 8,       /* keys are padded to whole groups of so many */
    ZERO = 128,          /* of keys */
};

/* What a head's numbers are times. */
typedef struct Int8Head {
    float k_step, k_length; /* k_length: of the longest key, in steps */
    bool odd;               /* there is NaN or infinity in k or v */
    float v_step[MOST_CHANNELS], v_centre[MOST_CHANNELS];
} Int8Head;

/* Sizes of one head's operands. */
typedef struct Int8Sizes {
    int64_t keys, quads, columns; /* keys, padded; quads of channels; columns of values: d and one of ones */
} Int8Sizes;

static inline Int8Sizes int8_sizes(const Heads *h)
{
    return (Int8Sizes){.keys = (h->M + KEY_GROUP - 1) / KEY_GROUP * KEY_GROUP,
                       .quads = (h->d + QUAD - 1) / QUAD,
                       .columns = h->d + 1};
}

/* Numbers at .. at+n-1 of a tensor, n up to VL: vec_get_n without its loop over the last ones of 16 bits. */
VEC vf channels(const Tensor *t, DType type, int64_t at, int n)
{
    if (type == DTYPE_F32 || n == VL)
        return vec_get_n(t->data, type, at, n);
    const vh h = (vh)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), (const uint16_t *)t->data + at);
    return type == DTYPE_BF16 ? vec_from_bf16(h) : vec_from_f16(h);
}

/* Least and most of each channel, and NaN in *odd if a number is none. */
typedef struct Ranges {
    float least[MOST_CHANNELS], most[MOST_CHANNELS], odd;
} Ranges;

VEC void ranges_of(Head x, DType type, const Heads *h, Ranges *r)
{
    vf odd = vec_set(0);
    for (int64_t i = 0; i < h->d; i += VL) {
        const int part = vec_part(i, h->d);
        vf least = vec_set(INFINITY), most = vec_set(-INFINITY);
        for (int64_t t = 0; t < x.tokens; t++) {
            const vf y = channels(x.t, type, x.at + t * h->stride + i, part);
            least = vec_min(y, least), most = vec_max(y, most);
            odd += y * 0.0f;
        }
        vec_store(r->least + i, least), vec_store(r->most + i, most);
    }
    r->odd = vec_sum(odd);
}

/* Numbers as whole ones of 8 bits, in the lowest byte of each lane. */
VEC vu vec_bytes(vf x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds; the lowest byte is the number's */
    return (vu)(x + magic) & 0xff;
}

VEC void put_bytes(uint8_t *to, vu x, int n)
{
    const vb bytes = __builtin_convertvector(x, vb);
    _mm_mask_storeu_epi8(to, (__mmask16)((1u << n) - 1), (__m128i)bytes);
}

/* A step for numbers up to `most`, which `whole` steps are to be. NaN stays NaN. */
static inline float step_for(float most, float whole)
{
    return most < 1e-30f ? 1 : most / whole;
}

/* Keys (keys, quads · 4); the missing ones are the last once more, so that no maximum changes. */
VEC void pack_keys(Head k, DType type, const Heads *h, const Int8Sizes *s, const Ranges *r, Int8Head *to,
                   uint8_t *packed)
{
    float width = 0, longest = 0;
    for (int64_t i = 0; i < h->d; i++)
        width = fmaxf(width, r->most[i] - r->least[i]);
    to->k_step = step_for(width, 2 * (ZERO - 1));
    const vf by = vec_set(1 / to->k_step);
    for (int64_t t = 0; t < s->keys; t++) {
        uint8_t *row = packed + t * s->quads * QUAD;
        const int64_t from = k.at + smaller(t, h->M - 1) * h->stride;
        vf length = vec_set(0);
        memset(row + (s->quads - 1) * QUAD, 0, QUAD);
        for (int64_t i = 0; i < h->d; i += VL) {
            const int part = vec_part(i, h->d);
            const vf centre =
                (vec_get_n(r->least + i, DTYPE_F32, 0, part) + vec_get_n(r->most + i, DTYPE_F32, 0, part)) *
                0.5f;
            const vf x = (channels(k.t, type, from + i, part) - centre) * by;
            length += x * x;
            put_bytes(row + i, vec_bytes(x + (float)ZERO), part);
        }
        longest = fmaxf(longest, vec_sum(length));
    }
    to->k_length = sqrtf(longest);
}

/* Four tokens' numbers of VL channels as quads. */
VEC vu value_quads(Head v, DType type, const Heads *h, int64_t token, int64_t i, int part, vf by, vf centre)
{
    vu quads = {0};
    for (int j = 0; j < QUAD && token + j < h->M; j++) {
        const vf x = channels(v.t, type, v.at + (token + j) * h->stride + i, part);
        quads |= vec_bytes((x - centre) * by) << (8 * j);
    }
    return quads;
}

/* Values (keys/4, d+1, 4); the last column is 1, so that the sum of a query's weights comes out with the
 * others. Missing ones are 0. */
VEC void pack_values(Head v, DType type, const Heads *h, const Int8Sizes *s, const Ranges *r, Int8Head *to,
                     int8_t *packed)
{
    for (int64_t i = 0; i < h->d; i++) {
        to->v_centre[i] = (r->most[i] + r->least[i]) * 0.5f;
        to->v_step[i] = step_for(r->most[i] - r->least[i], 2 * (ZERO - 1));
        to->odd |= !isfinite(to->v_step[i]);
    }
    for (int64_t t = 0; t < s->keys; t += QUAD) {
        int8_t *row = packed + t * s->columns;
        for (int64_t i = 0; i < h->d; i += VL) {
            const int part = vec_part(i, h->d);
            const vf by = 1.0f / vec_get_n(to->v_step + i, DTYPE_F32, 0, part),
                     centre = vec_get_n(to->v_centre + i, DTYPE_F32, 0, part);
            const vu quads = value_quads(v, type, h, t, i, part, by, centre);
            vec_put_n(row + i * QUAD, DTYPE_F32, 0, (vf)quads, part);
        }
        memset(row + h->d * QUAD, 1, QUAD);
    }
}

/* Queries -----------------------------------------------------------------------------------------------
 */

/* What belongs to a block of queries: (strip, quads, LANES) of four bytes each; their steps, lengths (in
 * steps) and sums. */
typedef struct Int8Queries {
    Cell *packed;
    float step[LANES_BLOCK], length[LANES_BLOCK];
    int32_t sum[LANES_BLOCK];
} Int8Queries;

/* A query's bytes to row (quads · 4). */
VEC void round_query(Head q, DType type, const Heads *h, int64_t token, int64_t lane, int8_t *row,
                     Int8Queries *to)
{
    const int64_t from = q.at + token * h->stride;
    vf most = vec_set(0), odd = vec_set(0), sum = vec_set(0), length = vec_set(0);
    for (int64_t i = 0; i < h->d; i += VL) {
        const vf x = channels(q.t, type, from + i, vec_part(i, h->d));
        most = vec_max(vec_abs(x), most);
        odd += x * 0.0f;
    }
    const float step = step_for(vec_largest(most) + vec_sum(odd), ZERO - 1), by = 1 / step;
    for (int64_t i = 0; i < h->d; i += VL) {
        const int part = vec_part(i, h->d);
        const vf x = channels(q.t, type, from + i, part) * by;
        const vu bytes = vec_bytes(x);
        const vf whole = __builtin_convertvector((vi)(bytes << 24) >> 24, vf);
        sum += whole, length += whole * whole;
        put_bytes((uint8_t *)row + i, bytes, part);
    }
    to->step[lane] = step;
    to->length[lane] = sqrtf(vec_sum(length));
    to->sum[lane] = (int32_t)vec_sum(sum);
}

/* `lanes` queries from `first` on; lanes beyond are 0. rows is (LANES_BLOCK, quads · 4). */
static inline void pack_queries(Head q, int64_t first, int64_t lanes, const Heads *h, const Int8Sizes *s,
                                int8_t *rows, Int8Queries *to)
{
    for (int64_t l = 0; l < LANES_BLOCK; l++) {
        int8_t *row = rows + l * s->quads * QUAD;
        to->step[l] = to->length[l] = 0, to->sum[l] = 0;
        memset(row, 0, (size_t)(s->quads * QUAD));
        if (l < lanes)
            WITH_DTYPE(q.t->dtype, round_query(q, T, h, first + l, l, row, to));
    }
    const Rows from = {(const Cell *)(const void *)rows, s->quads};
    for (int64_t l = 0; l < (lanes + LANES - 1) / LANES * LANES; l += VL)
        pack_vector(from, l, lanes, s->quads, to->packed + l / LANES * s->quads * LANES + l % LANES);
}

#endif
