/* Attention without the score matrix (Rabe & Staats 2021; Dao et al. 2022), and softmax over rows.
 *
 * Forward: one task a (picture, head, block of queries). It walks over blocks of keys, keeps a running
 * maximum m and sum l per query, and rescales what it has when the maximum grows: s = scale q k^T;  m' =
 * max(m, max s);  p = exp(s − m');  l = l e^(m−m') + Σp;  o = o e^(m−m') + p v and leaves o / l and lse = m +
 * ln l. Backward: one task a (picture, head), p = exp(s − lse) made again a tile at a time: D = Σ do∘o;  dv =
 * p^T do;  ds = p ∘ (do v^T − D);  dq = scale ds k;  dk = scale ds^T q Nothing is shared between tasks and
 * sums run in a fixed order, so no result depends on timing. Arithmetic is f32; tiles of 16-bit tensors are
 * widened into the task's scratch. */
#include "families.h"
#include "onednn.h"
#include "vec.h"

#include <math.h>
#include <omp.h>

enum { QUERY_BLOCK = 256, KEY_BLOCK = 512, BACKWARD_KEY_BLOCK = 256 };

/* The sizes and one head's rows: element (row, i) of tensor t lies at offset + row * stride + i. */
typedef struct Heads {
    int64_t B, N, M, d, stride;
    int heads;
    float scale;
} Heads;

static Heads heads_of(const Attention *a)
{
    const int64_t D = tensor_dim(a->q, -1);
    return (Heads){.B = a->q->shape[0],
                   .N = a->q->shape[1],
                   .M = a->k->shape[1],
                   .d = D / a->heads,
                   .stride = D,
                   .heads = a->heads,
                   .scale = 1.0f / sqrtf((float)(D / a->heads))};
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A piece of a thread's scratch, in floats, kept at multiples of 16. */
static float *take(float **next, int64_t floats)
{
    float *p = *next;
    *next += (floats + 15) / 16 * 16;
    return p;
}

static int64_t padded(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* rows × d of one head, widened to f32 in `tile` (leading dimension d); f32 storage is used where it is. */
typedef struct Tile {
    const float *p;
    int64_t ld;
} Tile;

static Tile widen(const Tensor *t, int64_t first, int64_t rows, const Heads *h, float *tile)
{
    if (t->dtype == DTYPE_F32)
        return (Tile){(const float *)t->data + first, h->stride};
    for (int64_t r = 0; r < rows; r++) {
        const int64_t from = first + r * h->stride;
        for (int64_t i = 0; i < h->d; i += VL) {
            const int n = vec_part(i, h->d);
            vec_put_n(tile, DTYPE_F32, r * h->d + i, vec_get_n(t->data, t->dtype, from + i, n), n);
        }
    }
    return (Tile){tile, h->d};
}

static void narrow(Tensor *t, int64_t first, int64_t rows, const Heads *h, const float *tile)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < h->d; i += VL) {
            const int n = vec_part(i, h->d);
            vec_put_n(t->data, t->dtype, first + r * h->stride + i,
                      vec_get_n(tile, DTYPE_F32, r * h->d + i, n), n);
        }
}

/* Rows of scores --------------------------------------------------------------------------------------------
 */

static float row_max(const float *s, int64_t n)
{
    vf m = vec_set(-INFINITY);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        m = vec_max(m, vec_load(s + i));
    float largest = vec_largest(m);
    for (; i < n; i++)
        largest = s[i] > largest ? s[i] : largest;
    return largest;
}

/* s = exp(s − m); returns Σ. */
static float row_exp(float *s, int64_t n, float m)
{
    vf sum = vec_set(0);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vf e = vec_exp(vec_load(s + i) - m);
        vec_store(s + i, e);
        sum += e;
    }
    float total = vec_sum(sum);
    if (i < n) {
        const int rest = (int)(n - i);
        float e[VL];
        vec_store(e, vec_exp(vec_get_n(s, DTYPE_F32, i, rest) - m));
        for (int j = 0; j < rest; j++) {
            s[i + j] = e[j];
            total += e[j];
        }
    }
    return total;
}

static void row_scale(float *s, int64_t n, float factor)
{
    for (int64_t i = 0; i < n; i += VL) {
        const int part = vec_part(i, n);
        vec_put_n(s, DTYPE_F32, i, vec_get_n(s, DTYPE_F32, i, part) * factor, part);
    }
}

static float row_dot(const float *a, const float *b, int64_t n)
{
    vf sum = vec_set(0);
    for (int64_t i = 0; i < n; i += VL) {
        const int part = vec_part(i, n);
        sum += vec_get_n(a, DTYPE_F32, i, part) * vec_get_n(b, DTYPE_F32, i, part);
    }
    return vec_sum(sum);
}

