/* Attention's backward on tensor cores, 16-bit tensors, or f32 in TF32; f32 sums, the same bytes in every
 * run.
 *
 * With p = 2^(s - lse) made again and ds = p ∘ (do v^T − D), D = Σ do∘out (attention.cu saves lse and D for
 * each query): dq = ds k; dv = p^T do, dk = ds^T q. Two kernels, so that every sum has one owner and one
 * order: seven products in all instead of the five that one kernel with atomic sums would take.
 *
 *     attention_queries_kernel: a block owns 64 queries, a warp 16 of them, and walks over tiles of keys:
 *         s, do v^T (queries down, keys across), then dq; q and do stay in operand A's registers
 *     attention_keys_kernel: a block owns 64 keys, a warp 16 of them, and walks over tiles of queries:
 *         s^T, v do^T (keys down, queries across), then dv and dk; k and v stay in registers
 *
 *     shared memory, rows of LD elements (attention_tiles.h):
 *             +---------+---------+
 *             | k       | v       |  tiles 0, 2, ... of ROWS rows     or q and do, and beside them lse and D
 *             +---------+---------+
 *             | k       | v       |  tiles 1, 3, ...; before them the own q and do; after them the result
 *             +---------+---------+
 *
 * What a lane holds of the scores is what it needs of operand A of the next product, both ways round: nothing
 * but the tiles passes through shared memory. Tiles are walked in steps of STEP tokens, which bounds the
 * registers. Heads of more than 80 columns have more sums than a thread has registers: dk and dv are made by
 * a kernel each there, which makes the scores once more (such heads come with few tokens).
 *
 * Few keys and many queries (text: 77 keys, 4096 queries) are few blocks of attention_keys_kernel: then the
 * queries are cut into ranges, a block for each, whose sums go to scratch memory and are added in order
 * (attention.cu).
 *
 * Registers and the blocks of 4 warps that a processor of 7.5, 8.0, 8.6 and 8.9, 9.0 holds by them and by
 * shared memory:
 *
 *     D   ROWS  STEP   KB     queries: registers, blocks   keys: registers, blocks
 *     40   64    32    20     128-136    3 3 3 3           162-168    3 3 3 3
 *     64   32    32    27     158-164    2 3 3 3           192-208    2 2 2 2
 *     80   32    32    33     174-192    1 2 2 2           224-238    1 2 2 2
 *    128   16    16    42.5   196-224    1 2 2 2           165-225    1 2 2 2
 *    160   16    16    52.5   236-255    1 2 1 2           198-255    1 2 1 2
 *     f32: 40  32  16  33     128        - 3 2 3           156        - 3 2 3
 *          64  16  16  42.5   160        - 3 2 3           202        - 2 2 2
 *          80  16  16  52.5   190        - 2 1 2           233        - 2 1 2 */
#include "attention_tiles.h"

#define OWN (TILE_WARPS * 16)

/* rows, step: of a tile; all: that lie in shared memory. */
template <typename T, int D> struct BackwardTile {
    static constexpr int rows = (D <= 40 ? 64 : D <= 80 ? 32 : 16) / (sizeof(T) == 4 ? 2 : 1);
    static constexpr int step = rows < 32 || sizeof(T) == 4 ? 16 : 32;
    static constexpr int all = 2 * rows + (OWN > rows ? 2 * OWN : 2 * rows);
};

/* Of one head: where its first query and first key lie. */
typedef struct HeadAt {
    int64_t query, key, saved;
} HeadAt;

__device__ static inline HeadAt head_at(const HeadSizes &z, int number)
{
    const int64_t picture = number / z.heads, column = (int64_t)(number % z.heads) * z.d;
    return {picture * z.N * z.stride + column, picture * z.M * z.stride + column, (int64_t)number * z.padded};
}

/* Gradient of the queries ------------------------------------------------------------------------------- */

