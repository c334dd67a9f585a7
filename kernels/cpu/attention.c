/* Attention without the score matrix (Rabe & Staats 2021; Dao et al. 2022).
 *
 * The work is cut into tasks, (picture, head, block of LANES_BLOCK tokens), that share nothing; a task walks
 * over tiles of ROWS tokens of the other side (tiles.h). Forward, lanes are queries, with a running maximum m
 * and sum l: s = c k q^T;  m' = max(m, max s);  p = 2^(s - m');  l = l 2^(m-m') + Σp;  o = o 2^(m-m') + v^T p
 * and at the end out = o / l, lse = (m + log2 l) ln 2; c is log2(e)/√d, so that exponentials are powers of
 * two. Backward, with p = 2^(s - lse) made again, D = Σ do∘out and ds = p ∘ (v do^T − D): tasks whose lanes
 * are queries sum up dq = ds k; tasks whose lanes are keys sum up dv = p^T do and dk = ds^T q. That makes the
 * scores twice, but every sum has one owner and one order. Arithmetic is f32, or bf16 with f32 sums where the
 * tensors are bf16 and the processor multiplies that. */
#include "kernels/floats.h"
#include "convert.h"
#include "families.h"
#include "tiles.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { LANES_BLOCK = 128, ROWS = 128 };

/* The sizes, and one head's rows: element (row,i) of picture b, head h lies at (b*tokens + row)*stride + h*d
 * + i. */
typedef struct Heads {
    int64_t B, N, M, d, stride, depth; /* depth: cells of one token */
    int heads;
    bool pairs, causal;
    float scale;
} Heads;

static bool is_bf16(const Tensor *t)
{
    return !t || t->dtype == DTYPE_BF16;
}

static Heads heads_of(const Attention *a)
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

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One head of one tensor. */
typedef struct Head {
    const Tensor *t;
    int64_t at, tokens; /* of its first element, and how many tokens */
} Head;

static Head head_of(const Tensor *t, const Heads *h, int64_t picture, int64_t head)
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
static Rows score_rows(Head x, int64_t first, int64_t rows, const Heads *h, Cell *tile)
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

/* The same tokens for tile_combine. In f32 they are the rows that tile_scores has; pairs of bf16 are of two
 * tokens here: tile (rows/2,d), a missing last token being 0. */
static Rows combine_rows(Head x, int64_t first, int64_t rows, const Heads *h, Rows scores, Cell *tile)
{
    if (!h->pairs)
        return scores;
    const uint16_t *from = (const uint16_t *)x.t->data + x.at + first * h->stride;
    uint32_t *pairs = (uint32_t *)tile;
    for (int64_t r = 0; r < rows; r += 2) {
        const uint16_t *a = from + r * h->stride, *b = a + h->stride;
        uint32_t *to = pairs + r / 2 * h->d;
        if (r + 1 < rows)
            for (int64_t i = 0; i < h->d; i++)
                to[i] = a[i] | (uint32_t)b[i] << 16;
        else
            for (int64_t i = 0; i < h->d; i++)
                to[i] = a[i];
    }
    return (Rows){tile, h->d};
}

/* VL tokens from `lane` on of n, turned into columns: to (depth,LANES). Tokens beyond n are 0. */
static void pack_vector(Rows from, int64_t lane, int64_t n, int64_t depth, Cell *to)
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
static void pack_lanes(Head x, int64_t first, int64_t lanes, const Heads *h, Cell *tile, Cell *packed)
{
    const Rows from = score_rows(x, first, lanes, h, tile);
    for (int64_t lane = 0; lane < (lanes + LANES - 1) / LANES * LANES; lane += VL)
        pack_vector(from, lane, lanes, h->depth, packed + lane / LANES * h->depth * LANES + lane % LANES);
}

/* A result (strip,d,LANES), times factor[lane], back into its tensor. */
static void unpack_lanes(const float *packed, const float *factor, int64_t lanes, const Heads *h, Tensor *t,
                         int64_t at)
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