/* How many of `keys` keys from `key` on the query sees. */
static int64_t visible(bool causal, int64_t query, int64_t key, int64_t keys)
{
    if (!causal)
        return keys;
    const int64_t n = query - key + 1;
    return n < 0 ? 0 : smaller(n, keys);
}

/* Forward
 * ------------------------------------------------------------------------------------------------------ */

static int64_t forward_floats(const Heads *h)
{
    const int64_t Q = smaller(QUERY_BLOCK, h->N), K = smaller(KEY_BLOCK, h->M);
    return padded(Q * h->d) + 2 * padded(K * h->d) + padded(Q * K) + padded(Q * h->d) + 2 * padded(Q);
}

static size_t cpu_attention_scratch(const Attention *a, int threads)
{
    const Heads h = heads_of(a);
    return (size_t)threads * (size_t)forward_floats(&h) * sizeof(float);
}

/* One block of keys: scores, running softmax, and the sum of values. */
static Status add_keys(const Attention *a, const Heads *h, Tile q, int64_t query, int64_t queries, Tile k,
                       Tile v, int64_t key, int64_t keys, float *s, float *o, float *m, float *l)
{
    TRY(onednn_sgemm(false, true, queries, keys, h->d, h->scale, q.p, q.ld, k.p, k.ld, 0, s, keys));
    for (int64_t i = 0; i < queries; i++) {
        float *row = s + i * keys;
        const int64_t n = visible(a->causal, query + i, key, keys);
        for (int64_t j = n; j < keys; j++)
            row[j] = 0;
        if (!n)
            continue;
        const float largest = row_max(row, n), now = largest > m[i] ? largest : m[i];
        const float keep = expf(m[i] - now); /* 0 at the first block: m is -inf */
        l[i] = l[i] * keep + row_exp(row, n, now);
        m[i] = now;
        if (keep != 1.0f)
            row_scale(o + i * h->d, h->d, keep);
    }
    return onednn_sgemm(false, false, queries, h->d, keys, 1, s, keys, v.p, v.ld, 1, o, h->d);
}

static Status forward_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, int64_t query,
                           float *scratch)
{
    const int64_t queries = smaller(QUERY_BLOCK, h->N - query), K = smaller(KEY_BLOCK, h->M);
    float *q_tile = take(&scratch, QUERY_BLOCK < h->N ? QUERY_BLOCK * h->d : h->N * h->d);
    float *k_tile = take(&scratch, K * h->d), *v_tile = take(&scratch, K * h->d);
    float *s = take(&scratch, smaller(QUERY_BLOCK, h->N) * K);
    float *o = take(&scratch, smaller(QUERY_BLOCK, h->N) * h->d);
    float *m = take(&scratch, smaller(QUERY_BLOCK, h->N)), *l = take(&scratch, smaller(QUERY_BLOCK, h->N));
    const int64_t at = (picture * h->N + query) * h->stride + head * h->d;
    const Tile q = widen(a->q, at, queries, h, q_tile);
    memset(o, 0, sizeof *o * (size_t)(queries * h->d));
    for (int64_t i = 0; i < queries; i++) {
        m[i] = -INFINITY;
        l[i] = 0;
    }
    const int64_t end = a->causal ? smaller(h->M, query + queries) : h->M;
    for (int64_t key = 0; key < end; key += K) {
        const int64_t keys = smaller(K, h->M - key), from = (picture * h->M + key) * h->stride + head * h->d;
        const Tile k = widen(a->k, from, keys, h, k_tile), v = widen(a->v, from, keys, h, v_tile);
        TRY(add_keys(a, h, q, query, queries, k, v, key, keys, s, o, m, l));
    }
    float *lse = (float *)a->lse->data + (picture * h->heads + head) * h->N + query;
    for (int64_t i = 0; i < queries; i++) {
        row_scale(o + i * h->d, h->d, 1.0f / l[i]);
        lse[i] = m[i] + logf(l[i]);
    }
    narrow(a->out, at, queries, h, o);
    return STATUS_OK;
}

static Status cpu_attention(const Attention *a, int threads, void *scratch)
{
    const Heads h = heads_of(a);
    const int64_t blocks = (h.N + QUERY_BLOCK - 1) / QUERY_BLOCK, tasks = h.B * h.heads * blocks,
                  floats = forward_floats(&h);
    Status failed = STATUS_OK;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        float *mine = (float *)scratch + omp_get_thread_num() * floats;
        const Status s =
            forward_task(a, &h, t / blocks / h.heads, t / blocks % h.heads, t % blocks * QUERY_BLOCK, mine);
        if (s != STATUS_OK)
#pragma omp atomic write
            failed = s;
    }
    return failed == STATUS_OK ? STATUS_OK
                               : status_fail("oneDNN could not multiply a tile of attention scores");
}

