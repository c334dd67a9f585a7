/* Attention's gradients.
 *
 * With p = 2^(s - lse) made again from the forward's lse, D = Σ do∘out and ds = p ∘ (v do^T − D):
 *
 *     dv = p^T do    dk = ds^T q    dq = ds k
 *
 * Two ways, by shape. Many keys (self attention): a task is a head, or a half of its keys. It takes
 * LANES_BLOCK keys at a time as lanes and walks over all queries in tiles of ROWS; dv and dk of the block are
 * summed up in lanes as they come, and each tile's ds is turned, keys to rows, for dq, whose sums of all
 * queries lie in lanes in the second-level cache (N·d floats, a head's 655 KB at 4,096 tokens of 40). Five
 * products, and each exponential once. The halves of dq are added up at the end.
 *
 * Few keys (a text's), or no gradient of one side: tasks whose lanes are queries sum up dq, tasks whose lanes
 * are keys dv and dk. That makes the scores twice, but there are as many tasks as blocks. Either way every
 * sum has one owner and one order. */
#include "kernels/cpu/families.h"
#include "kernels/floats.h"
#include "heads.h"
#include "powers.h"

#include <omp.h>
#include <string.h>

/* What the backward needs of every query besides tensors: D, and lse in powers of two, or as power_pair() has
 * them; (B,heads,N) each. */
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
    s.lse[i] = ((const float *)a->lse->data)[i] * 1.44269504088896341f * (h->pairs ? POWER_UNIT : 1);
}

/* t becomes p = 2^(c t - lse) and dt becomes ds = p (dt - D). by_lane: lse and D are of the lanes, else of
 * the rows. */
VEC void weigh_vector(const Heads *h, float *t, float *dt, int64_t rows, const float *lse, const float *D,
                      bool by_lane)
{
    const float c = h->scale * 1.44269504088896341f;
    for (int64_t r = 0; r < rows; r++) {
        const vf p = tile_exp2(vec_load(t + r * LANES) * c - (by_lane ? vec_load(lse) : vec_set(lse[r])));
        vec_store(t + r * LANES, p);
        vec_store(dt + r * LANES, p * (vec_load(dt + r * LANES) - (by_lane ? vec_load(D) : vec_set(D[r]))));
    }
}

/* The same in pairs of rows, of which the last one's second may be missing. Where scores are so large that
 * lse is only roughly theirs, p ends a little above 1. */
VEC void weigh_pairs(const Heads *h, float *t, float *dt, int64_t rows, const float *lse, const float *D,
                     bool by_lane)
{
    const float c = h->scale * 1.44269504088896341f * POWER_UNIT;
    const vf most = vec_set(POWER_ONE + POWER_UNIT / 2);
    for (int64_t r = 0; r < rows; r += 2) {
        const int64_t next = r + 1 < rows ? r + 1 : r;
        vf z[2], ds[2];
        for (int i = 0; i < 2; i++) {
            const int64_t row = i ? next : r;
            z[i] = vec_load(t + row * LANES) * c - (by_lane ? vec_load(lse) : vec_set(lse[row]));
            z[i] = vec_min(most, z[i] + POWER_ONE);
            ds[i] = vec_load(dt + row * LANES) - (by_lane ? vec_load(D) : vec_set(D[row]));
        }
        const vu p = (vu)power_pair(z[0], z[1]),
                 ds_pair = (vu)pair_up((vf)(p << 16) * ds[0], (vf)(p & 0xffff0000) * ds[1]),
                 there = (vu){0} + (next == r ? 0xffff : 0xffffffff);
        vec_store(t + r / 2 * LANES, (vf)(p & there));
        vec_store(dt + r / 2 * LANES, (vf)(ds_pair & there));
    }
}