static int64_t padded(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static Work work_of(float *p, const Heads *h)
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

static int64_t work_floats(const Heads *h)
{
    return (4 * LANES_BLOCK + 4 * ROWS) * padded(h->d) + 2 * ROWS * LANES;
}

/* Forward
 * ------------------------------------------------------------------------------------------------------ */

/* Rows first … of a tile belong to keys that a lane's query, or to queries that a lane's key, may not meet:
 * sees where lane ≥ row (lanes are queries) or lane ≤ row (lanes are keys). Only tiles on the diagonal are
 * masked. */
static void mask_tile(float *t, int64_t row, int64_t rows, int64_t lane, bool lanes_are_queries)
{
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++) {
            const vi number = lane_numbers(lane + v * VL), here = (vi){0} + (int32_t)(row + r);
            const vi hidden = lanes_are_queries ? number < here : number > here;
            float *cell = t + r * LANES + v * VL;
            vec_store(cell, vec_select(hidden, vec_set(-INFINITY), vec_load(cell)));
        }
}

/* The running softmax of one strip: t (rows,LANES) becomes p, in pairs of rows where h says so; m, l and o
 * follow. The maximum may step over a NaN; its exponential does not, and once l is NaN it stays so. A score
 * of +infinity gives NaN as well (infinity less itself), and so do scores that are all
 * -infinity; one of these beside others has an exponential next to 0. */
VEC void softmax_vector(const Heads *h, float *t, int64_t rows, float *m, float *l, float *o, float *p)
{
    const float c = h->scale * 1.44269504088896341f;
    vf largest = vec_load(t), sum = vec_set(0);
    for (int64_t r = 1; r < rows; r++)
        largest = vec_max(largest, vec_load(t + r * LANES));
    const vf before = vec_load(m), now = vec_max(before, largest * c);
    for (int64_t r = 0; r < rows; r += 2) {
        const vf a = tile_exp2(vec_load(t + r * LANES) * c - now);
        const vf b = r + 1 < rows ? tile_exp2(vec_load(t + (r + 1) * LANES) * c - now) : vec_set(0);
        sum += a + b;
        if (h->pairs) {
            vec_store(p + r / 2 * LANES, pair_up(a, b));
        } else {
            vec_store(p + r * LANES, a);
            if (r + 1 < rows)
                vec_store(p + (r + 1) * LANES, b);
        }
    }
    const vf keep = tile_exp2(before - now);
    vec_store(m, now);
    vec_store(l, vec_load(l) * keep + sum);
    for (int64_t i = 0; i < h->d; i++)
        vec_store(o + i * LANES, vec_load(o + i * LANES) * keep);
}

static void forward_tile(const Heads *h, Rows k, Rows v, int64_t key, int64_t keys, int64_t query,
                         const Cell *q, float *t, float *m, float *l, float *o)
{
    tile_scores(h->pairs, k.p, k.ld, keys, q, h->depth, t);
    if (h->causal && key + keys - 1 > query)
        mask_tile(t, key, keys, query, true);
    for (int i = 0; i < LANES; i += VL)
        softmax_vector(h, t + i, keys, m + i, l + i, o + i, t + i);
    tile_combine(h->pairs, v.p, v.ld, h->pairs ? (keys + 1) / 2 : keys, t, h->d, o);
}