/* Backward
 * ------------------------------------------------------------------------------------------------------- */

static int64_t backward_floats(const Heads *h)
{
    const int64_t Q = smaller(QUERY_BLOCK, h->N), K = smaller(BACKWARD_KEY_BLOCK, h->M);
    return 3 * padded(Q * h->d) + 4 * padded(K * h->d) + 2 * padded(Q * K) + padded(h->N * h->d) +
           padded(h->N);
}

static size_t cpu_attention_backward_scratch(const Attention *a, int threads)
{
    const Heads h = heads_of(a);
    return (size_t)threads * (size_t)backward_floats(&h) * sizeof(float);
}

/* What a backward task works on. */
typedef struct Back {
    const Attention *a;
    const Heads *h;
    int64_t q_at, k_at; /* of the head's first query and key */
    const float *lse;
    float *q_tile, *do_tile, *k_tile, *v_tile;
    float *p, *dp;           /* (queries,keys) tiles */
    float *dk, *dv, *dq, *D; /* dq (N,d) and D (N) of the whole head */
} Back;

/* D of every query: Σ do∘o. */
static void row_deltas(const Back *b)
{
    const Heads *h = b->h;
    for (int64_t query = 0; query < h->N; query += QUERY_BLOCK) {
        const int64_t queries = smaller(QUERY_BLOCK, h->N - query), at = b->q_at + query * h->stride;
        const Tile g = widen(b->a->grad_out, at, queries, h, b->do_tile),
                   o = widen(b->a->out, at, queries, h, b->q_tile);
        for (int64_t i = 0; i < queries; i++)
            b->D[query + i] = row_dot(g.p + i * g.ld, o.p + i * o.ld, h->d);
    }
}

/* p = exp(s − lse), masked; ds = p ∘ (dp − D), left in dp. */
static void tile_gradient(const Back *b, int64_t query, int64_t queries, int64_t key, int64_t keys)
{
    for (int64_t i = 0; i < queries; i++) {
        float *p = b->p + i * keys, *dp = b->dp + i * keys;
        const float lse = b->lse[query + i], D = b->D[query + i];
        const int64_t n = visible(b->a->causal, query + i, key, keys);
        for (int64_t j = 0; j < n; j += VL) {
            const int part = vec_part(j, n);
            const vf e = vec_exp(vec_get_n(p, DTYPE_F32, j, part) - lse);
            vec_put_n(p, DTYPE_F32, j, e, part);
            vec_put_n(dp, DTYPE_F32, j, e * (vec_get_n(dp, DTYPE_F32, j, part) - D), part);
        }
        for (int64_t j = n; j < keys; j++)
            p[j] = dp[j] = 0;
    }
}

static Status backward_tile(const Back *b, int64_t query, int64_t queries, Tile k, Tile v, int64_t key,
                            int64_t keys)
{
    const Heads *h = b->h;
    const int64_t at = b->q_at + query * h->stride;
    const Tile q = widen(b->a->q, at, queries, h, b->q_tile),
               g = widen(b->a->grad_out, at, queries, h, b->do_tile);
    TRY(onednn_sgemm(false, true, queries, keys, h->d, h->scale, q.p, q.ld, k.p, k.ld, 0, b->p, keys));
    TRY(onednn_sgemm(false, true, queries, keys, h->d, 1, g.p, g.ld, v.p, v.ld, 0, b->dp, keys));
    tile_gradient(b, query, queries, key, keys);
    if (b->a->grad_v)
        TRY(onednn_sgemm(true, false, keys, h->d, queries, 1, b->p, keys, g.p, g.ld, 1, b->dv, h->d));
    if (b->a->grad_k)
        TRY(onednn_sgemm(true, false, keys, h->d, queries, h->scale, b->dp, keys, q.p, q.ld, 1, b->dk, h->d));
    if (b->a->grad_q)
        TRY(onednn_sgemm(false, false, queries, h->d, keys, h->scale, b->dp, keys, k.p, k.ld, 1,
                         b->dq + query * h->d, h->d));
    return STATUS_OK;
}

