/* Attention without the score matrix (Rabe & Staats 2021; Dao et al. 2022): forward.
 *
 * The work is cut into tasks, (picture, head, some of its queries), that share nothing; a task walks
 * over tiles of ROWS keys (tiles.h). Lanes are queries, with a running maximum m and sum l: s = c k q^T;
 * m' = max(m, max s);  p = 2^(s - m');  l = l 2^(m-m') + Σp;  o = o 2^(m-m') + v^T p
 * and at the end out = o / l, lse = (m + log2 l) ln 2; c is log2(e)/√d, so that exponentials are powers of
 * two. Arithmetic is f32; attention_bf16.c has what is multiplied in bf16.
 */
#include "kernels/cpu/families.h"
#include "kernels/floats.h"
#include "attention_bf16.h"
#include "attention_int8.h"
#include "heads.h"

#include <omp.h>
#include <string.h>

/* The running softmax of one strip: t (rows,LANES) becomes p; m, l and o follow. The maximum may step over a
 * NaN; its exponential does not, and once l is NaN it stays so. A score of +infinity gives NaN as well
 * (infinity less itself), and so do scores that are all -infinity; one of these beside others has an
 * exponential next to 0. */
VEC void softmax_vector(const Heads *h, float *t, int64_t rows, float *m, float *l, float *o)
{
    const float c = h->scale * 1.44269504088896341f;
    vf largest[4], sum[2] = {vec_set(0), vec_set(0)};
    for (int i = 0; i < 4; i++) /* several, so that none waits for the one before */
        largest[i] = vec_load(t + (i < rows ? i : 0) * LANES);
    for (int64_t r = 4; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            largest[i] = vec_max(largest[i], vec_load(t + (r + i) * LANES));
    for (int64_t r = rows / 4 * 4; r < rows; r++)
        largest[0] = vec_max(largest[0], vec_load(t + r * LANES));
    const vf most = vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3]));
    const vf before = vec_load(m), now = vec_max(before, most * c);
    for (int64_t r = 0; r < rows; r += 2) {
        const vf a = tile_exp2(vec_load(t + r * LANES) * c - now);
        sum[0] += a;
        vec_store(t + r * LANES, a);
        if (r + 1 < rows) {
            const vf b = tile_exp2(vec_load(t + (r + 1) * LANES) * c - now);
            sum[1] += b;
            vec_store(t + (r + 1) * LANES, b);
        }
    }
    const vf keep = tile_exp2(before - now);
    vec_store(m, now);
    vec_store(l, vec_load(l) * keep + (sum[0] + sum[1]));
    for (int64_t i = 0; i < h->d; i++)
        vec_store(o + i * LANES, vec_load(o + i * LANES) * keep);
}

static void forward_tile(const Heads *h, Rows k, Rows v, int64_t key, int64_t keys, int64_t query,
                         const Cell *q, float *t, float *m, float *l, float *o)
{
    tile_scores(false, k.p, k.ld, keys, q, h->depth, t);
    if (h->causal && key + keys - 1 > query)
        mask_tile(t, key, keys, query, true);
    for (int i = 0; i < LANES; i += VL)
        softmax_vector(h, t + i, keys, m + i, l + i, o + i);
    tile_combine(false, v.p, v.ld, keys, t, h->d, o);
}

/* A thread's memory: a task's queries and sums in lanes, a tile's keys and values as rows, a tile of scores.
 */
typedef struct Own {
    Cell *q, *k, *v;
    float *o, *t;
} Own;

static Own own_of(float *memory, const Heads *h, int64_t queries)
{
    Own w = {.q = memory};
    w.o = w.q + queries * padded(h->d);
    w.k = w.o + queries * padded(h->d);
    w.v = w.k + ROWS * padded(h->d);
    w.t = w.v + ROWS * padded(h->d);
    return w;
}