/* s becomes p and dp becomes ds, queries down: s[j][0] and [1] are of query `query` + lane/4, [2] and [3] of
 * the one 8 below, keys from key + 8j on. */
template <int STEP>
__device__ static inline void weigh_by_query(float (&s)[STEP / 8][4], float (&dp)[STEP / 8][4],
                                             const SavedQuery (&saved)[2], int key, int query,
                                             const HeadSizes &z)
{
    const int lane = threadIdx.x % WARP;
    const bool hides = key + STEP > z.M || (z.causal && key + STEP - 1 > query);
#pragma unroll
    for (int below = 0; below < 2; below++) {
        const int row = query + below * 8 + lane / 4, last = z.M - 1;
        const int seen = (z.causal && row < last ? row : last) - key - lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < STEP / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float *const x = &s[j][2 * below + e], *const dx = &dp[j][2 * below + e];
                *x = exp2_fast(fmaf(*x, z.c, -saved[below].lse));
                if (hides && j * 8 + e > seen)
                    *x = 0;
                *dx = *x * (*dx - saved[below].D);
            }
    }
}

/* STEP keys from `key` on for a warp's queries from `query` on. */
template <typename T, int D, int STEP>
__device__ static inline void
queries_step(float (&dq)[1][D / 8][4], const Left<T, D> (&q)[1], const Left<T, D> (&g)[1], const T *k_rows,
             const T *v_rows, const SavedQuery (&saved)[2], int key, int query, const HeadSizes &z)
{
    float s[1][STEP / 8][4] = {}, dp[1][STEP / 8][4] = {};
    Weights<T, 1, STEP> ds;
    tile_scores<T, D, 1, STEP>(s, q, k_rows);
    tile_scores<T, D, 1, STEP>(dp, g, v_rows);
    weigh_by_query<STEP>(s[0], dp[0], saved, key, query, z);
    as_left<T, 1, STEP>(ds, dp);
    tile_combine<T, D, 1, STEP>(dq, ds, k_rows);
}

template <typename T, int D, int KEYS, int STEP>
__global__ static void __launch_bounds__(TILE_THREADS, D <= 40 ? 3 : 2)
    attention_queries_kernel(HeadSizes z, const T *q, const T *k, const T *v, const T *grad_out,
                             const SavedQuery *all_saved, T *grad_q)
{
    constexpr int LD = Row<T, D>::ld;
    SHARED(T, tiles);
    T *const q_rows = tiles + 2 * KEYS * LD, *const g_rows = q_rows + OWN * LD; /* until tile 1 */
    const HeadAt at = head_at(z, blockIdx.y);
    const int first = blockIdx.x * OWN, lane = threadIdx.x % WARP;
    const int own = (int)threadIdx.x / WARP * 16, query = first + own;
    const int end = z.causal ? min(z.M, first + OWN) : z.M;
    k += at.key;
    v += at.key;
    copy_rows<T, D, OWN>(q_rows, q + at.query + first * z.stride, z.stride, z.N - first, z.d);
    copy_rows<T, D, OWN>(g_rows, grad_out + at.query + first * z.stride, z.stride, z.N - first, z.d);
    copy_rows<T, D, KEYS>(tiles, k, z.stride, z.M, z.d);
    copy_rows<T, D, KEYS>(tiles + KEYS * LD, v, z.stride, z.M, z.d);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();

    float dq[1][D / 8][4] = {};
    Left<T, D> q_left[1], g_left[1];
    load_left<T, D>(q_left[0], q_rows + own * LD);
    load_left<T, D>(g_left[0], g_rows + own * LD);
    __syncthreads();
    const SavedQuery *const row = all_saved + at.saved + query + lane / 4;
    const SavedQuery saved[2] = {row[0], row[8]};
    for (int key = 0, turn = 0; key < end; key += KEYS, turn ^= 1) {
        const T *k_rows = tiles + turn * 2 * KEYS * LD, *v_rows = k_rows + KEYS * LD;
        const int next = key + KEYS;
        if (next < end) {
            T *const to = tiles + (turn ^ 1) * 2 * KEYS * LD;
            copy_rows<T, D, KEYS>(to, k + next * z.stride, z.stride, z.M - next, z.d);
            copy_rows<T, D, KEYS>(to + KEYS * LD, v + next * z.stride, z.stride, z.M - next, z.d);
            copy_async_commit();
        }
        for (int i = 0; i < KEYS && key + i < end && query < z.N; i += STEP)
            queries_step<T, D, STEP>(dq, q_left, g_left, k_rows + i * LD, v_rows + i * LD, saved, key + i,
                                     query, z);
        copy_async_wait<0>();
        __syncthreads();
    }
    const float factor[1][2] = {{z.scale, z.scale}};
    if (query < z.N)
        store_rows<T, D, 1>(grad_q + at.query + query * z.stride, z.stride, z.N - query, z.d, dq, factor,
                            q_rows + own * LD);
}