static void weigh_tile(const Heads *h, float *t, float *dt, int64_t rows, const float *lse, const float *D,
                       bool by_lane)
{
    for (int i = 0; i < LANES; i += VL) {
        if (h->pairs && by_lane)
            weigh_pairs(h, t + i, dt + i, rows, lse + i, D + i, true);
        else if (h->pairs)
            weigh_pairs(h, t + i, dt + i, rows, lse, D, false);
        else if (by_lane)
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

/* ds of a strip of keys, (rows,LANES) with keys as lanes, turned: to (strip of queries, cells of keys,
 * LANES), from cell `first` on. Keys beyond `keys` are 0. In pairs, rows are two queries each and what comes
 * of it has the even ones in its first vector and the odd ones in its second: straighten() puts them in
 * order. */
static void turn_strip(const Heads *h, const float *ds, int64_t rows, int64_t keys, int64_t first, Cell *to)
{
    const int64_t strip = h->pairs ? VL : LANES, cells = h->pairs ? LANES_BLOCK / 2 : LANES_BLOCK;
    for (int64_t row = 0; row < rows; row += VL)
        for (int64_t key = 0; key < LANES && key < keys; key += VL) {
            Cell *at = to + (row / strip * cells + first + (h->pairs ? key / 2 : key)) * LANES + row % strip;
            vf x[VL];
            for (int j = 0; j < VL; j++)
                x[j] = vec_load(ds + (row + j) * LANES + key);
            vec_transpose(x);
            for (int64_t j = keys - key; j < VL; j++)
                x[j] = vec_set(0);
            for (int j = 0; !h->pairs && j < VL; j++)
                vec_store(at + j * LANES, x[j]);
            for (int j = 0; h->pairs && j < VL; j += 2) {
                const vu a = (vu)x[j], b = (vu)x[j + 1];
                vec_store(at + j / 2 * LANES, (vf)((a & 0xffff) | b << 16));
                vec_store(at + j / 2 * LANES + VL, (vf)(a >> 16 | (b & 0xffff0000)));
            }
        }
}

/* A row of LANES: evens and odds in turn again. */
static void straighten(float *row)
{
    const vf even = vec_load(row), odd = vec_load(row + VL);
    vec_store(row, __builtin_shuffle(even, odd, ZIP(0)));
    vec_store(row + VL, __builtin_shuffle(even, odd, ZIP(VL / 2)));
}

/* What is needed besides to sum up dq while dk and dv are: a block of keys as rows of combine, all queries' q
 * and do likewise in pairs of tokens, a turned block, and the sums (strip,d,LANES) of all queries. NULL: dq
 * is not wanted now. */
typedef struct Together {
    Rows k_rows;
    float *sum;
    Cell *q_pairs, *g_pairs;
    Cell *turned;
} Together;

/* grad k and grad v of a block of keys: walks over queries. */
static void keys_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t key, Saved s,
                      const Work *w, const Together *with)
{
    const int64_t keys = smaller(LANES_BLOCK, h->M - key), at = (picture * h->heads + head) * h->N;
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head), g = head_of(a->grad_out, h, picture, head);
    const int64_t key_cells = h->pairs ? (keys + 1) / 2 : keys,
                  block = h->pairs ? LANES_BLOCK / 2 : LANES_BLOCK;
    float factor[LANES_BLOCK];
    pack_lanes(k, key, keys, h, w->rows[0], w->lanes[0]);
    pack_lanes(v, key, keys, h, w->rows[0], w->lanes[1]);
    for (int i = 0; i < 2; i++)
        memset(w->sum[i], 0, sizeof(float) * (size_t)(LANES_BLOCK * h->d));
    for (int64_t query = h->causal ? smaller(key, h->N) : 0; query < h->N; query += ROWS) {
        const int64_t queries = smaller(ROWS, h->N - query), tokens = h->pairs ? (queries + 1) / 2 : queries;
        const Rows q_rows = score_rows(q, query, queries, h, w->rows[0]),
                   g_rows = score_rows(g, query, queries, h, w->rows[1]);
        Rows q_sum, g_sum;
        if (with && h->pairs) {
            q_sum = (Rows){with->q_pairs + query / 2 * h->d, h->d};
            g_sum = (Rows){with->g_pairs + query / 2 * h->d, h->d};
        } else {
            q_sum = combine_rows(q, query, queries, h, q_rows, w->paired[0]);
            g_sum = combine_rows(g, query, queries, h, g_rows, w->paired[1]);
        }
        for (int64_t i = 0; i * LANES < keys; i++) {
            const int64_t cells = i * h->depth * LANES, sums = i * h->d * LANES;
            backward_tile(h, q_rows, g_rows, query, queries, key + i * LANES, w->lanes[0] + cells,
                          w->lanes[1] + cells, s.lse + at + query, s.D + at + query, false, w);
            tile_combine(h->pairs, q_sum.p, q_sum.ld, tokens, w->tile[1], h->d, w->sum[0] + sums);
            tile_combine(h->pairs, g_sum.p, g_sum.ld, tokens, w->tile[0], h->d, w->sum[1] + sums);
            if (with)
                turn_strip(h, w->tile[1], tokens, keys - i * LANES, i * LANES / (h->pairs ? 2 : 1),
                           with->turned);
        }
        for (int64_t i = 0; with && i * LANES < queries; i++)
            tile_combine(h->pairs, with->k_rows.p, with->k_rows.ld, key_cells,
                         with->turned + i * block * LANES, h->d,
                         with->sum + (query / LANES + i) * h->d * LANES);
    }
    fill(factor, LANES_BLOCK, h->scale);
    if (a->grad_k)
        unpack_lanes(w->sum[0], factor, keys, h, a->grad_k, k.at + key * h->stride);
    fill(factor, LANES_BLOCK, 1);
    if (a->grad_v)
        unpack_lanes(w->sum[1], factor, keys, h, a->grad_v, v.at + key * h->stride);
}

