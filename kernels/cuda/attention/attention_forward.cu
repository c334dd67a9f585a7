/* Attention's forward on tensor cores (FlashAttention-2: Dao 2023), 16-bit tensors, or f32 in TF32; f32 sums.
 *
 *     block   one head of one picture and 64 TALL queries; 4 warps of 16 TALL queries each
 *     loop    over tiles of KEYS keys, in two buffers: while one is computed with, the next is copied
 *
 *               KEYS keys          shared memory, rows of LD elements (attention_tiles.h)
 *             +----------+         +---------+---------+
 *     warp 0  | s    s   |         | k KEYS  | v KEYS  |  tiles 0, 2, ...
 *     warp 1  |          |         +---------+---------+
 *     warp 2  |          |         | k       | v       |  tiles 1, 3, ...; before them q, which goes to
 *     warp 3  |          |         +---------+---------+  operand A's registers; after them the result
 *             +----------+
 *
 * A lane holds of each score row two neighbours every 8 columns (mma.h). Running maximum m and sum l as in
 * kernels/cpu/attention/attention.c: s = c q k^T;  m' = max(m, max s);  p = 2^(s - m');  l = l 2^(m-m') + Σp;
 * o = o 2^(m-m') + p v. p goes from registers to registers; l is a lane's own part until the end. Where no
 * row's maximum moved, o is left alone, which is so for most tiles. The last tile is walked 16 keys at a
 * time: 77 keys take 64 + 16.
 *
 * Each product of a warp reads 256 bytes of shared memory with 16 queries, 128 with 32 (TALL 2): an A100
 * multiplies as fast as it reads 256. Half as many blocks fill the last round of a grid less well, so which
 * it is, is worked out for each grid (forward_cost). Registers, shared memory, and the blocks of 4 warps that
 * a processor of 7.5, 8.0, 8.6 and 8.9, 9.0 holds by both:
 *
 *     D   TALL  KEYS  registers  KB     blocks
 *     40   1     64   118-138    20     3 4 4 4
 *     40   2     48   164-168    17.5   3 3 3 3
 *     64   1     32   125-134    18     3 4 4 3
 *     64   2     48   208-230    31.5   2 2 2 2
 *     80   1     32   137-150    22     2 3 3 3
 *    128   1     32   182-199    34     1 2 2 2
 *    160   1     32   212-234    42     1 2 2 2
 *     f32: 40   1, 2  32   105, 156   22, 33    - 4 4 4, - 3 2 3
 *          64   1, 2  32   130, 218   34, 51    - 3 2 3, - 2 1 2
 *          80   1     32   146        42          - 3 2 3 */
#include "kernels/cuda/base/families.h"
#include "attention_tiles.h"

/* What a warp carries from tile to tile. */
template <typename T, int D, int TALL> struct Running {
    Left<T, D> q[TALL];
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

/* The running softmax of one row (of 16: lane/4, or the one 8 below); s becomes p. Returns what the sums of
 * before are to be multiplied by. The maximum may step over a NaN; its exponential does not, and once l is
 * NaN it stays so. Infinities make NaN as well (infinity less itself). */
template <int KEYS>
__device__ static inline float soften_row(float (&s)[KEYS / 8][4], int below, float &m, float &l, float c)
{
    float largest = s[0][2 * below], sum = 0;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
        largest = fmaxf(largest, fmaxf(s[j][2 * below], s[j][2 * below + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(EVERY_LANE, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(EVERY_LANE, largest, 2));
    const float now = fmaxf(m, largest * c), keep = exp2_fast(m - now);
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = 2 * below; e < 2 * below + 2; e++) {
            s[j][e] = exp2_fast(fmaf(s[j][e], c, -now));
            sum += s[j][e];
        }
    m = now;
    l = fmaf(l, keep, sum);
    return keep;
}

template <int D> __device__ static inline void scale_row(float (&o)[D / 8][4], int below, float keep)
{
    if (keep != 1)
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            o[j][2 * below] *= keep;
            o[j][2 * below + 1] *= keep;
        }
}

/* KEYS keys from `key` on, whose rows are given, for a warp's queries from `query` on. */
template <typename T, int D, int TALL, int KEYS>
__device__ static inline void forward_keys(Running<T, D, TALL> &r, const T *k_rows, const T *v_rows, int key,
                                           int query, const HeadSizes &z)
{
    float s[TALL][KEYS / 8][4] = {};
    Weights<T, TALL, KEYS> p;
    tile_scores<T, D, TALL, KEYS>(s, r.q, k_rows);
    if (key + KEYS > z.M || (z.causal && key + KEYS - 1 > query))
        hide_keys<TALL, KEYS>(s, key, query, z);
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int below = 0; below < 2; below++)
            scale_row<D>(r.o[m], below, soften_row<KEYS>(s[m], below, r.m[m][below], r.l[m][below], z.c));
    as_left<T, TALL, KEYS>(p, s);
    tile_combine<T, D, TALL, KEYS>(r.o, p, v_rows);
}

/* What out is made of: out = inverse o, lse = (m + log2 l) ln 2; `rows` of the warp's queries exist. lse
 * NULL: it is another block's. */
template <int TALL>
__device__ static inline void finish_rows(float (&inverse)[TALL][2], const float (*m)[2], const float (*l)[2],
                                          float *lse, int rows)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < TALL; i++)