/* Gradients of keys and values -------------------------------------------------------------------------- */

/* s becomes p and dp becomes ds, keys down, queries across: s[j][0] and [2] are of query `query` + 8j +
 * 2(lane%4), [1] and [3] of the one after. Where there is no query p is 0 by its lse. */
template <int STEP>
__device__ static inline void weigh_by_key(float (&s)[STEP / 8][4], float (&dp)[STEP / 8][4],
                                           const SavedQuery *saved, int key, int query, const HeadSizes &z)
{
    const int lane = threadIdx.x % WARP;
    const bool hides = z.causal && query < key + 15;
#pragma unroll
    for (int j = 0; j < STEP / 8; j++) {
        const float4 two = *(const float4 *)(saved + j * 8 + lane % 4 * 2);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float lse = e % 2 ? two.z : two.x, sum = e % 2 ? two.w : two.y;
            const int before = key + e / 2 * 8 + lane / 4 - (query + j * 8 + lane % 4 * 2 + e % 2);
            s[j][e] = exp2_fast(fmaf(s[j][e], z.c, -lse));
            if (hides && before > 0)
                s[j][e] = 0;
            dp[j][e] = s[j][e] * (dp[j][e] - sum);
        }
    }
}

/* A warp's 16 keys, as operand A, and their sums. */
template <typename T, int D> struct OwnKeys {
    Left<T, D> k[1], v[1];
    float dk[1][D / 8][4], dv[1][D / 8][4];
};

/* STEP queries from `query` on for a warp's keys from `key` on. */
template <typename T, int D, int STEP, bool TO_K, bool TO_V>
__device__ static inline void keys_step(OwnKeys<T, D> &own, const T *q_rows, const T *g_rows,
                                        const SavedQuery *saved, int key, int query, const HeadSizes &z)
{
    float s[1][STEP / 8][4] = {}, dp[1][STEP / 8][4] = {};
    Weights<T, 1, STEP> p;
    tile_scores<T, D, 1, STEP>(s, own.k, q_rows);
    if constexpr (TO_K)
        tile_scores<T, D, 1, STEP>(dp, own.v, g_rows);
    weigh_by_key<STEP>(s[0], dp[0], saved, key, query, z);
    if constexpr (TO_V) {
        as_left<T, 1, STEP>(p, s);
        tile_combine<T, D, 1, STEP>(own.dv, p, g_rows);
    }
    if constexpr (TO_K) {
        as_left<T, 1, STEP>(p, dp);
        tile_combine<T, D, 1, STEP>(own.dk, p, q_rows);
    }
}

/* A warp's sums as they are, f32: (16,D) to rows of the part. */
template <int D>
__device__ static inline void store_part(float *to, int64_t stride, int rows, int d,
                                         const float (&o)[1][D / 8][4], float factor)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