int64_t ISA(attention_task_floats)(const Heads *h, int64_t queries)
{
    return h->pairs ? ISA(attention_bf16_floats)(h, queries)
                    : 2 * (queries + ROWS) * padded(h->d) + ROWS * LANES;
}

/* Queries of a task: many, so that a tile of keys and values is read for all of them, but some tasks for each
 * thread. Results do not depend on it. */
static int64_t task_queries(const Attention *a, const Heads *h)
{
    int64_t n = QUERIES;
    while (n > LANES_BLOCK && h->B * h->heads * ((h->N + n - 1) / n) < 8 * a->threads)
        n /= 2;
    return n;
}

void ISA(attention_task)(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                         int64_t queries, float *memory)
{
    if (h->pairs) {
        ISA(attention_bf16_task)(a, h, picture, head, query, queries, memory);
        return;
    }
    const Own w = own_of(memory, h, queries);
    const Head q = head_of(a->q, h, picture, head), k = head_of(a->k, h, picture, head),
               v = head_of(a->v, h, picture, head);
    float m[QUERIES], l[QUERIES];
    queries = smaller(queries, h->N - query);
    for (int64_t i = 0; i < queries; i += ROWS) /* k's place is free yet */
        pack_lanes(q, query + i, smaller(ROWS, queries - i), h, w.k, w.q + i * h->d);
    memset(w.o, 0, sizeof *w.o * (size_t)((queries + LANES - 1) / LANES * LANES * h->d));
    for (int64_t i = 0; i < QUERIES; i++) {
        m[i] = -INFINITY; /* all scores so: NaN, as 0 / 0 */
        l[i] = 0;
    }
    const int64_t end = h->causal ? smaller(h->M, query + queries) : h->M;
    for (int64_t key = 0; key < end; key += ROWS) {
        const int64_t keys = smaller(ROWS, end - key);
        const Rows k_rows = score_rows(k, key, keys, h, w.k), v_rows = score_rows(v, key, keys, h, w.v);
        for (int64_t lane = 0; lane < queries; lane += LANES)
            if (!h->causal || key < query + lane + LANES)
                forward_tile(h, k_rows, v_rows, key, keys, query + lane, w.q + lane * h->d, w.t, m + lane,
                             l + lane, w.o + lane * h->d);
    }
    float *lse = (float *)a->lse->data + (picture * h->heads + head) * h->N + query;
    for (int64_t i = 0; i < queries; i++) {
        lse[i] = (m[i] + log2f(l[i])) * 0.693147180559945309f;
        l[i] = 1.0f / l[i];
    }
    unpack_lanes(w.o, l, queries, h, a->out, q.at + query * h->stride);
}

static Status cpu_attention_scratch(const Attention *a, size_t *bytes)
{
    const Heads h = heads_of(a);
    *bytes = ISA(attention_int8_takes)(a)
                 ? ISA(attention_int8_scratch)(a)
                 : (size_t)a->threads * (size_t)ISA(attention_task_floats)(&h, task_queries(a, &h)) *
                       sizeof(float);
    return STATUS_OK;
}

static Status cpu_attention(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out);
    if (ISA(attention_int8_takes)(a)) {
        ISA(attention_int8)(a, scratch);
        return STATUS_OK;
    }
    const Heads h = heads_of(a);
    const int64_t queries = task_queries(a, &h), blocks = (h.N + queries - 1) / queries,
                  tasks = h.B * h.heads * blocks;
#pragma omp parallel for num_threads(a->threads) schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t head = t / blocks, query = t % blocks * queries;
        float *memory = (float *)scratch + omp_get_thread_num() * ISA(attention_task_floats)(&h, queries);
        ISA(attention_task)(a, &h, head / h.heads, head % h.heads, query, queries, memory);
    }
    return STATUS_OK;
}

void ISA(attention_table)(Device *d)
{
    d->attention_scratch = cpu_attention_scratch;
    d->attention = cpu_attention;
}
