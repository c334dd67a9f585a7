/* Attention with products of 8 bits: forward, where nothing is trained (after SageAttention, Zhang et al.
 * 2024).
 *
 * Tasks, strips and tiles are attention.c's; both products are of bytes (dot.h), exact in 32 bits, and in
 * between exponentials are of 16 bits, two to each lane. Keys and values are rounded once, before all tasks,
 * queries by the task they belong to (int8_heads.h).
 *
 *     scores    t = (Σ u n − 128 Σ n) / 2^shift · factor      in 1/64 of a power of two; shift, so that by
 *               Cauchy and Schwarz no sum leaves 16 bits; factor has the steps, 1/√d and log2 e
 *     weights   z = the tile's largest − t                    p = table[z mod 64] 2^-(z/64), up to 255
 *     combine   o = o keep + gain Σ p w                       f32; keep and gain: 2^(largest before - now), …
 *
 * Weights are rounded up or down by a sequence that takes each fraction of 1 as often as it says (golden
 * ratio, by key): so a thousand keys of 1/600 of the largest still add up to what they are. Their sum l is
 * made of what they were rounded to.
 *
 * A query whose scores could be hundreds of powers of two apart goes attention.c's way with its block, as do
 * heads with NaN or infinity: there a step of 8 bits is too coarse.
 *
 * On one core (Zen 5) 800 GFLOP/s with heads of 40, 780 with heads of 80, where bf16 has 460 and 470. */
#include "attention_int8.h"

#if VL == 16

#include "kernels/cpu/convert.h"
#include "int8_heads.h"

#include <omp.h>

enum {
    LEAST_KEYS = 128,    /* fewer are not worth it, such as a text's */
    FIRST = 9,           /* columns of the group that makes weights, which need registers as well */
    UNIT = 64,           /* of a power of two */
    LARGEST = 255 * 256, /* p in 1/256, which has room for what rounds it */
    MOST_FACTOR = 31744  /* of 2^15: t keeps away from the end of 16 bits */
};

/* LARGEST · 2^(-i/UNIT), rounded. */
static const uint16_t powers[UNIT] = {
    65280, 64577, 63881, 63193, 62512, 61839, 61173, 60514, 59862, 59217, 58579, 57948, 57324,
    56707, 56096, 55491, 54894, 54302, 53717, 53139, 52566, 52000, 51440, 50886, 50338, 49796,
    49259, 48729, 48204, 47684, 47171, 46663, 46160, 45663, 45171, 44684, 44203, 43727, 43256,
    42790, 42329, 41873, 41422, 40976, 40534, 40098, 39666, 39238, 38816, 38398, 37984, 37575,
    37170, 36770, 36374, 35982, 35594, 35211, 34831, 34456, 34085, 33718, 33355, 32995};

/* Scores ------------------------------------------------------------------------------------------------ */

/* What a strip's scores are made of. */
typedef struct Strip {
    const Cell *q;       /* (quads, LANES) */
    vi start[2];         /* −128 Σ n */
    vi factor[2];        /* twice 16 bits */
    __m128i shift, rest; /* rest: 16 − shift */
} Strip;

/* Two rows of sums as pairs of t. */
VEC vi pair_scores(const Strip *s, int half, vi low, vi high)
{
    const __m512i a = _mm512_sra_epi32((__m512i)low, s->shift), b = _mm512_sll_epi32((__m512i)high, s->rest);
    return (vi)_mm512_mulhrs_epi16(_mm512_mask_blend_epi16(0xaaaaaaaa, a, b), (__m512i)s->factor[half]);
}