#pragma unroll
        for (int below = 0; below < 2; below++) {
            const int row = below * 8 + lane / 4;
            float *const at = to + row * stride + j * 8 + lane % 4 * 2;
            if (row < rows && j * 8 < d)
                *(float2 *)at = make_float2(o[0][j][2 * below] * factor, o[0][j][2 * below + 1] * factor);
        }
}

/* Queues the copy of a tile of queries: q, do, and what is saved of them. */
template <typename T, int D, int QUERIES>
__device__ static inline void copy_queries(T *to, SavedQuery *saved_to, const T *q, const T *g,
                                           const SavedQuery *saved, int query, const HeadSizes &z)
{
    const int64_t from = query * z.stride;
    copy_rows<T, D, QUERIES>(to, q + from, z.stride, z.N - query, z.d);
    copy_rows<T, D, QUERIES>(to + QUERIES * Row<T, D>::ld, g + from, z.stride, z.N - query, z.d);
    if (threadIdx.x < QUERIES / 2)
        copy_async_16(saved_to + 2 * threadIdx.x, saved + query + 2 * threadIdx.x, true);
    copy_async_commit();
}

/* With TO_K grad_k, with TO_V grad_v, or where there are parts, those of range blockIdx.z; what is NULL is
 * not wanted. */
template <typename T, int D, int QUERIES, int STEP, bool TO_K, bool TO_V>
__global__ static void __launch_bounds__(TILE_THREADS, D <= 40 ? 3 : 2)
    attention_keys_kernel(HeadSizes z, const T *q, const T *k, const T *v, const T *grad_out,
                          const SavedQuery *all_saved, T *grad_k, T *grad_v, float *part_k, float *part_v,
                          int64_t part)
{
    constexpr int LD = Row<T, D>::ld;
    SHARED(T, tiles);
    T *const k_rows = tiles + 2 * QUERIES * LD, *const v_rows = k_rows + OWN * LD; /* until tile 1 */
    SavedQuery *const saved = (SavedQuery *)(tiles + BackwardTile<T, D>::all * LD);
    const HeadAt at = head_at(z, blockIdx.y);
    const int first = blockIdx.x * OWN, own = (int)threadIdx.x / WARP * 16, key = first + own;
    const int begin = blockIdx.z * z.range, end = min(z.N, begin + z.range);
    const int start = z.causal ? max(begin, first) : begin;
    q += at.query;
    grad_out += at.query;
    all_saved += at.saved;
    copy_rows<T, D, OWN>(k_rows, k + at.key + first * z.stride, z.stride, z.M - first, z.d);
    copy_rows<T, D, OWN>(v_rows, v + at.key + first * z.stride, z.stride, z.M - first, z.d);
    if (start < end)
        copy_queries<T, D, QUERIES>(tiles, saved, q, grad_out, all_saved, start, z);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();

    OwnKeys<T, D> o = {};
    load_left<T, D>(o.k[0], k_rows + own * LD);
    load_left<T, D>(o.v[0], v_rows + own * LD);
    __syncthreads();
    for (int query = start, turn = 0; query < end; query += QUERIES, turn ^= 1) {
        const T *q_tile = tiles + turn * 2 * QUERIES * LD, *g_tile = q_tile + QUERIES * LD;
        const int next = query + QUERIES;
        if (next < end)
            copy_queries<T, D, QUERIES>(tiles + (turn ^ 1) * 2 * QUERIES * LD, saved + (turn ^ 1) * QUERIES,
                                        q, grad_out, all_saved, next, z);
        for (int i = 0; i < QUERIES && query + i < end && key < z.M; i += STEP)
            keys_step<T, D, STEP, TO_K, TO_V>(o, q_tile + i * LD, g_tile + i * LD, saved + turn * QUERIES + i,
                                              key, query + i, z);
        copy_async_wait<0>();
        __syncthreads();
    }
    if (key >= z.M)
        return;
    const int64_t to = at.key + key * z.stride;
    const float factor[1][2] = {{z.scale, z.scale}}, one[1][2] = {{1, 1}};
    if (TO_K && part_k)
        store_part<D>(part_k + blockIdx.z * part + to, z.stride, z.M - key, z.d, o.dk, z.scale);
    else if (TO_K && grad_k)
        store_rows<T, D, 1>(grad_k + to, z.stride, z.M - key, z.d, o.dk, factor, k_rows + own * LD);
    if (TO_V && part_v)
        store_part<D>(part_v + blockIdx.z * part + to, z.stride, z.M - key, z.d, o.dv, 1);
    else if (TO_V && grad_v)
        store_rows<T, D, 1>(grad_v + to, z.stride, z.M - key, z.d, o.dv, one, v_rows + own * LD);
}