static void forward_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                         const Work *w)
{
    const int64_t queries = smaller(LANES_BLOCK, h->N - query);
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head);
    float m[LANES_BLOCK], l[LANES_BLOCK], *o = w->sum[0];
    pack_lanes(q, query, queries, h, w->rows[0], w->lanes[0]);
    memset(o, 0, sizeof *o * (size_t)(LANES_BLOCK * h->d));
    for (int64_t i = 0; i < LANES_BLOCK; i++) {
        m[i] = -INFINITY; /* all scores so: NaN, as 0 / 0 */
        l[i] = 0;
    }
    const int64_t end = h->causal ? smaller(h->M, query + queries) : h->M;
    for (int64_t key = 0; key < end; key += ROWS) {
        const int64_t keys = smaller(ROWS, end - key);
        const Rows k_rows = score_rows(k, key, keys, h, w->rows[0]);
        const Rows v_rows = combine_rows(
            v, key, keys, h, h->pairs ? k_rows : score_rows(v, key, keys, h, w->rows[1]), w->paired[0]);
        for (int64_t s = 0; s * LANES < queries; s++)
            forward_tile(h, k_rows, v_rows, key, keys, query + s * LANES, w->lanes[0] + s * h->depth * LANES,
                         w->tile[0], m + s * LANES, l + s * LANES, o + s * h->d * LANES);
    }
    float *lse = (float *)a->lse->data + (picture * h->heads + head) * h->N + query;
    for (int64_t i = 0; i < queries; i++) {
        lse[i] = (m[i] + log2f(l[i])) * 0.693147180559945309f;
        l[i] = 1.0f / l[i];
    }
    unpack_lanes(o, l, queries, h, a->out, q.at + query * h->stride);
}

static int64_t blocks_of(int64_t tokens)
{
    return (tokens + LANES_BLOCK - 1) / LANES_BLOCK;
}

static Status cpu_attention_scratch(const Attention *a, size_t *bytes)
{
    const Heads h = heads_of(a);
    *bytes = (size_t)a->threads * (size_t)work_floats(&h) * sizeof(float);
    return STATUS_OK;
}

static Status cpu_attention(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out);
    const Heads h = heads_of(a);
    const int64_t blocks = blocks_of(h.N), tasks = h.B * h.heads * blocks;
#pragma omp parallel for num_threads(a->threads) schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        const Work w = work_of((float *)scratch + omp_get_thread_num() * work_floats(&h), &h);
        forward_task(a, &h, t / blocks / h.heads, t / blocks % h.heads, t % blocks * LANES_BLOCK, &w);
    }
    return STATUS_OK;
}

/* Backward
 * ------------------------------------------------------------------------------------------------------- */

/* What the backward needs of every query besides tensors: D, and lse in powers of two; (B,heads,N) each. */
typedef struct Saved {
    float *D, *lse;
} Saved;

static void save_query(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                       Saved s)
{
    const int64_t i = (picture * h->heads + head) * h->N + query;
    const int64_t at = (picture * h->N + query) * h->stride + head * h->d;
    vf sum = vec_set(0);
    for (int64_t j = 0; j < h->d; j += VL) {
        const int n = vec_part(j, h->d);
        sum += vec_get_n(a->out->data, a->out->dtype, at + j, n) *
               vec_get_n(a->grad_out->data, a->grad_out->dtype, at + j, n);
    }
    s.D[i] = vec_sum(sum);
    s.lse[i] = ((const float *)a->lse->data)[i] * 1.44269504088896341f;
}

/* p = 2^(c t - lse) and ds = p (dt - D) of two neighbouring rows r and r+1; which of the numbers lse and D go
 * with lanes and which with rows is the caller's: it gives both vectors. */
typedef struct Weights {
    vf p, ds;
} Weights;

VEC Weights weights_of(const float *t, const float *dt, float c, vf lse, vf D)
{
    Weights w;
    w.p = tile_exp2(vec_load(t) * c - lse);
    w.ds = w.p * (vec_load(dt) - D);
    return w;
}

/* t becomes p and dt becomes ds, in pairs of rows where h says so. by_lane: lse and D are of the lanes, else
 * of the rows. */
VEC void weigh_vector(const Heads *h, float *t, float *dt, int64_t rows, const float *lse, const float *D,
                      bool by_lane)
{
    const float c = h->scale * 1.44269504088896341f;
    for (int64_t r = 0; r < rows; r += 2) {
        const int64_t next = r + 1 < rows ? r + 1 : r;
        Weights a = weights_of(t + r * LANES, dt + r * LANES, c, by_lane ? vec_load(lse) : vec_set(lse[r]),
                               by_lane ? vec_load(D) : vec_set(D[r]));
        Weights b =
            weights_of(t + next * LANES, dt + next * LANES, c, by_lane ? vec_load(lse) : vec_set(lse[next]),
                       by_lane ? vec_load(D) : vec_set(D[next]));
        if (h->pairs) {
            if (next == r)
                b = (Weights){vec_set(0), vec_set(0)};
            vec_store(t + r / 2 * LANES, pair_up(a.p, b.p));
            vec_store(dt + r / 2 * LANES, pair_up(a.ds, b.ds));
        } else {
            vec_store(t + r * LANES, a.p);
            vec_store(dt + r * LANES, a.ds);
            vec_store(t + next * LANES, b.p);
            vec_store(dt + next * LANES, b.ds);
        }
    }
}