/* All at once ------------------------------------------------------------------------------------------- */

enum {
    TOGETHER_LEAST = 256, /* keys */
    HALVED_LEAST = 1024,  /* keys of a head that two tasks share */
};

static bool goes_together(const Attention *a, const Heads *h)
{
    return a->grad_q && (a->grad_k || a->grad_v) && h->M >= TOGETHER_LEAST;
}

/* Tasks of a head. */
static int64_t parts_of(const Heads *h)
{
    return h->M >= HALVED_LEAST ? 2 : 1;
}

/* Sums of dq of a head. */
static int64_t sum_floats(const Heads *h)
{
    return blocks_of(h->N) * LANES_BLOCK * h->d;
}

/* All of a head's queries in pairs of tokens. */
static int64_t pair_cells(const Heads *h)
{
    return h->pairs ? padded((h->N + 1) / 2 * h->d) : 0;
}

/* A thread's memory beyond Work: a block of keys as rows (two forms), the turned block, queries in pairs. */
static int64_t together_floats(const Heads *h)
{
    return 2 * LANES_BLOCK * padded(h->d) + LANES_BLOCK * ROWS + 2 * pair_cells(h);
}

/* A head's keys from block `first` to `last`-1; sum has sum_floats(). */
static void part_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t first,
                      int64_t last, Saved s, const Work *w, float *own, float *sum)
{
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               g = head_of(a->grad_out, h, picture, head);
    Cell *rows = own, *paired = own + LANES_BLOCK * padded(h->d);
    Together with = {.sum = sum, .turned = own + 2 * LANES_BLOCK * padded(h->d)};
    with.q_pairs = with.turned + LANES_BLOCK * ROWS;
    with.g_pairs = with.q_pairs + pair_cells(h);
    if (h->pairs) {
        combine_rows(q, 0, h->N, h, (Rows){0}, with.q_pairs);
        combine_rows(g, 0, h->N, h, (Rows){0}, with.g_pairs);
    }
    memset(sum, 0, sizeof(float) * (size_t)sum_floats(h));
    for (int64_t block = first; block < last; block++) {
        const int64_t key = block * LANES_BLOCK, keys = smaller(LANES_BLOCK, h->M - key);
        with.k_rows = combine_rows(k, key, keys, h, score_rows(k, key, keys, h, rows), paired);
        keys_task(a, h, picture, head, key, s, w, &with);
    }
}