/* t of KEY_GROUP keys: (KEY_GROUP/2, LANES) of two each, keys 0 and 2, 1 and 3, 4 and 6, 5 and 7. */
VEC void score_group_int8(const Strip *s, const uint8_t *k, int64_t quads, vi *t, vi most[2])
{
    vi sum[KEY_GROUP][2];
#pragma GCC unroll 8
    for (int r = 0; r < KEY_GROUP; r++)
        sum[r][0] = s->start[0], sum[r][1] = s->start[1];
    for (int64_t i = 0; i < quads; i++) {
        const vi a = (vi)vec_load(s->q + i * LANES), b = (vi)vec_load(s->q + i * LANES + VL);
#pragma GCC unroll 8
        for (int r = 0; r < KEY_GROUP; r++) {
            const vi x = quad_in_all(k + (r * quads + i) * QUAD);
            sum[r][0] = dot(sum[r][0], x, a);
            sum[r][1] = dot(sum[r][1], x, b);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < KEY_GROUP / 2; p++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const int r = p / 2 * QUAD + p % 2;
            const vi pair = pair_scores(s, half, sum[r][half], sum[r + 2][half]);
            most[half] = (vi)_mm512_max_epi16((__m512i)most[half], (__m512i)pair);
            t[p * 2 + half] = pair;
        }
}

/* Where key r of a tile has its t in lane l. */
static int16_t *score_at(vi *t, int64_t r, int64_t l)
{
    return (int16_t *)t + (((r / QUAD * 2 + r % 2) * LANES + l) * 2 + r / 2 % 2);
}

/* t (keys/2, LANES) of a tile's keys, of which the last are padding, and each lane's largest, twice. */
static void tile_scores_int8(const Strip *s, const uint8_t *k, int64_t quads, int64_t keys, vi *t, vi most[2])
{
    most[0] = most[1] = (vi)_mm512_set1_epi16(INT16_MIN);
    int64_t r = 0;
    for (; r < keys; r += KEY_GROUP)
        score_group_int8(s, k + r * quads * QUAD, quads, t + r, most);
    for (int64_t pad = keys; pad < r; pad++)
        for (int64_t l = 0; l < LANES; l++)
            *score_at(t, pad, l) = INT16_MIN;
    for (int half = 0; half < 2; half++)
        most[half] = (vi)_mm512_max_epi16((__m512i)most[half], _mm512_rol_epi32((__m512i)most[half], 16));
}

/* Weights ----------------------------------------------------------------------------------------------- */

/* p of a pair in 1/256, plus what rounds it. */
VEC __m512i weights_of(const __m512i table[2], __m512i most, __m512i t, const uint16_t *rounding)
{
    const __m512i z = _mm512_subs_epi16(most, t);
    const __m512i part = _mm512_permutex2var_epi16(table[0], z, table[1]);
    const __m512i p = _mm512_srlv_epi16(part, _mm512_srli_epi16(z, 6));
    return _mm512_add_epi16(p, (__m512i)quad_in_all(rounding));
}

/* What weights are made of: t (keys/2, LANES), each lane's largest, and how they are rounded. */
typedef struct Tile {
    const vi *t;
    vi most[2];
    const uint16_t *rounding;
} Tile;

/* Weights of four keys from `key` on. */
VEC vi quad_of_weights(const __m512i table[2], const Tile *tile, int64_t key, int half)
{
    const __m512i upper = _mm512_set1_epi16((int16_t)0xff00), most = (__m512i)tile->most[half],
                  a = weights_of(table, most, (__m512i)tile->t[key + half], tile->rounding + key),
                  b = weights_of(table, most, (__m512i)tile->t[key + 2 + half], tile->rounding + key + 2);
    return (vi)_mm512_ternarylogic_epi64(_mm512_srli_epi16(a, 8), b, upper, 0xf8); /* a | b & upper */
}

/* Combine ----------------------------------------------------------------------------------------------- */

/* n columns of o (columns, LANES). p (quads, LANES) is read, or, if first, written: making it takes other
 * parts of the processor than products do. */
VEC void combine_group_int8(int n, bool first, const Tile *tile, vi *p, const int8_t *v, int64_t columns,
                            int64_t quads, const vf keep[2], const vf gain[2], float *o)
{
    const __m512i table[2] = {_mm512_loadu_si512(powers), _mm512_loadu_si512(powers + UNIT / 2)};
    vi sum[GROUP_FEATURES][2];
#pragma GCC unroll 16
    for (int f = 0; f < n; f++)
        sum[f][0] = sum[f][1] = (vi){0};
    for (int64_t r = 0; r < quads; r++) {
        if (first) {
            p[r * 2] = quad_of_weights(table, tile, r * QUAD, 0);
            p[r * 2 + 1] = quad_of_weights(table, tile, r * QUAD, 1);
        }
        const vi a = p[r * 2], b = p[r * 2 + 1];
#pragma GCC unroll 16
        for (int f = 0; f < n; f++) {
            const vi x = quad_in_all(v + (r * columns + f) * QUAD);
            sum[f][0] = dot(sum[f][0], a, x);
            sum[f][1] = dot(sum[f][1], b, x);
        }
    }
#pragma GCC unroll 16
    for (int f = 0; f < n; f++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            float *to = o + f * LANES + half * VL;
            vec_store(to, vec_load(to) * keep[half] + __builtin_convertvector(sum[f][half], vf) * gain[half]);
        }
}

static void tile_combine_int8(const Tile *tile, vi *p, const int8_t *v, int64_t columns, int64_t quads,
                              const vf keep[2], const vf gain[2], float *o)
{
    int64_t f = smaller(FIRST, columns), n;
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        combine_group_int8(n_ < FIRST ? n_ : FIRST, true, tile, p, v, columns, quads, keep, gain, o);        \
        break;
    switch (f) {
        EACH_TO_12(GROUP)
    default:
        break;
    }
#undef GROUP
    for (int64_t left = (columns - f + GROUP_FEATURES - 1) / GROUP_FEATURES; f < columns; left--, f += n) {
        n = (columns - f + left - 1) / left;
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        combine_group_int8(n_, false, tile, p, v + f * QUAD, columns, quads, keep, gain, o + f * LANES);     \
        break;
        switch (n) {
            EACH_TO_12(GROUP)
        default:
            break;
        }
#undef GROUP
    }
}

/* Tasks ------------------------------------------------------------------------------------------------- */

/* What a call has in scratch memory: heads' steps and operands, (B · heads) of each, how weights are rounded,
 * and each thread's own. */
typedef struct Places {
    Int8Head *heads;
    uint8_t *keys;
    int8_t *values;
    uint16_t *rounding;
    char *own;
    int64_t key_bytes, value_bytes; /* of a head */
    size_t own_bytes, total;
} Places;

/* A thread's own. */
typedef struct Own {
    Int8Queries q;
    float most[LANES_BLOCK]; /* yet, as powers of two */
    vi t[ROWS], p[ROWS / 2];
} Own;

static size_t own_floats(const Int8Sizes *s)
{
    return (size_t)(LANES_BLOCK * (s->quads + s->columns));
}

static Places places_of(const Attention *a, const Heads *h, const Int8Sizes *s, char *scratch)
{
    const int64_t heads = h->B * h->heads;
    Places p = {.key_bytes = s->keys * s->quads * QUAD, .value_bytes = s->keys * s->columns};
    const size_t ours = aligned_bytes(sizeof(Own)) + own_floats(s) * sizeof(float),
                 wide = (size_t)ISA(attention_task_floats)(h, LANES_BLOCK) * sizeof(float);
    p.own_bytes = aligned_bytes(ours > wide ? ours : wide);
    size_t at = 0;
#define PLACE(member, bytes) p.member = (void *)(scratch + at), at += aligned_bytes((size_t)(bytes))
    PLACE(heads, heads * (int64_t)sizeof(Int8Head));
    PLACE(keys, heads * p.key_bytes);
    PLACE(values, heads * p.value_bytes);
    PLACE(rounding, s->keys * (int64_t)sizeof(uint16_t));
    PLACE(own, a->threads * (int64_t)p.own_bytes);
#undef PLACE
    p.total = at;
    return p;
}

/* Fractions of 1 in 1/256, in the order of weights. */
static void fill_rounding(uint16_t *rounding, int64_t keys)
{
    for (int64_t r = 0; r < keys; r++) {
        const int64_t at = r / QUAD * QUAD + r % 2 * 2 + r / 2 % 2;
        rounding[at] = (uint16_t)((uint16_t)(r * 40503) >> 8); /* 2^16 / 1.618… */
    }
}

static void pack_head(const Attention *a, const Heads *h, const Int8Sizes *s, const Places *p, int64_t head)
{
    const Head k = head_of(a->k, h, head / h->heads, head % h->heads),
               v = head_of(a->v, h, head / h->heads, head % h->heads);
    Int8Head *to = &p->heads[head];
    Ranges r;
    WITH_DTYPE(k.t->dtype, ranges_of(k, T, h, &r));
    to->odd = r.odd != 0;
    WITH_DTYPE(k.t->dtype, pack_keys(k, T, h, s, &r, to, p->keys + head * p->key_bytes));
    WITH_DTYPE(v.t->dtype, ranges_of(v, T, h, &r));
    to->odd |= r.odd != 0;
    WITH_DTYPE(v.t->dtype, pack_values(v, T, h, s, &r, to, p->values + head * p->value_bytes));
}

/* How a strip's sums become t; false if a factor is beyond 16 bits, or NaN. */
static bool strip_of(const Heads *h, const Int8Sizes *s, const Int8Head *head, const Int8Queries *q,
                     int64_t lane, Strip *strip)
{
    float length = 0;
    for (int64_t l = lane; l < lane + LANES; l++)
        length = fmaxf(length, q->length[l]);
    int shift = 0;
    while (length * head->k_length > 32000.0f * (float)(1 << shift))
        shift++;
    const float by = head->k_step * h->scale * 1.44269504088896341f * UNIT * 32768.0f * (float)(1 << shift);
    bool fits = shift <= 16;
    for (int64_t l = 0; l < LANES; l++) {
        const float factor = by * q->step[lane + l];
        fits = fits && factor <= MOST_FACTOR;
        const int32_t word = fits ? (int32_t)lrintf(factor) : 0;
        strip->factor[l / VL][l % VL] = word | word << 16;
        strip->start[l / VL][l % VL] = -ZERO * q->sum[lane + l];
    }
    strip->q = q->packed + lane / LANES * s->quads * LANES;
    strip->shift = _mm_cvtsi32_si128(shift);
    strip->rest = _mm_cvtsi32_si128(16 - shift);
    return fits;
}

/* The running largest takes in a tile's: what is kept of o, and what the tile's sums are times. */
VEC void move_most(const vi tile, float *most, vf *keep, vf *gain)
{
    const vf here = __builtin_convertvector((vi)((vu)tile << 16) >> 16, vf) * (1.0f / UNIT);
    const vf before = vec_load(most), now = vec_max(before, here);
    *keep = tile_exp2(before - now);
    *gain = tile_exp2(here - now);
    vec_store(most, now);
}

static void tile_int8(const Heads *h, const Int8Sizes *s, const Strip *strip, const Places *p, int64_t head,
                      int64_t key, Own *own, float *most, float *o)
{
    const int64_t keys = smaller(ROWS, h->M - key), padded_keys = smaller(ROWS, s->keys - key);
    vi largest[2];
    vf keep[2], gain[2];
    tile_scores_int8(strip, p->keys + head * p->key_bytes + key * s->quads * QUAD, s->quads, keys, own->t,
                     largest);
    for (int half = 0; half < 2; half++)
        move_most(largest[half], most + half * VL, &keep[half], &gain[half]);
    const Tile tile = {own->t, {largest[0], largest[1]}, p->rounding + key};
    tile_combine_int8(&tile, own->p, p->values + head * p->value_bytes + key * s->columns, s->columns,
                      padded_keys / QUAD, keep, gain, o);
}

/* o (strip, columns, LANES) over its last column, in values' steps, to out. */
static void finish_strip(const Attention *a, const Heads *h, const Int8Head *head, const float *o,
                         int64_t lanes, int64_t at)
{
    const float *l = o + h->d * LANES;
    for (int64_t lane = 0; lane < lanes; lane += VL) {
        const vf by = 1.0f / vec_load(l + lane);
        for (int64_t i = 0; i < h->d; i += VL) {
            const int part = vec_part(i, h->d);
            vf x[VL];
            for (int j = 0; j < VL; j++)
                x[j] = j < part ? vec_load(o + (i + j) * LANES + lane) * by * head->v_step[i + j] +
                                      head->v_centre[i + j]
                                : vec_set(0);
            vec_transpose(x);
            for (int j = 0; j < VL && lane + j < lanes; j++)
                vec_put_n(a->out->data, a->out->dtype, at + (lane + j) * h->stride + i, x[j], part);
        }
    }
}

static bool strips_of(const Heads *h, const Int8Sizes *s, const Int8Head *head, const Int8Queries *q,
                      int64_t queries, Strip strips[LANES_BLOCK / LANES])
{
    for (int64_t i = 0; i * LANES < queries; i++)
        if (!strip_of(h, s, head, q, i * LANES, &strips[i]))
            return false;
    return true;
}

static void task_int8(const Attention *a, const Heads *h, const Int8Sizes *s, const Places *p, int64_t head,
                      int64_t query, char *memory)
{
    Own *own = (Own *)(void *)memory;
    float *o = (float *)(void *)(memory + aligned_bytes(sizeof *own)) + LANES_BLOCK * s->quads;
    const int64_t queries = smaller(LANES_BLOCK, h->N - query);
    const Head q = head_of(a->q, h, head / h->heads, head % h->heads);
    Strip strips[LANES_BLOCK / LANES];
    own->q.packed = (Cell *)(void *)(memory + aligned_bytes(sizeof *own));
    pack_queries(q, query, queries, h, s, (int8_t *)o, &own->q);
    if (p->heads[head].odd || !strips_of(h, s, &p->heads[head], &own->q, queries, strips)) {
        ISA(attention_task)
        (a, h, head / h->heads, head % h->heads, query, LANES_BLOCK, (float *)(void *)memory);
        return;
    }
    memset(o, 0, (size_t)(LANES_BLOCK * s->columns) * sizeof *o);
    for (int64_t i = 0; i < LANES_BLOCK; i++)
        own->most[i] = -INFINITY;
    for (int64_t key = 0; key < h->M; key += ROWS)
        for (int64_t i = 0; i * LANES < queries; i++)
            tile_int8(h, s, &strips[i], p, head, key, own, own->most + i * LANES, o + i * s->columns * LANES);
    for (int64_t i = 0; i * LANES < queries; i++)
        finish_strip(a, h, &p->heads[head], o + i * s->columns * LANES, smaller(LANES, queries - i * LANES),
                     q.at + (query + i * LANES) * h->stride);
}

bool ISA(attention_int8_takes)(const Attention *a)
{
    return a->narrow && !a->causal && a->k->shape[1] >= LEAST_KEYS &&
           tensor_dim(a->q, -1) / a->heads <= MOST_CHANNELS && cpu_has_int8(512);
}

size_t ISA(attention_int8_scratch)(const Attention *a)
{
    const Heads h = heads_of(a);
    const Int8Sizes s = int8_sizes(&h);
    return places_of(a, &h, &s, NULL).total;
}

void ISA(attention_int8)(const Attention *a, void *scratch)
{
    const Heads h = heads_of(a);
    const Int8Sizes s = int8_sizes(&h);
    const Places p = places_of(a, &h, &s, scratch);
    const int64_t heads = h.B * h.heads, blocks = blocks_of(h.N);
    fill_rounding(p.rounding, s.keys);
#pragma omp parallel for num_threads(a->threads) schedule(dynamic)
    for (int64_t head = 0; head < heads; head++)
        pack_head(a, &h, &s, &p, head);
#pragma omp parallel for num_threads(a->threads) schedule(dynamic)
    for (int64_t t = 0; t < heads * blocks; t++)
        task_int8(a, &h, &s, &p, t / blocks, t % blocks * LANES_BLOCK,
                  p.own + (size_t)omp_get_thread_num() * p.own_bytes);
}

#else

bool ISA(attention_int8_takes)(const Attention *a)
{
    (void)a;
    return false;
}
size_t ISA(attention_int8_scratch)(const Attention *a)
{
    (void)a;
    return 0;
}
void ISA(attention_int8)(const Attention *a, void *scratch)
{
    (void)a, (void)scratch;
}

#endif