#pragma unroll
        for (int below = 0; below < 2; below++) {
            float sum = l[i][below];
            sum += __shfl_xor_sync(EVERY_LANE, sum, 1);
            sum += __shfl_xor_sync(EVERY_LANE, sum, 2);
            inverse[i][below] = 1.0f / sum;
            const int row = i * 16 + below * 8 + lane / 4;
            if (lse && lane % 4 == 0 && row < rows)
                lse[row] = (m[i][below] + log2f(sum)) * LN_2;
        }
}

template <typename T, int D, int TALL, int KEYS>
__global__ static void __launch_bounds__(TILE_THREADS, D <= 40 ? 3 : 2)
    attention_forward_kernel(HeadSizes z, const T *q, const T *k, const T *v, T *out, float *lse)
{
    constexpr int QUERIES = TILE_WARPS * 16 * TALL, LD = Row<T, D>::ld;
    SHARED(T, tiles);
    T *const q_rows = tiles + 2 * KEYS * LD; /* until tile 1, and again at the end */
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

    Running<T, D, TALL> r = {};
#pragma unroll
    for (int m = 0; m < TALL; m++) {
        r.m[m][0] = r.m[m][1] = -INFINITY; /* all scores so: NaN, as 0 / 0 */
        load_left<T, D>(r.q[m], q_rows + (own + m * 16) * LD);
    }
    __syncthreads();
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
    if (query >= z.N)
        return;
    float inverse[TALL][2];
    finish_rows<TALL>(inverse, r.m, r.l, lse + (int64_t)blockIdx.y * z.N + query, z.N - query);
    store_rows<T, D, TALL>(out + at_q + own * z.stride, z.stride, z.N - query, z.d, r.o, inverse,
                           q_rows + own * LD);
}

/* blocks: that a processor holds, or most do, by registers. */
template <typename T, int D, int TALL> struct ForwardTile {
    static constexpr int queries = TILE_WARPS * 16 * TALL;
    static constexpr int keys = sizeof(T) == 4 ? 32 : D <= 40 && TALL == 1 ? 64 : TALL == 2 ? 48 : 32;
    static constexpr int rows = 2 * keys + (queries > 2 * keys ? queries : 2 * keys);
    static constexpr int blocks = TALL == 1 ? 4 : D <= 40 ? 3 : 2;
    static constexpr size_t bytes = sizeof(T) * Row<T, D>::ld * rows;
};

/* Time of a grid in some unit: its rounds, times what a processor does in one. Computed, not measured: where
 * products are as fast as shared memory TALL 2 does the same in four fifths, elsewhere in little less. */
