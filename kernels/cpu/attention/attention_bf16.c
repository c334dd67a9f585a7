/* Attention's forward on a processor that multiplies bf16.
 *
 * Tasks, strips and tiles are attention.c's; both products take pairs of bf16 and have f32 sums. What stands
 * between them is put where the processor has parts to spare while it multiplies: the tile's largest score is
 * found as scores leave the registers, and weights are made by whole numbers of 16 bits, two to each lane,
 * along with the first columns of the second product.
 *
 *                        LANES queries                             LANES queries
 *              ┌───────────────────────────┐             ┌───────────────────────────┐
 *     8 keys   │ sums of a group, then t   │    FIRST    │ o += v^T p, while z and p │
 *              ├───────────────────────────┤   channels  │ are made of t: p over t   │
 *     8 keys   │ …                         │             ├───────────────────────────┤
 *              └───────────────────────────┘   the rest  │ o += v^T p                │
 *              largest of each lane on the way           └───────────────────────────┘
 *
 *     scores    t = k q^T                                   f32
 *     weights   z = (t c - m) 256                           whole; c is log2(e)/√d, m the running largest
 *               p = 2^(z / 256)                             bf16
 *     combine   o = o 2^(m before - m) + v^T p, and l likewise with 1 for v
 *
 * z becomes p as powers.h says; l is made of the same p. m is a whole number of 1/256, so that z of two tiles
 * differ by whole ones. */
#include "attention_bf16.h"
#include "powers.h"

#if VL == 16

#include <string.h>

enum {
    FIRST = 7,     /* channels of the group that makes weights, which need registers as well */
    FAR = 1 << 30, /* scores from here on, in z, are taken less the largest first */
};

/* Scores ------------------------------------------------------------------------------------------------ */

/* t of n keys, and the largest of them in each lane. */
VEC void score_keys(int n, const Cell *k, int64_t ld, const Cell *q, int64_t depth, float *t, vf most[2])
{
    vf sum[GROUP_ROWS][2] = {{{0}}};
    for (int64_t i = 0; i < depth; i++) {
        const vf a = vec_load(q + i * LANES), b = vec_load(q + i * LANES + VL);
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const vf x = vec_set(k[r * ld + i]);
            sum[r][0] = cell_product(true, sum[r][0], a, x);
            sum[r][1] = cell_product(true, sum[r][1], b, x);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            most[half] = vec_max(most[half], sum[r][half]);
            vec_store(t + r * LANES + half * VL, sum[r][half]);
        }
}

/* t (keys,LANES), with one of -infinity after an odd number of keys, and each lane's largest. A NaN is
 * stepped over. */
static void score_tile(Rows k, int64_t keys, const Cell *q, int64_t depth, float *t, vf most[2])
{
    vf largest[2] = {vec_set(-INFINITY), vec_set(-INFINITY)};
    int64_t r = 0;
    for (; r + GROUP_ROWS <= keys; r += GROUP_ROWS)
        score_keys(GROUP_ROWS, k.p + r * k.ld, k.ld, q, depth, t + r * LANES, largest);
    for (; r + 2 <= keys; r += 2)
        score_keys(2, k.p + r * k.ld, k.ld, q, depth, t + r * LANES, largest);
    if (r < keys)
        score_keys(1, k.p + r * k.ld, k.ld, q, depth, t + r * LANES, largest);
    if (keys % 2)
        vec_store(t + keys * LANES, vec_set(-INFINITY)), vec_store(t + keys * LANES + VL, vec_set(-INFINITY));
    most[0] = largest[0], most[1] = largest[1];
}

/* The same of a tile that has been masked. */
static void largest_of(const float *t, int64_t keys, vf most[2])
{
    most[0] = most[1] = vec_set(-INFINITY);
    for (int64_t r = 0; r < keys; r++)
        for (int half = 0; half < 2; half++)
            most[half] = vec_max(most[half], vec_load(t + r * LANES + half * VL));
}

/* Weights ----------------------------------------------------------------------------------------------- */