static Status backward_task(const Attention *a, const Heads *h, int64_t picture, int64_t head, float *scratch)
{
    const int64_t Q = smaller(QUERY_BLOCK, h->N), K = smaller(BACKWARD_KEY_BLOCK, h->M);
    Back b = {.a = a,
              .h = h,
              .q_at = picture * h->N * h->stride + head * h->d,
              .k_at = picture * h->M * h->stride + head * h->d,
              .lse = (const float *)a->lse->data + (picture * h->heads + head) * h->N};
    b.q_tile = take(&scratch, Q * h->d), b.do_tile = take(&scratch, Q * h->d);
    b.k_tile = take(&scratch, K * h->d), b.v_tile = take(&scratch, K * h->d);
    b.p = take(&scratch, Q * K), b.dp = take(&scratch, Q * K);
    b.dk = take(&scratch, K * h->d), b.dv = take(&scratch, K * h->d);
    b.dq = take(&scratch, h->N * h->d), b.D = take(&scratch, h->N);
    memset(b.dq, 0, sizeof *b.dq * (size_t)(h->N * h->d));
    row_deltas(&b);
    for (int64_t key = 0; key < h->M; key += K) {
        const int64_t keys = smaller(K, h->M - key), from = b.k_at + key * h->stride;
        const Tile k = widen(a->k, from, keys, h, b.k_tile), v = widen(a->v, from, keys, h, b.v_tile);
        memset(b.dk, 0, sizeof *b.dk * (size_t)(keys * h->d));
        memset(b.dv, 0, sizeof *b.dv * (size_t)(keys * h->d));
        for (int64_t query = a->causal ? key / Q * Q : 0; query < h->N; query += Q)
            TRY(backward_tile(&b, query, smaller(Q, h->N - query), k, v, key, keys));
        if (a->grad_k)
            narrow(a->grad_k, from, keys, h, b.dk);
        if (a->grad_v)
            narrow(a->grad_v, from, keys, h, b.dv);
    }
    if (a->grad_q)
        narrow(a->grad_q, b.q_at, h->N, h, b.dq);
    return STATUS_OK;
}

static Status cpu_attention_backward(const Attention *a, int threads, void *scratch)
{
    const Heads h = heads_of(a);
    const int64_t tasks = h.B * h.heads, floats = backward_floats(&h);
    Status failed = STATUS_OK;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        const Status s =
            backward_task(a, &h, t / h.heads, t % h.heads, (float *)scratch + omp_get_thread_num() * floats);
        if (s != STATUS_OK)
#pragma omp atomic write
            failed = s;
    }
    return failed == STATUS_OK ? STATUS_OK
                               : status_fail("oneDNN could not multiply a tile of attention gradients");
}

/* Softmax
 * ----------------------------------------------------------------------------------------------------------
 */

static void softmax_row(const Tensor *x, Tensor *y, int64_t at, int64_t C)
{
    vf m = vec_set(-INFINITY);
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        vf v = vec_get_n(x->data, x->dtype, at + i, n);
        for (int j = n; j < VL; j++)
            v[j] = -INFINITY;
        m = vec_max(m, v);
    }
    const float largest = vec_largest(m);
    vf sum = vec_set(0);
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        vf e = vec_exp(vec_get_n(x->data, x->dtype, at + i, n) - largest);
        for (int j = n; j < VL; j++)
            e[j] = 0;
        sum += e;
    }
    const float inverse = 1.0f / vec_sum(sum);
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        vec_put_n(y->data, y->dtype, at + i,
                  vec_exp(vec_get_n(x->data, x->dtype, at + i, n) - largest) * inverse, n);
    }
}

static Status cpu_softmax(const Tensor *x, Tensor *y)
{
    const int64_t C = tensor_dim(x, -1), rows = tensor_rows(x);
#pragma omp parallel for schedule(static) if (rows * C > 16384)
    for (int64_t r = 0; r < rows; r++)
        softmax_row(x, y, r * C, C);
    return STATUS_OK;
}

/* dx = y ∘ (dy − Σ dy∘y) */
static void softmax_backward_row(const Tensor *y, const Tensor *grad_y, Tensor *grad_x, int64_t at, int64_t C)
{
    vf sum = vec_set(0);
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        sum += vec_get_n(y->data, y->dtype, at + i, n) * vec_get_n(grad_y->data, grad_y->dtype, at + i, n);
    }
    const float total = vec_sum(sum);
    for (int64_t i = 0; i < C; i += VL) {
        const int n = vec_part(i, C);
        const vf p = vec_get_n(y->data, y->dtype, at + i, n),
                 g = vec_get_n(grad_y->data, grad_y->dtype, at + i, n);
        vec_put_n(grad_x->data, grad_x->dtype, at + i, p * (g - total), n);
    }
}

static Status cpu_softmax_backward(const Tensor *y, const Tensor *grad_y, Tensor *grad_x)
{
    const int64_t C = tensor_dim(y, -1), rows = tensor_rows(y);
#pragma omp parallel for schedule(static) if (rows * C > 16384)
    for (int64_t r = 0; r < rows; r++)
        softmax_backward_row(y, grad_y, grad_x, r * C, C);
    return STATUS_OK;
}

void ISA(attention_table)(Device *d)
{
    d->softmax = cpu_softmax;
    d->softmax_backward = cpu_softmax_backward;
    d->attention_scratch = cpu_attention_scratch;
    d->attention = cpu_attention;
    d->attention_backward_scratch = cpu_attention_backward_scratch;
    d->attention_backward = cpu_attention_backward;
}