static void weigh_tile(const Heads *h, float *t, float *dt, int64_t rows, const float *lse, const float *D,
                       bool by_lane)
{
    for (int i = 0; i < LANES; i += VL) {
        if (by_lane)
            weigh_vector(h, t + i, dt + i, rows, lse + i, D + i, true);
        else
            weigh_vector(h, t + i, dt + i, rows, lse, D, false);
    }
}

/* One tile of a strip: scores of `rows` tokens from `row` on against lanes from `lane` on, as p and ds. */
static void backward_tile(const Heads *h, Rows x, Rows dx, int64_t row, int64_t rows, int64_t lane,
                          const Cell *lanes, const Cell *dlanes, const float *lse, const float *D,
                          bool lanes_are_queries, const Work *w)
{
    tile_scores(h->pairs, x.p, x.ld, rows, lanes, h->depth, w->tile[0]);
    tile_scores(h->pairs, dx.p, dx.ld, rows, dlanes, h->depth, w->tile[1]);
    if (h->causal && (lanes_are_queries ? row + rows - 1 > lane : row < lane + LANES - 1))
        mask_tile(w->tile[0], row, rows, lane, lanes_are_queries);
    weigh_tile(h, w->tile[0], w->tile[1], rows, lse, D, lanes_are_queries);
}

static void fill(float *x, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
}

/* grad q of a block of queries: walks over keys. */
static void queries_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                         Saved s, const Work *w)
{
    const int64_t queries = smaller(LANES_BLOCK, h->N - query),
                  at = (picture * h->heads + head) * h->N + query;
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head), g = head_of(a->grad_out, h, picture, head);
    float lse[LANES_BLOCK] = {0}, D[LANES_BLOCK] = {0}, factor[LANES_BLOCK];
    pack_lanes(q, query, queries, h, w->rows[0], w->lanes[0]);
    pack_lanes(g, query, queries, h, w->rows[0], w->lanes[1]);
    memcpy(lse, s.lse + at, sizeof *lse * (size_t)queries);
    memcpy(D, s.D + at, sizeof *D * (size_t)queries);
    memset(w->sum[0], 0, sizeof(float) * (size_t)(LANES_BLOCK * h->d));
    const int64_t end = h->causal ? smaller(h->M, query + queries) : h->M;
    for (int64_t key = 0; key < end; key += ROWS) {
        const int64_t keys = smaller(ROWS, end - key), tokens = h->pairs ? (keys + 1) / 2 : keys;
        const Rows k_rows = score_rows(k, key, keys, h, w->rows[0]),
                   v_rows = score_rows(v, key, keys, h, w->rows[1]);
        const Rows k_sum = combine_rows(k, key, keys, h, k_rows, w->paired[0]);
        for (int64_t i = 0; i * LANES < queries; i++) {
            const int64_t cells = i * h->depth * LANES;
            backward_tile(h, k_rows, v_rows, key, keys, query + i * LANES, w->lanes[0] + cells,
                          w->lanes[1] + cells, lse + i * LANES, D + i * LANES, true, w);
            tile_combine(h->pairs, k_sum.p, k_sum.ld, tokens, w->tile[1], h->d, w->sum[0] + i * h->d * LANES);
        }
    }
    fill(factor, LANES_BLOCK, h->scale);
    unpack_lanes(w->sum[0], factor, queries, h, a->grad_q, q.at + query * h->stride);
}