/* How a strip's scores become weights: by t + offset[half] is what power_pair() takes. */
typedef struct Weigh {
    float by;
    vf offset[2], keep[2];
} Weigh;

/* The running largest m, in z, takes in a tile's. Scores that a float's whole numbers do not hold become what
 * they are less their lane's largest. */
static Weigh weigh_of(const Heads *h, float *t, int64_t keys, const vf most[2], float *m)
{
    Weigh w = {.by = h->scale * 1.44269504088896341f * POWER_UNIT};
    for (int half = 0; half < 2; half++) {
        const vf before = vec_load(m + half * VL),
                 here = (vf)_mm512_roundscale_ps((__m512)(most[half] * w.by),
                                                 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 now = vec_max(before, here);
        const vi far = vec_abs(now) > (float)FAR;
        w.keep[half] = tile_exp2((before - now) * (1.0f / POWER_UNIT));
        w.offset[half] = POWER_ONE - now;
        if (_mm512_movepi32_mask((__m512i)far)) {
            for (int64_t r = 0; r < keys; r++) {
                float *at = t + r * LANES + half * VL;
                vec_store(at, vec_load(at) - now / w.by);
            }
            w.offset[half] = vec_set(POWER_ONE);
        }
        vec_store(m + half * VL, now);
    }
    return w;
}

/* p of two keys of t, as pairs. */
VEC vf weights_of(const Weigh *w, const float *t, int half)
{
    return power_pair(vec_load(t + half * VL) * w->by + w->offset[half],
                      vec_load(t + LANES + half * VL) * w->by + w->offset[half]);
}

/* Combine ----------------------------------------------------------------------------------------------- */

/* One pair of keys: sum (n,LANES) += v^T p. */
VEC void add_pair(int n, const Cell *v, const vf p[2], vf sum[][2])
{
#pragma GCC unroll 16
    for (int f = 0; f < n; f++) {
        const vf x = vec_set(v[f]);
        sum[f][0] = cell_product(true, sum[f][0], p[0], x);
        sum[f][1] = cell_product(true, sum[f][1], p[1], x);
    }
}

/* p of pair r of t, to its place there and p. */
VEC void make_pair(const Weigh *w, float *t, int64_t r, vf p[2])
{
    p[0] = weights_of(w, t + 2 * r * LANES, 0);
    p[1] = weights_of(w, t + 2 * r * LANES, 1);
    vec_store(t + r * LANES, p[0]);
    vec_store(t + r * LANES + VL, p[1]);
}

/* n channels of o (d,LANES), of `pairs` pairs of keys. The first group also makes p of t, in its place, one
 * pair ahead of its use, and l. */
VEC void combine_channels(int n, bool first, const Weigh *w, float *t, const Cell *v, int64_t ld,
                          int64_t pairs, float *o, float *l)
{
    const vf ones = (vf)_mm512_set1_epi32(0x3f803f80);
    vf sum[GROUP_FEATURES][2], total[2], p[2], next[2];
#pragma GCC unroll 16
    for (int f = 0; f < n; f++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            sum[f][half] = vec_load(o + f * LANES + half * VL) * w->keep[half];
    if (first) {
        total[0] = vec_load(l) * w->keep[0], total[1] = vec_load(l + VL) * w->keep[1];
        make_pair(w, t, 0, next);
        for (int64_t r = 0; r < pairs; r++) {
            p[0] = next[0], p[1] = next[1];
            if (r + 1 < pairs)
                make_pair(w, t, r + 1, next);
            total[0] = cell_product(true, total[0], p[0], ones);
            total[1] = cell_product(true, total[1], p[1], ones);
            add_pair(n, v + r * ld, p, sum);
        }
        vec_store(l, total[0]), vec_store(l + VL, total[1]);
    } else {
        for (int64_t r = 0; r < pairs; r++) {
            p[0] = vec_load(t + r * LANES), p[1] = vec_load(t + r * LANES + VL);
            add_pair(n, v + r * ld, p, sum);
        }
    }
#pragma GCC unroll 16
    for (int f = 0; f < n; f++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            vec_store(o + f * LANES + half * VL, sum[f][half]);
}

/* Channels beyond the first group's in groups as equal as possible. */
static void combine_tile(const Weigh *w, float *t, Rows v, int64_t pairs, int64_t d, float *o, float *l)
{
    int64_t f = smaller(FIRST, d), n;
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        combine_channels(n_ < FIRST ? n_ : FIRST, true, w, t, v.p, v.ld, pairs, o, l);                       \
        break;
    switch (f) {
        EACH_TO_12(GROUP)
    default:
        break;
    }
#undef GROUP
    for (int64_t left = (d - f + GROUP_FEATURES - 1) / GROUP_FEATURES; f < d; left--, f += n) {
        n = (d - f + left - 1) / left;
#define GROUP(n_)                                                                                            \
    case n_:                                                                                                 \
        combine_channels(n_, false, w, t, v.p + f, v.ld, pairs, o + f * LANES, NULL);                        \
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

/* A thread's memory: a task's queries and sums in lanes, a tile's values in pairs, a tile of scores. */
typedef struct Own {
    Cell *q, *v;
    float *o, *t;
} Own;

static Own own_of(float *memory, const Heads *h, int64_t queries)
{
    Own w = {.q = memory};
    w.o = w.q + queries * padded(h->depth);
    w.v = w.o + queries * padded(h->d);
    w.t = w.v + ROWS / 2 * padded(h->d);
    return w;
}

int64_t ISA(attention_bf16_floats)(const Heads *h, int64_t queries)
{
    return queries * (padded(h->depth) + padded(h->d)) + ROWS / 2 * padded(h->d) + ROWS * LANES;
}

void ISA(attention_bf16_task)(const Attention *a, const Heads *h, int64_t picture, int64_t head,
                              int64_t query, int64_t queries, float *memory)
{
    const Own w = own_of(memory, h, queries);
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head);
    float m[QUERIES], l[QUERIES];
    queries = smaller(queries, h->N - query);
    pack_lanes(q, query, queries, h, NULL, w.q);
    memset(w.o, 0, sizeof *w.o * (size_t)((queries + LANES - 1) / LANES * LANES * h->d));
    for (int64_t i = 0; i < QUERIES; i++)
        m[i] = -INFINITY, l[i] = 0; /* all scores so: NaN */
    const int64_t end = h->causal ? smaller(h->M, query + queries) : h->M;
    for (int64_t key = 0; key < end; key += ROWS) {
        const int64_t keys = smaller(ROWS, end - key);
        const Rows k_rows = score_rows(k, key, keys, h, NULL),
                   v_rows = combine_rows(v, key, keys, h, k_rows, w.v);
        for (int64_t lane = 0; lane < queries; lane += LANES) {
            if (h->causal && key >= query + lane + LANES)
                continue;
            vf most[2];
            score_tile(k_rows, keys, w.q + lane * h->depth, h->depth, w.t, most);
            if (h->causal && key + keys - 1 > query + lane) {
                mask_tile(w.t, key, keys, query + lane, true);
                largest_of(w.t, keys, most);
            }
            const Weigh weigh = weigh_of(h, w.t, keys, most, m + lane);
            combine_tile(&weigh, w.t, v_rows, (keys + 1) / 2, h->d, w.o + lane * h->d, l + lane);
        }
    }
    float *lse = (float *)a->lse->data + (picture * h->heads + head) * h->N + query;
    for (int64_t i = 0; i < queries; i++) {
        lse[i] = (m[i] * (1.0f / POWER_UNIT) + log2f(l[i])) * 0.693147180559945309f;
        l[i] = 1.0f / l[i];
    }
    unpack_lanes(w.o, l, queries, h, a->out, q.at + query * h->stride);
}

#else

int64_t ISA(attention_bf16_floats)(const Heads *h, int64_t queries)
{
    (void)h;
    return queries;
}

void ISA(attention_bf16_task)(const Attention *a, const Heads *h, int64_t picture, int64_t head,
                              int64_t query, int64_t queries, float *memory)
{
    (void)a, (void)h, (void)picture, (void)head, (void)query, (void)queries, (void)memory;
}

#endif