template <typename T, int D, int TALL> static int64_t forward_cost(const HeadSizes &z, int64_t heads)
{
    typedef ForwardTile<T, D, TALL> Tile;
    const CudaCard *card = cuda_card();
    const bool fast = card->major == 9 || card->major == 10 || (card->major == 8 && card->minor == 0);
    const int64_t fit = (fast ? 160 : 96) * 1024 / Tile::bytes;
    const int64_t blocks = fit < Tile::blocks ? fit : Tile::blocks;
    const int64_t rounds = blocks_for(blocks_for(z.N, Tile::queries) * heads, blocks * card->processors);
    return rounds * blocks * Tile::queries * (TALL == 1 ? 100 : fast ? 80 : 95);
}

template <typename T, int D, int TALL> static Status forward_with(const Attention *a, const HeadSizes &z)
{
    typedef ForwardTile<T, D, TALL> Tile;
    const dim3 grid(blocks_for(z.N, Tile::queries), (unsigned)(a->q->shape[0] * z.heads));
    return LAUNCH(grid, dim3(TILE_THREADS), Tile::bytes, (attention_forward_kernel<T, D, TALL, Tile::keys>),
                  z, (const T *)a->q->data, (const T *)a->k->data, (const T *)a->v->data, (T *)a->out->data,
                  (float *)a->lse->data);
}

template <typename T, int D> static Status forward_of(const Attention *a)
{
    const HeadSizes z = attention_sizes(a);
    const int64_t heads = a->q->shape[0] * z.heads;
    if constexpr (D <= 64)
        if (forward_cost<T, D, 2>(z, heads) < forward_cost<T, D, 1>(z, heads))
            return forward_with<T, D, 2>(a, z);
    return forward_with<T, D, 1>(a, z);
}

/* Wide heads ------------------------------------------------------------------------------------------- */

/* Heads of more columns than there are tiles for (the VAE's one of 512), of which neither the queries nor the
 * sums fit. A block makes PART columns of the result for 64 queries, and the scores from all columns: of
 * 512, 1.5 times the arithmetic, of f32 twice. Rows are taken by chunks of 128 bytes, copied one ahead:
 *
 *     for each tile of 64 keys    s += q k^T for each chunk of all columns      buffers: q chunk | k chunk
 *                                 softmax
 *                                 o += p v for each chunk of the part           buffers: v chunk
 *
 * Two buffers of two chunks, 36 KB; o takes 128 registers of a thread, of f32 96 (its copies take more), s
 * 32. */
#define CHUNK 64                                               /* rows */
template <typename T> constexpr int COLUMNS = 128 / sizeof(T); /* of a chunk */
template <typename T> constexpr int PART = sizeof(T) == 4 ? 192 : 256;

/* Of one block: where its head begins in q and in k and v, its first query, and the part's first column. */
typedef struct WideBlock {
    int64_t at_q, at_k;
    int first, part, chunks;
} WideBlock;

/* Queues the copy of step `step` of the tile of keys from `key` on: chunks of k and q, then those of v. */
template <typename T>
__device__ static inline void copy_wide(T *to, const T *q, const T *k, const T *v, const WideBlock &b,
                                        int key, int step, const HeadSizes &z)
{
    constexpr int WIDTH = COLUMNS<T>;
    const int column = step < b.chunks ? step * WIDTH : b.part + (step - b.chunks) * WIDTH;
    const T *from = (step < b.chunks ? k : v) + b.at_k + key * z.stride + column;
    copy_rows<T, WIDTH, CHUNK>(to, from, z.stride, z.M - key, z.d - column);
    if (step < b.chunks)
        copy_rows<T, WIDTH, CHUNK>(to + CHUNK * Row<T, WIDTH>::ld, q + b.at_q + b.first * z.stride + column,
                                   z.stride, z.N - b.first, z.d - column);
    copy_async_commit();
}