/* grad k and grad v of a block of keys: walks over queries. */
static void keys_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t key, Saved s,
                      const Work *w)
{
    const int64_t keys = smaller(LANES_BLOCK, h->M - key), at = (picture * h->heads + head) * h->N;
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head), g = head_of(a->grad_out, h, picture, head);
    float factor[LANES_BLOCK];
    pack_lanes(k, key, keys, h, w->rows[0], w->lanes[0]);
    pack_lanes(v, key, keys, h, w->rows[0], w->lanes[1]);
    for (int i = 0; i < 2; i++)
        memset(w->sum[i], 0, sizeof(float) * (size_t)(LANES_BLOCK * h->d));
    for (int64_t query = h->causal ? smaller(key, h->N) : 0; query < h->N; query += ROWS) {
        const int64_t queries = smaller(ROWS, h->N - query), tokens = h->pairs ? (queries + 1) / 2 : queries;
        const Rows q_rows = score_rows(q, query, queries, h, w->rows[0]),
                   g_rows = score_rows(g, query, queries, h, w->rows[1]);
        const Rows q_sum = combine_rows(q, query, queries, h, q_rows, w->paired[0]),
                   g_sum = combine_rows(g, query, queries, h, g_rows, w->paired[1]);
        for (int64_t i = 0; i * LANES < keys; i++) {
            const int64_t cells = i * h->depth * LANES, sums = i * h->d * LANES;
            backward_tile(h, q_rows, g_rows, query, queries, key + i * LANES, w->lanes[0] + cells,
                          w->lanes[1] + cells, s.lse + at + query, s.D + at + query, false, w);
            tile_combine(h->pairs, q_sum.p, q_sum.ld, tokens, w->tile[1], h->d, w->sum[0] + sums);
            tile_combine(h->pairs, g_sum.p, g_sum.ld, tokens, w->tile[0], h->d, w->sum[1] + sums);
        }
    }
    fill(factor, LANES_BLOCK, h->scale);
    if (a->grad_k)
        unpack_lanes(w->sum[0], factor, keys, h, a->grad_k, k.at + key * h->stride);
    fill(factor, LANES_BLOCK, 1);
    if (a->grad_v)
        unpack_lanes(w->sum[1], factor, keys, h, a->grad_v, v.at + key * h->stride);
}

static Status cpu_attention_backward_scratch(const Attention *a, size_t *bytes)
{
    const Heads h = heads_of(a);
    *bytes = (size_t)(2 * padded(h.B * h.heads * h.N) + a->threads * work_floats(&h)) * sizeof(float);
    return STATUS_OK;
}

static Status cpu_attention_backward(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out, a->grad_out, a->grad_q, a->grad_k, a->grad_v);
    const Heads h = heads_of(a);
    const int64_t queries = h.B * h.heads * h.N, heads = h.B * h.heads;
    const Saved s = {.D = scratch, .lse = (float *)scratch + padded(queries)};
    float *work = (float *)scratch + 2 * padded(queries);
    const int64_t by_key = a->grad_k || a->grad_v ? blocks_of(h.M) : 0,
                  by_query = a->grad_q ? blocks_of(h.N) : 0;
    const int64_t blocks = by_key + by_query;
#pragma omp parallel num_threads(a->threads)
    {
        const Work w = work_of(work + omp_get_thread_num() * work_floats(&h), &h);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < queries; i++)
            save_query(a, &h, i / h.N / h.heads, i / h.N % h.heads, i % h.N, s);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < heads * blocks; t++) {
            const int64_t picture = t / blocks / h.heads, head = t / blocks % h.heads, block = t % blocks;
            if (block < by_key)
                keys_task(a, &h, picture, head, block * LANES_BLOCK, s, &w);
            else
                queries_task(a, &h, picture, head, (block - by_key) * LANES_BLOCK, s, &w);
        }
    }
    return STATUS_OK;
}

void ISA(attention_table)(Device *d)
{
    d->attention_scratch = cpu_attention_scratch;
    d->attention = cpu_attention;
    d->attention_backward_scratch = cpu_attention_backward_scratch;
    d->attention_backward = cpu_attention_backward;
}
