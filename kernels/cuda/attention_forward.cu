/* Attention's forward on tensor cores (FlashAttention-2: Dao 2023), 16-bit tensors, f32 sums.
 *
 *     block   one head of one picture and 64 TALL queries; 4 warps of 16 TALL queries each
 *     loop    over tiles of KEYS keys, in two buffers: while one is computed with, the next is copied behind
 * it
 *
 *                   KEYS keys             shared memory, rows of LD elements (attention_tiles.h)
 *                 +----------+            +-------------------+
 *         warp 0  | s    s   |            | q     64 TALL     |  read once, into operand A's registers;
 *         warp 1  |          |            |                   |  at the end it takes the result on its way
 * out warp 2  |          |            +---------+---------+ warp 3  |          |            | k  KEYS | v
 * KEYS |  tile 0, 2, …
 *                 +----------+            | k       | v       |  tile 1, 3, …
 *                                         +---------+---------+
 *
 * A lane holds of each score row two neighbours every 8 columns (mma.h). Running maximum m and sum l as in
 * kernels/cpu/attention.c: s = c q k^T;  m' = max(m, max s);  p = 2^(s - m');  l = l 2^(m-m') + Σp;
 * o = o 2^(m-m') + p v. p goes from registers to registers; l is a lane's own part until the end. Where no
 * row's maximum moved, o is left alone, which is so for most tiles.
 *
 * The last tile is walked 16 keys at a time: 77 keys take 64 + 16. TALL 2 halves what is read from shared
 * memory for each product and is taken where that many queries still fill the card. */
#include "attention_tiles.h"
#include "families.h"

/* What a warp carries from tile to tile. */
template <int D, int TALL> struct Running {
    Left<D> q[TALL];
    float o[TALL][D / 8][4], m[TALL][2], l[TALL][2];
};

/* -infinity to scores of keys that a query may not meet, s[..][j] being of keys key + 8j. */
template <int TALL, int KEYS>
__device__ static inline void hide_keys(float (&s)[TALL][KEYS / 8][4], int key, int query, const HeadSizes &z)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int below = 0; below < 2; below++) {
            const int row = query + m * 16 + below * 8 + lane / 4, last = z.M - 1;
            const int seen = (z.causal && row < last ? row : last) - key - lane % 4 * 2;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (j * 8 + e > seen)
                        s[m][j][2 * below + e] = -INFINITY;
        }
}

/* The running softmax of one row (of 16: lane/4, or the one 8 below); s becomes p. The maximum may step over
 * a NaN; its exponential does not, and once l is NaN it stays so. Infinities make NaN as well (infinity less
 * itself). */
template <int D, int TALL, int KEYS>
__device__ static inline void soften_row(Running<D, TALL> &r, float (&s)[KEYS / 8][4], int m, int below,
                                         float c)
{
    float largest = s[0][2 * below], sum = 0;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
        largest = fmaxf(largest, fmaxf(s[j][2 * below], s[j][2 * below + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(EVERY_LANE, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(EVERY_LANE, largest, 2));
    const float before = r.m[m][below], now = fmaxf(before, largest * c);
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = 2 * below; e < 2 * below + 2; e++) {
            s[j][e] = exp2_fast(fmaf(s[j][e], c, -now));
            sum += s[j][e];
        }
    const float keep = exp2_fast(before - now);
    r.m[m][below] = now;
    r.l[m][below] = fmaf(r.l[m][below], keep, sum);
    if (keep != 1)
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            r.o[m][j][2 * below] *= keep;
            r.o[m][j][2 * below + 1] *= keep;
        }
}

/* KEYS keys from `key` on, whose rows are given, for a warp's queries from `query` on. */
template <typename T, int D, int TALL, int KEYS>
__device__ static inline void forward_keys(Running<D, TALL> &r, const T *k_rows, const T *v_rows, int key,
                                           int query, const HeadSizes &z)
{
    float s[TALL][KEYS / 8][4] = {};
    unsigned p[TALL][KEYS / 16][4];
    tile_scores<T, D, TALL, KEYS>(s, r.q, k_rows);
    if (key + KEYS > z.M || (z.causal && key + KEYS - 1 > query))
        hide_keys<TALL, KEYS>(s, key, query, z);
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int below = 0; below < 2; below++)
            soften_row<D, TALL, KEYS>(r, s[m], m, below, z.c);
    as_left<T, TALL, KEYS>(p, s);
    tile_combine<T, D, TALL, KEYS>(r.o, p, v_rows);
}

/* out = o / l, lse = (m + log2 l) ln 2; `rows` of the warp's queries exist. */
template <typename T, int D, int TALL>
__device__ static inline void finish(Running<D, TALL> &r, T *out, float *lse, int rows, const HeadSizes &z,
                                     T *room)
{
    const int lane = threadIdx.x % WARP;
    float inverse[TALL][2];
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int below = 0; below < 2; below++) {
            float l = r.l[m][below];
            l += __shfl_xor_sync(EVERY_LANE, l, 1);
            l += __shfl_xor_sync(EVERY_LANE, l, 2);
            inverse[m][below] = 1.0f / l;
            const int row = m * 16 + below * 8 + lane / 4;
            if (lane % 4 == 0 && row < rows)
                lse[row] = (r.m[m][below] + log2f(l)) * LN_2;
        }
    store_rows<T, D, TALL>(out, z.stride, rows, z.d, r.o, inverse, room);
}