template <typename T> static T *data_of(const Tensor *t)
{
    return t ? (T *)t->data : NULL;
}

template <typename T, int D> static size_t backward_shared()
{
    return sizeof(T) * (size_t)Row<T, D>::ld * BackwardTile<T, D>::all;
}

template <typename T, int D, bool TO_K, bool TO_V>
static Status backward_to_keys(const Attention *a, const BackwardPlan *p)
{
    constexpr int ROWS = BackwardTile<T, D>::rows, STEP = BackwardTile<T, D>::step;
    const HeadSizes z = p->sizes;
    const dim3 grid(blocks_for(z.M, OWN), (unsigned)(p->pictures * z.heads), (unsigned)p->ranges);
    const size_t shared = backward_shared<T, D>() + 2 * ROWS * sizeof(SavedQuery);
    return LAUNCH(grid, dim3(TILE_THREADS), shared, (attention_keys_kernel<T, D, ROWS, STEP, TO_K, TO_V>), z,
                  data_of<T>(a->q), data_of<T>(a->k), data_of<T>(a->v), data_of<T>(a->grad_out), p->saved,
                  data_of<T>(a->grad_k), data_of<T>(a->grad_v), p->part_k, p->part_v,
                  p->pictures * z.M * z.stride);
}

template <typename T, int D> static Status backward_to_queries(const Attention *a, const BackwardPlan *p)
{
    constexpr int ROWS = BackwardTile<T, D>::rows, STEP = BackwardTile<T, D>::step;
    const HeadSizes z = p->sizes;
    const dim3 grid(blocks_for(z.N, OWN), (unsigned)(p->pictures * z.heads));
    const size_t shared = backward_shared<T, D>();
    return LAUNCH(grid, dim3(TILE_THREADS), shared, (attention_queries_kernel<T, D, ROWS, STEP>), z,
                  data_of<T>(a->q), data_of<T>(a->k), data_of<T>(a->v), data_of<T>(a->grad_out), p->saved,
                  data_of<T>(a->grad_q));
}

/* Wide heads' sums of both kinds are too many for a thread's registers: a kernel for each. */
template <typename T, int D> static Status backward_of(const Attention *a, const BackwardPlan *p)
{
    if (a->grad_q)
        TRY((backward_to_queries<T, D>(a, p)));
    if constexpr (D <= 80) {
        if (a->grad_k || a->grad_v)
            TRY((backward_to_keys<T, D, true, true>(a, p)));
    } else {
        if (a->grad_k)
            TRY((backward_to_keys<T, D, true, false>(a, p)));
        if (a->grad_v)
            TRY((backward_to_keys<T, D, false, true>(a, p)));
    }
    return STATUS_OK;
}

template <typename T> static Status backward_typed(const Attention *a, const BackwardPlan *plan)
{
    WITH_TILES(T, plan->sizes.d, D, return backward_of<T, D>(a, plan));
}

Status attention_backward_tiles(const Attention *a, const BackwardPlan *plan)
{
    Status s = STATUS_OK;
    WITH_FLOAT(a->q->dtype, T, s = backward_typed<T>(a, plan));
    return s;
}