template <typename T>
__global__ static void __launch_bounds__(TILE_THREADS, 2)
    attention_wide_kernel(HeadSizes z, int parts, const T *q, const T *k, const T *v, T *out, float *lse)
{
    constexpr int WIDTH = COLUMNS<T>, LD = Row<T, WIDTH>::ld, LAST = PART<T> / WIDTH;
    SHARED(T, buffers); /* two of two chunks */
    const int own = (int)threadIdx.x / WARP * 16;
    const int64_t picture = blockIdx.y / z.heads, column = (int64_t)(blockIdx.y % z.heads) * z.d;
    const WideBlock b = {picture * z.N * z.stride + column, picture * z.M * z.stride + column,
                         (int)(blockIdx.x / parts) * CHUNK, (int)(blockIdx.x % parts) * PART<T>,
                         (z.d + WIDTH - 1) / WIDTH};
    const int query = b.first + own, end = z.causal ? min(z.M, b.first + CHUNK) : z.M;
    float o[LAST][1][WIDTH / 8][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {};
    int turn = 0; /* the buffer of the running step */
    copy_wide<T>(buffers, q, k, v, b, 0, 0, z);
    for (int key = 0; key < end; key += CHUNK) {
        float s[1][CHUNK / 8][4] = {};
        Weights<T, 1, CHUNK> p;
        for (int step = 0; step < b.chunks; step++, turn ^= 1) {
            copy_async_wait<0>();
            __syncthreads();
            copy_wide<T>(buffers + (turn ^ 1) * 2 * CHUNK * LD, q, k, v, b, key, step + 1, z);
            const T *rows = buffers + turn * 2 * CHUNK * LD;
            Left<T, WIDTH> left[1];
            load_left<T, WIDTH>(left[0], rows + (CHUNK + own) * LD);
            tile_scores<T, WIDTH, 1, CHUNK>(s, left, rows);
        }
        if (key + CHUNK > z.M || (z.causal && key + CHUNK - 1 > query))
            hide_keys<1, CHUNK>(s, key, query, z);
#pragma unroll
        for (int below = 0; below < 2; below++) {
            const float keep = soften_row<CHUNK>(s[0], below, m[below], l[below], z.c);
#pragma unroll
            for (int i = 0; i < LAST; i++)
                scale_row<WIDTH>(o[i][0], below, keep);
        }
        as_left<T, 1, CHUNK>(p, s);
#pragma unroll
        for (int i = 0; i < LAST; i++, turn ^= 1) {
            copy_async_wait<0>();
            __syncthreads();
            if (i + 1 < LAST)
                copy_wide<T>(buffers + (turn ^ 1) * 2 * CHUNK * LD, q, k, v, b, key, b.chunks + i + 1, z);
            else if (key + CHUNK < end)
                copy_wide<T>(buffers + (turn ^ 1) * 2 * CHUNK * LD, q, k, v, b, key + CHUNK, 0, z);
            tile_combine<T, WIDTH, 1, CHUNK>(o[i], p, buffers + turn * 2 * CHUNK * LD);
        }
    }
    __syncthreads();
    float inverse[1][2];
    finish_rows<1>(inverse, &m, &l, b.part == 0 ? lse + (int64_t)blockIdx.y * z.N + query : NULL,
                   z.N - query);
#pragma unroll
    for (int i = 0; i < LAST; i++) {
        const int from = b.part + i * WIDTH;
        store_rows<T, WIDTH, 1>(out + b.at_q + query * z.stride + from, z.stride, z.N - query, z.d - from,
                                o[i], inverse, buffers + own * LD);
    }
}

template <typename T> static Status forward_wide(const Attention *a)
{
    const HeadSizes z = attention_sizes(a);
    const unsigned parts = blocks_for(z.d, PART<T>);
    const dim3 grid(blocks_for(z.N, CHUNK) * parts, (unsigned)(a->q->shape[0] * z.heads));
    const size_t shared = sizeof(T) * 4 * CHUNK * Row<T, COLUMNS<T>>::ld;
    return LAUNCH(grid, dim3(TILE_THREADS), shared, attention_wide_kernel<T>, z, (int)parts,
                  (const T *)a->q->data, (const T *)a->k->data, (const T *)a->v->data, (T *)a->out->data,
                  (float *)a->lse->data);
}

template <typename T> static Status forward_typed(const Attention *a)
{
    const int64_t d = a->q->shape[2] / a->heads;
    if (d > Element<T>::widest)
        return forward_wide<T>(a);
    WITH_TILES(T, d, D, return forward_of<T, D>(a));
}

Status attention_forward_tiles(const Attention *a)
{
    Status s = STATUS_OK;
    WITH_FLOAT(a->q->dtype, T, s = forward_typed<T>(a));
    return s;
}