template <typename T, int D, int TALL, int KEYS>
__global__ static void __launch_bounds__(TILE_THREADS, 2)
    attention_forward_kernel(HeadSizes z, const T *q, const T *k, const T *v, T *out, float *lse)
{
    constexpr int QUERIES = TILE_WARPS * 16 * TALL, LD = Row<D>::ld;
    SHARED(T, q_rows);
    T *const tiles = q_rows + QUERIES * LD;
    const int picture = blockIdx.y / z.heads, head = blockIdx.y % z.heads, first = blockIdx.x * QUERIES;
    const int own = (int)threadIdx.x / WARP * 16 * TALL, query = first + own;
    const int64_t at_q = ((int64_t)picture * z.N + first) * z.stride + head * z.d;
    const int64_t at_k = (int64_t)picture * z.M * z.stride + head * z.d;
    const int end = z.causal ? min(z.M, first + QUERIES) : z.M;
    k += at_k;
    v += at_k;
    copy_rows<T, D, QUERIES>(q_rows, q + at_q, z.stride, z.N - first, z.d);
    copy_rows<T, D, KEYS>(tiles, k, z.stride, z.M, z.d);
    copy_rows<T, D, KEYS>(tiles + KEYS * LD, v, z.stride, z.M, z.d);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();

    Running<D, TALL> r = {};
#pragma unroll
    for (int m = 0; m < TALL; m++) {
        r.m[m][0] = r.m[m][1] = -INFINITY; /* all scores so: NaN, as 0 / 0 */
        load_left<T, D>(r.q[m], q_rows + (own + m * 16) * LD);
    }
    for (int key = 0, turn = 0; key < end; key += KEYS, turn ^= 1) {
        const T *k_rows = tiles + turn * 2 * KEYS * LD, *v_rows = k_rows + KEYS * LD;
        const int next = key + KEYS;
        if (next < end) {
            T *const to = tiles + (turn ^ 1) * 2 * KEYS * LD;
            copy_rows<T, D, KEYS>(to, k + next * z.stride, z.stride, z.M - next, z.d);
            copy_rows<T, D, KEYS>(to + KEYS * LD, v + next * z.stride, z.stride, z.M - next, z.d);
            copy_async_commit();
        }
        if (query >= z.N) { /* none of the warp's: it only copies */
        } else if (next <= end) {
            forward_keys<T, D, TALL, KEYS>(r, k_rows, v_rows, key, query, z);
        } else {
            for (int i = 0; i < end - key; i += 16)
                forward_keys<T, D, TALL, 16>(r, k_rows + i * LD, v_rows + i * LD, key + i, query, z);
        }
        copy_async_wait<0>();
        __syncthreads();
    }
    if (query < z.N)
        finish<T, D, TALL>(r, out + at_q + own * z.stride, lse + (int64_t)blockIdx.y * z.N + query,
                           z.N - query, z, q_rows + own * LD);
}

/* Tiles' sizes: two buffers of k and v beside the queries within the 64 KB of Turing. */
template <int D> struct ForwardTile {
    static constexpr int keys = D <= 64 ? 64 : 32;
};

template <typename T, int D, int TALL> static Status forward_with(const Attention *a, const HeadSizes &z)
{
    constexpr int QUERIES = TILE_WARPS * 16 * TALL, KEYS = ForwardTile<D>::keys;
    const dim3 grid(blocks_for(z.N, QUERIES), (unsigned)(a->q->shape[0] * z.heads));
    const size_t shared = sizeof(T) * Row<D>::ld * (QUERIES + 4 * KEYS);
    return LAUNCH(grid, dim3(TILE_THREADS), shared, (attention_forward_kernel<T, D, TALL, KEYS>), z,
                  (const T *)a->q->data, (const T *)a->k->data, (const T *)a->v->data, (T *)a->out->data,
                  (float *)a->lse->data);
}

template <typename T, int D> static Status forward_of(const Attention *a)
{
    const HeadSizes z = attention_sizes(a);
    if constexpr (D <= 64) {
        const int64_t blocks = blocks_for(z.N, TILE_WARPS * 32) * a->q->shape[0] * z.heads;
        if (blocks >= 2 * (int64_t)cuda_card()->processors)
            return forward_with<T, D, 2>(a, z);
    }
    return forward_with<T, D, 1>(a, z);
}

Status attention_forward_tiles(const Attention *a)
{
    if (a->q->dtype == DTYPE_BF16)
        WITH_TILES(a->q->shape[2] / a->heads, D, return forward_of<bf16, D>(a));
    WITH_TILES(a->q->shape[2] / a->heads, D, return forward_of<f16, D>(a));
}