/* grad q of a block of queries from its head's sums. */
static void put_queries(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                        float *sums)
{
    const int64_t n = LANES_BLOCK * h->d, queries = smaller(LANES_BLOCK, h->N - query);
    float *sum = sums + query * h->d, factor[LANES_BLOCK];
    for (int64_t part = 1; part < parts_of(h); part++)
        for (int64_t i = 0; i < n; i += VL)
            vec_store(sum + i, vec_load(sum + i) + vec_load(sum + part * sum_floats(h) + i));
    fill(factor, LANES_BLOCK, h->scale);
    for (int64_t i = 0; h->pairs && i < n; i += LANES)
        straighten(sum + i);
    unpack_lanes(sum, factor, queries, h, a->grad_q,
                 head_of(a->grad_q, h, picture, head).at + query * h->stride);
}

static void backward_together(const Attention *a, const Heads *h, Saved s, float *scratch)
{
    const int64_t parts = parts_of(h), heads = h->B * h->heads, blocks = blocks_of(h->M),
                  own = work_floats(h) + together_floats(h), queries = blocks_of(h->N);
    float *sums = scratch + a->threads * own;
#pragma omp parallel num_threads(a->threads)
    {
        float *mine = scratch + omp_get_thread_num() * own;
        const Work w = work_of(mine, h);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < heads * parts; t++) {
            const int64_t part = t % parts, i = t / parts;
            part_task(a, h, i / h->heads, i % h->heads, part * blocks / parts, (part + 1) * blocks / parts, s,
                      &w, mine + work_floats(h), sums + t * sum_floats(h));
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < heads * queries; t++) {
            const int64_t i = t / queries;
            put_queries(a, h, i / h->heads, i % h->heads, t % queries * LANES_BLOCK,
                        sums + i * parts * sum_floats(h));
        }
    }
}

/* Each side by itself -------------------------------------------------------------------------------------
 */

static void backward_apart(const Attention *a, const Heads *h, Saved s, float *scratch)
{
    const int64_t by_key = a->grad_k || a->grad_v ? blocks_of(h->M) : 0,
                  by_query = a->grad_q ? blocks_of(h->N) : 0;
    const int64_t blocks = by_key + by_query, heads = h->B * h->heads;
#pragma omp parallel num_threads(a->threads)
    {
        const Work w = work_of(scratch + omp_get_thread_num() * work_floats(h), h);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < heads * blocks; t++) {
            const int64_t picture = t / blocks / h->heads, head = t / blocks % h->heads, block = t % blocks;
            if (block < by_key)
                keys_task(a, h, picture, head, block * LANES_BLOCK, s, &w, NULL);
            else
                queries_task(a, h, picture, head, (block - by_key) * LANES_BLOCK, s, &w);
        }
    }
}

static Status cpu_attention_backward_scratch(const Attention *a, size_t *bytes)
{
    const Heads h = heads_of(a);
    const int64_t saved = 2 * padded(h.B * h.heads * h.N), heads = h.B * h.heads;
    const int64_t floats = goes_together(a, &h) ? a->threads * (work_floats(&h) + together_floats(&h)) +
                                                      heads * parts_of(&h) * sum_floats(&h)
                                                : a->threads * work_floats(&h);
    *bytes = (size_t)(saved + floats) * sizeof(float);
    return STATUS_OK;
}

static Status cpu_attention_backward(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out, a->grad_out, a->grad_q, a->grad_k, a->grad_v);
    const Heads h = heads_of(a);
    const int64_t queries = h.B * h.heads * h.N;
    const Saved s = {.D = scratch, .lse = (float *)scratch + padded(queries)};
    float *work = (float *)scratch + 2 * padded(queries);
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t i = 0; i < queries; i++)
        save_query(a, &h, i / h.N / h.heads, i / h.N % h.heads, i % h.N, s);
    if (goes_together(a, &h))
        backward_together(a, &h, s, work);
    else
        backward_apart(a, &h, s, work);
    return STATUS_OK;
}

void ISA(attention_backward_table)(Device *d)
{
    d->attention_backward_scratch = cpu_attention_backward_scratch;
    d->attention_backward = cpu_attention_backward;
}
