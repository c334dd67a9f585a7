/* Attention without the score matrix (Rabe & Staats 2021; Dao et al. 2022); the arithmetic is described in
 * kernels/cpu/attention/attention.c, the way on tensor cores in attention_forward.cu and
 * attention_backward.cu. Here: the table, the choice, what the backward's two ways share, and the way for any
 * types and any head size, in f32.
 *
 *     block   one head of one picture, TILE tokens of one side as rows; 16 × 16 threads
 *     loop    over tiles of TILE tokens of the other side
 *
 *              column tx + 16 j    scores (TILE,TILE), a thread 4 rows by 4 columns: DEPTH columns of both
 *            +-----------------+   sides' rows at a time lie in shared memory, turned, so that a thread reads
 *     row    | .   .   .   .   |   its four rows as 16 bytes and its four columns as 16 bytes, for 16
 *     4 ty+i | .   .   .   .   |   products (columns are stored in the order 0 16 32 48 1 17 … for that)
 *            | .   .   .   .   |
 *            +-----------------+   sums (TILE,16 WIDE), a thread 4 rows by WIDE columns tx + 16 w: weights
 * lie in shared memory, turned; SOME tokens at a time come beside them
 *
 * Heads wider than 16 WIDE are cut into parts, a block each, which make the same scores: the VAE's 512 in f32
 * are two parts of 256, 1.5 times the arithmetic. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"
#include "attention.h"

#include "kernels/floats.h"

#include <math.h>

#define TILE 64
#define DEPTH 16
#define LD (TILE + 4) /* of turned tiles: their 16-byte rows begin in different banks */
#define SIDE 16       /* threads of a block: SIDE × SIDE */
#define WIDEST 16

/* Tokens whose columns lie beside the weights, and what that takes, or what DEPTH columns of scores take. */
template <int WIDE> struct AnyTile {
    static constexpr int some = WIDE <= 5 ? 32 : 16, columns = 16 * WIDE;
    static constexpr int room = some * columns > 2 * DEPTH *LD ? some *columns : 2 * DEPTH *LD;
    static constexpr size_t shared = (room + TILE * LD) * sizeof(float);
};

HeadSizes attention_sizes(const Attention *a)
{
    HeadSizes z = {};
    z.stride = a->q->shape[2];
    z.N = (int)a->q->shape[1];
    z.M = (int)a->k->shape[1];
    z.padded = (z.N + SAVED_QUERIES - 1) / SAVED_QUERIES * SAVED_QUERIES;
    z.heads = a->heads;
    z.d = (int)z.stride / a->heads;
    z.causal = a->causal;
    z.scale = 1.0f / sqrtf((float)z.d);
    z.c = z.scale * LOG2_E;
    z.range = z.padded;
    return z;
}

/* Floats of any floating type -------------------------------------------------------------------------- */

/* In kernels that are for f32 alone the type is known when they are compiled. */
template <bool F32> __device__ static inline Floats known(Floats x)
{
    if (F32)
        x.type = DTYPE_F32;
    return x;
}

/* Rows of one head: the first's first element, and how many there are from there on. */
typedef struct Rows {
    Floats x;
    int64_t at;
    int count;
} Rows;

__device__ static inline Rows rows_of(Floats x, int tokens, int first, const HeadSizes &z)
{
    const int64_t picture = blockIdx.y / z.heads, column = (int64_t)(blockIdx.y % z.heads) * z.d;
    return {x, (picture * tokens + first) * z.stride + column, tokens - first};
}

/* Tiles ------------------------------------------------------------------------------------------------- */

/* DEPTH columns from `column` on of TILE rows, turned: to[c*LD + i] is row i, or with SPREAD row i/4 + 16
 * (i%4). What there is not is 0. */
template <bool SPREAD>
__device__ static inline void load_turned(float *to, Rows r, int column, const HeadSizes &z)
{
    static_assert(DEPTH * TILE == 4 * SIDE * SIDE, "four numbers for each thread");
    const int c = threadIdx.x % DEPTH, four = (int)threadIdx.x / DEPTH, here = column + c;
    float4 x;
    float *const part = &x.x;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = SPREAD ? four + 16 * i : four * 4 + i;
        part[i] = row < r.count && here < z.d ? load_one(r.x, r.at + row * z.stride + here) : 0;
    }
    *(float4 *)(to + c * LD + four * 4) = x;
}

/* s[i][j] = Σ x row 4 ty + i, y row tx + 16 j. room: 2 DEPTH LD floats. */
__device__ static inline void tile_scores(float (&s)[4][4], Rows x, Rows y, float *room, const HeadSizes &z)
{
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < 16; i++)
        s[i / 4][i % 4] = 0;
    for (int column = 0; column < z.d; column += DEPTH) {
        __syncthreads(); /* the room may still be read */
        load_turned<false>(room, x, column, z);
        load_turned<true>(room + DEPTH * LD, y, column, z);
        __syncthreads();
        const int depth = min(DEPTH, z.d - column);
#pragma unroll 4
        for (int c = 0; c < depth; c++) {
            const float4 a = *(const float4 *)(room + c * LD + ty * 4);
            const float4 b = *(const float4 *)(room + (DEPTH + c) * LD + tx * 4);
            const float rows[] = {a.x, a.y, a.z, a.w}, columns[] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 16; i++)
                s[i / 4][i % 4] = fmaf(rows[i / 4], columns[i % 4], s[i / 4][i % 4]);
        }
    }
}

/* s to shared memory, turned: weights[column*LD + row]. */
__device__ static inline void put_weights(float *weights, const float (&s)[4][4])
{
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    __syncthreads(); /* those before may still be read */
#pragma unroll
    for (int j = 0; j < 4; j++)
        *(float4 *)(weights + (tx + 16 * j) * LD + ty * 4) = make_float4(s[0][j], s[1][j], s[2][j], s[3][j]);
}

/* o[i][w] += Σ weights (row 4 ty + i) y (column first + tx + 16 w), over y's tokens. room: SOME 16 WIDE
 * floats. */
template <int WIDE>
__device__ static inline void tile_combine(float (&o)[4][WIDE], const float *weights, Rows y, int first,
                                           float *room, const HeadSizes &z)
{
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE, tokens = min(TILE, y.count);
    constexpr int SOME = AnyTile<WIDE>::some, COLUMNS = AnyTile<WIDE>::columns;
    for (int token = 0; token < tokens; token += SOME) {
        __syncthreads(); /* the room may still be read */
        for (int i = threadIdx.x; i < SOME * COLUMNS; i += SIDE * SIDE) {
            const int t = token + i / COLUMNS, column = first + i % COLUMNS;
            room[i] = t < tokens && column < z.d ? load_one(y.x, y.at + t * z.stride + column) : 0;
        }
        __syncthreads();
#pragma unroll 4
        for (int t = 0; t < SOME; t++) {
            const float4 a = *(const float4 *)(weights + (token + t) * LD + ty * 4);
            const float rows[] = {a.x, a.y, a.z, a.w};
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                const float b = room[t * COLUMNS + tx + 16 * w];
#pragma unroll
                for (int i = 0; i < 4; i++)
                    o[i][w] = fmaf(rows[i], b, o[i][w]);
            }
        }
    }
}

/* o times factor[row] to the columns from `first` on of rows. */
template <int WIDE>
__device__ static inline void put_rows(Rows r, int first, const float (&o)[4][WIDE], const float (&factor)[4],
                                       const HeadSizes &z)
{
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int w = 0; w < WIDE; w++)
            if (ty * 4 + i < r.count && first + tx + 16 * w < z.d)
                store_one(r.x, r.at + (ty * 4 + i) * z.stride + first + tx + 16 * w, o[i][w] * factor[i]);
}

/* Where a block stands: its tile of rows and its part of the columns. */
#define FIRST_ROW ((int)(blockIdx.x / parts) * TILE)
#define FIRST_COLUMN ((int)(blockIdx.x % parts) * 16 * WIDE)

/* Forward ----------------------------------------------------------------------------------------------- */

__device__ static inline bool meets(int query, int key, const HeadSizes &z)
{
    return key < z.M && (!z.causal || key <= query);
}

/* Of the 16 threads that share four rows, in one order. */
__device__ static inline float row_max(float x)
{
    for (int apart = SIDE / 2; apart > 0; apart /= 2)
        x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, apart));
    return x;
}
__device__ static inline float row_sum(float x)
{
    for (int apart = SIDE / 2; apart > 0; apart /= 2)
        x += __shfl_xor_sync(EVERY_LANE, x, apart);
    return x;
}

/* The running softmax: s becomes p, m and l follow, and o. The maximum may step over a NaN; its exponential
 * does not, and once l is NaN it stays so. */
template <int WIDE>
__device__ static inline void soften(float (&s)[4][4], float (&o)[4][WIDE], float (&m)[4], float (&l)[4],
                                     int query, int key, const HeadSizes &z)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float largest = -INFINITY, sum = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (!meets(query + i, key + 16 * j, z))
                s[i][j] = -INFINITY;
            largest = fmaxf(largest, s[i][j]);
        }
        const float now = fmaxf(m[i], row_max(largest) * z.c), keep = exp2f(m[i] - now);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = exp2f(fmaf(s[i][j], z.c, -now));
            sum += s[i][j];
        }
        m[i] = now;
        l[i] = fmaf(l[i], keep, sum);
#pragma unroll
        for (int w = 0; w < WIDE; w++)
            o[i][w] *= keep;
    }
}

template <int WIDE, bool F32>
__global__ static void __launch_bounds__(SIDE *SIDE, WIDE <= 5 ? 2 : 1)
    attention_any_kernel(HeadSizes z, int parts, Floats q, Floats k, Floats v, Floats out, float *lse)
{
    SHARED(float, room);
    q = known<F32>(q), k = known<F32>(k), v = known<F32>(v), out = known<F32>(out);
    float *const weights = room + AnyTile<WIDE>::room;
    const int first = FIRST_ROW, column = FIRST_COLUMN;
    const int tx = threadIdx.x % SIDE, query = first + (int)threadIdx.x / SIDE * 4;
    const int end = z.causal ? min(z.M, first + TILE) : z.M;
    float o[4][WIDE] = {}, l[4] = {}, m[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, s[4][4],
          inverse[4];
    for (int key = 0; key < end; key += TILE) {
        tile_scores(s, rows_of(q, z.N, first, z), rows_of(k, z.M, key, z), room, z);
        soften<WIDE>(s, o, m, l, query, key + tx, z);
        put_weights(weights, s);
        tile_combine<WIDE>(o, weights, rows_of(v, z.M, key, z), column, room, z);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float sum = row_sum(l[i]);
        inverse[i] = 1.0f / sum;
        if (tx == 0 && column == 0 && query + i < z.N)
            lse[(int64_t)blockIdx.y * z.N + query + i] = (m[i] + log2f(sum)) * LN_2;
    }
    put_rows<WIDE>(rows_of(out, z.N, first, z), column, o, inverse, z);
}

/* Runs the statements with WIDE so that 16 WIDE is the head's width where that is at most 256, and little
 * more, and with F32 where f32 is all there is; other types come with odd sizes, and less often. */
#define WITH_HEAD_WIDTH(f32, d, WIDE, F32, ...)                                                              \
    do {                                                                                                     \
        if (!(f32)) {                                                                                        \
            constexpr bool F32 = false;                                                                      \
            if ((d) <= 80) {                                                                                 \
                constexpr int WIDE = 5;                                                                      \
                __VA_ARGS__;                                                                                 \
            } else {                                                                                         \
                constexpr int WIDE = WIDEST;                                                                 \
                __VA_ARGS__;                                                                                 \
            }                                                                                                \
        } else {                                                                                             \
            constexpr bool F32 = true;                                                                       \
            if ((d) <= 16) {                                                                                 \
                constexpr int WIDE = 1;                                                                      \
                __VA_ARGS__;                                                                                 \
            } else if ((d) <= 48) {                                                                          \
                constexpr int WIDE = 3;                                                                      \
                __VA_ARGS__;                                                                                 \
            } else if ((d) <= 80) {                                                                          \
                constexpr int WIDE = 5;                                                                      \
                __VA_ARGS__;                                                                                 \
            } else if ((d) <= 160) {                                                                         \
                constexpr int WIDE = 10;                                                                     \
                __VA_ARGS__;                                                                                 \
            } else {                                                                                         \
                constexpr int WIDE = WIDEST;                                                                 \
                __VA_ARGS__;                                                                                 \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

static bool is_f32(const Tensor *t)
{
    return !t || t->dtype == DTYPE_F32;
}

static bool all_f32(const Attention *a)
{
    return is_f32(a->q) && is_f32(a->k) && is_f32(a->v) && is_f32(a->out) && is_f32(a->grad_out) &&
           is_f32(a->grad_q) && is_f32(a->grad_k) && is_f32(a->grad_v);
}

template <int WIDE, bool F32> static Status attention_any(const Attention *a)
{
    const HeadSizes z = attention_sizes(a);
    const unsigned parts = blocks_for(z.d, 16 * WIDE);
    const dim3 grid(blocks_for(z.N, TILE) * parts, (unsigned)(a->q->shape[0] * z.heads));
    return LAUNCH(grid, dim3(SIDE * SIDE), AnyTile<WIDE>::shared, (attention_any_kernel<WIDE, F32>), z,
                  (int)parts, floats_of(a->q), floats_of(a->k), floats_of(a->v), floats_of(a->out),
                  (float *)a->lse->data);
}

static Status cuda_attention_scratch(const Attention *a, size_t *bytes)
{
    (void)a;
    *bytes = 0;
    return STATUS_OK;
}

/* Rows lie on 16 bytes. */
static bool lies_well(const Tensor *t, DType type)
{
    return !t || (t->dtype == type && (uintptr_t)t->data % 16 == 0);
}

bool attention_fits_tiles(const Attention *a)
{
    const DType type = a->q->dtype;
    const bool f32 = type == DTYPE_F32;
    const int64_t d = a->q->shape[2] / a->heads, widest = f32 ? TILES_WIDEST_F32 : TILES_WIDEST;
    return (!f32 || a->tf32) && d % 8 == 0 && (d <= widest || !a->grad_out) && lies_well(a->q, type) &&
           lies_well(a->k, type) && lies_well(a->v, type) && lies_well(a->out, type) &&
           lies_well(a->grad_out, type) && lies_well(a->grad_q, type) && lies_well(a->grad_k, type) &&
           lies_well(a->grad_v, type);
}

static Status cuda_attention(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out);
    (void)scratch;
    if (attention_fits_tiles(a))
        return attention_forward_tiles(a);
    WITH_HEAD_WIDTH(all_f32(a), a->q->shape[2] / a->heads, WIDE, F32, return (attention_any<WIDE, F32>(a)));
}

/* Backward ---------------------------------------------------------------------------------------------- */

/* A warp for each query of each head. */
__global__ static void save_queries_kernel(HeadSizes z, Floats out, Floats grad_out, const float *lse,
                                           SavedQuery *saved)
{
    const int query = (int)(blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP), lane = threadIdx.x % WARP;
    SavedQuery s = {INFINITY, 0};
    if (query < z.N) {
        const int64_t at = rows_of(out, z.N, query, z).at;
        float sum = 0;
        for (int i = lane; i < z.d; i += WARP)
            sum = fmaf(load_one(out, at + i), load_one(grad_out, at + i), sum);
        s.D = warp_sum(sum);
        s.lse = lse[(int64_t)blockIdx.y * z.N + query] * LOG2_E;
    }
    if (lane == 0)
        saved[(int64_t)blockIdx.y * z.padded + query] = s;
}

/* s becomes p and dp becomes ds; a score is of query query + i down and key key + 16 j across, or with BY_KEY
 * the other way round. */
template <bool BY_KEY>
__device__ static inline void weigh(float (&s)[4][4], float (&dp)[4][4], const SavedQuery *saved, int row,
                                    int column, const HeadSizes &z)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int query = BY_KEY ? column + 16 * j : row + i, key = BY_KEY ? row + i : column + 16 * j;
            const SavedQuery q = saved[query];
            s[i][j] = meets(query, key, z) ? exp2f(fmaf(s[i][j], z.c, -q.lse)) : 0;
            dp[i][j] = s[i][j] * (dp[i][j] - q.D);
        }
}

/* grad q of a tile of queries: walks over keys. */
template <int WIDE, bool F32>
__global__ static void __launch_bounds__(SIDE *SIDE, WIDE <= 5 ? 2 : 1)
    queries_any_kernel(HeadSizes z, int parts, Floats q, Floats k, Floats v, Floats grad_out,
                       const SavedQuery *saved, Floats grad_q)
{
    SHARED(float, room);
    q = known<F32>(q), k = known<F32>(k), v = known<F32>(v);
    grad_out = known<F32>(grad_out), grad_q = known<F32>(grad_q);
    float *const weights = room + AnyTile<WIDE>::room;
    const int first = FIRST_ROW, column = FIRST_COLUMN;
    const int tx = threadIdx.x % SIDE, query = first + (int)threadIdx.x / SIDE * 4;
    const int end = z.causal ? min(z.M, first + TILE) : z.M;
    const float factor[4] = {z.scale, z.scale, z.scale, z.scale};
    float dq[4][WIDE] = {}, s[4][4], dp[4][4];
    saved += (int64_t)blockIdx.y * z.padded;
    for (int key = 0; key < end; key += TILE) {
        tile_scores(s, rows_of(q, z.N, first, z), rows_of(k, z.M, key, z), room, z);
        tile_scores(dp, rows_of(grad_out, z.N, first, z), rows_of(v, z.M, key, z), room, z);
        weigh<false>(s, dp, saved, query, key + tx, z);
        put_weights(weights, dp);
        tile_combine<WIDE>(dq, weights, rows_of(k, z.M, key, z), column, room, z);
    }
    put_rows<WIDE>(rows_of(grad_q, z.N, first, z), column, dq, factor, z);
}

/* grad k and grad v of a tile of keys: walks over queries. Or the f32 parts of one range of queries, `part`
 * elements apart. */
template <int WIDE, bool F32>
__global__ static void __launch_bounds__(SIDE *SIDE, WIDE <= 3 ? 2 : 1)
    keys_any_kernel(HeadSizes z, int parts, Floats q, Floats k, Floats v, Floats grad_out,
                    const SavedQuery *saved, Floats grad_k, Floats grad_v, int64_t part)
{
    SHARED(float, room);
    q = known<F32>(q), k = known<F32>(k), v = known<F32>(v);
    grad_out = known<F32>(grad_out), grad_k = known<F32>(grad_k), grad_v = known<F32>(grad_v);
    float *const weights = room + AnyTile<WIDE>::room;
    const int first = FIRST_ROW, column = FIRST_COLUMN;
    const int tx = threadIdx.x % SIDE, key = first + (int)threadIdx.x / SIDE * 4;
    const int begin = blockIdx.z * z.range, end = min(z.N, begin + z.range);
    const float factor[4] = {z.scale, z.scale, z.scale, z.scale}, one[4] = {1, 1, 1, 1};
    float dk[4][WIDE] = {}, dv[4][WIDE] = {}, s[4][4], dp[4][4];
    saved += (int64_t)blockIdx.y * z.padded;
    for (int query = z.causal ? max(begin, first) : begin; query < end; query += TILE) {
        tile_scores(s, rows_of(k, z.M, first, z), rows_of(q, z.N, query, z), room, z);
        tile_scores(dp, rows_of(v, z.M, first, z), rows_of(grad_out, z.N, query, z), room, z);
        weigh<true>(s, dp, saved, key, query + tx, z);
        put_weights(weights, s);
        tile_combine<WIDE>(dv, weights, rows_of(grad_out, z.N, query, z), column, room, z);
        put_weights(weights, dp);
        tile_combine<WIDE>(dk, weights, rows_of(q, z.N, query, z), column, room, z);
    }
    Rows to = rows_of(grad_k, z.M, first, z);
    to.at += blockIdx.z * part;
    if (grad_k.data)
        put_rows<WIDE>(to, column, dk, factor, z);
    to.x = grad_v;
    if (grad_v.data)
        put_rows<WIDE>(to, column, dv, one, z);
}

/* to = the sum of the ranges' parts, range by range. */
__global__ static void sum_parts_kernel(const float *parts, int64_t count, int ranges, Floats to)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float sum = parts[i];
    for (int r = 1; r < ranges; r++)
        sum += parts[r * count + i];
    store_one(to, i, sum);
}

static Floats part_of(float *part, const Tensor *grad)
{
    Floats n = floats_of(grad);
    if (part) {
        n.data = grad ? part : NULL;
        n.type = DTYPE_F32;
    }
    return n;
}

template <int WIDE, bool F32> static Status backward_any(const Attention *a, const BackwardPlan *p)
{
    const HeadSizes z = p->sizes;
    const int parts = (int)blocks_for(z.d, 16 * WIDE);
    const Floats q = floats_of(a->q), k = floats_of(a->k), v = floats_of(a->v), g = floats_of(a->grad_out);
    const unsigned heads = (unsigned)(p->pictures * z.heads);
    const SavedQuery *saved = p->saved;
    if (a->grad_q)
        TRY(LAUNCH(dim3(blocks_for(z.N, TILE) * (unsigned)parts, heads), dim3(SIDE * SIDE),
                   AnyTile<WIDE>::shared, (queries_any_kernel<WIDE, F32>), z, parts, q, k, v, g, saved,
                   floats_of(a->grad_q)));
    if (a->grad_k || a->grad_v)
        TRY(LAUNCH(dim3(blocks_for(z.M, TILE) * (unsigned)parts, heads, (unsigned)p->ranges),
                   dim3(SIDE * SIDE), AnyTile<WIDE>::shared, (keys_any_kernel<WIDE, F32>), z, parts, q, k, v,
                   g, saved, part_of(p->part_k, a->grad_k), part_of(p->part_v, a->grad_v),
                   p->pictures * z.M * z.stride));
    return STATUS_OK;
}

/* Ranges of queries for the gradients of keys and values: so many that four blocks come on each processor, of
 * at least RANGE_LEAST queries. Where there are as many without, or nearly, one. */
#define RANGE_LEAST 128

static BackwardPlan plan_of(const Attention *a)
{
    BackwardPlan p = {};
    p.sizes = attention_sizes(a);
    p.pictures = (int)a->q->shape[0];
    const int64_t blocks = (int64_t)blocks_for(p.sizes.M, TILE) * p.pictures * p.sizes.heads;
    const int64_t wanted = 4 * (int64_t)cuda_card()->processors, most = p.sizes.padded / RANGE_LEAST;
    int64_t ranges = 2 * blocks > wanted ? 1 : wanted / blocks;
    ranges = ranges < most ? ranges : most;
    p.sizes.range = (int)((most + ranges - 1) / ranges) * RANGE_LEAST;
    p.ranges = (int)blocks_for(p.sizes.N, p.sizes.range);
    return p;
}

static size_t saved_bytes(const BackwardPlan *p)
{
    return sizeof(SavedQuery) * (size_t)p->pictures * (size_t)p->sizes.heads * (size_t)p->sizes.padded;
}

static size_t part_bytes(const BackwardPlan *p)
{
    const size_t elements = (size_t)p->pictures * (size_t)p->sizes.M * (size_t)p->sizes.stride;
    return p->ranges == 1 ? 0 : aligned_bytes((size_t)p->ranges * elements * sizeof(float));
}

static Status cuda_attention_backward_scratch(const Attention *a, size_t *bytes)
{
    const BackwardPlan p = plan_of(a);
    *bytes = saved_bytes(&p) + 2 * part_bytes(&p);
    return STATUS_OK;
}

static Status sum_parts(const BackwardPlan *p, const float *parts, const Tensor *to)
{
    const int64_t count = p->pictures * p->sizes.M * p->sizes.stride;
    if (!parts || !to)
        return STATUS_OK;
    return LAUNCH(dim3(blocks_for(count, 256)), dim3(256), 0, sum_parts_kernel, parts, count, p->ranges,
                  floats_of(to));
}

static Status cuda_attention_backward(const Attention *a, void *scratch)
{
    FLOATS_ONLY(a->q, a->k, a->v, a->out, a->grad_out, a->grad_q, a->grad_k, a->grad_v);
    BackwardPlan p = plan_of(a);
    p.saved = (SavedQuery *)scratch;
    if (p.ranges > 1) {
        p.part_k = (float *)((char *)scratch + saved_bytes(&p));
        p.part_v = p.part_k + part_bytes(&p) / sizeof(float);
    }
    TRY(LAUNCH(dim3(blocks_for(p.sizes.padded, 8), (unsigned)(p.pictures * p.sizes.heads)), dim3(8 * WARP), 0,
               save_queries_kernel, p.sizes, floats_of(a->out), floats_of(a->grad_out),
               (const float *)a->lse->data, p.saved));
    if (attention_fits_tiles(a))
        TRY(attention_backward_tiles(a, &p));
    else
        WITH_HEAD_WIDTH(all_f32(a), p.sizes.d, WIDE, F32, TRY((backward_any<WIDE, F32>(a, &p))));
    TRY(sum_parts(&p, p.part_k, a->grad_k));
    return sum_parts(&p, p.part_v, a->grad_v);
}

extern "C" void cuda_attention_table(Device *d)
{
    d->attention_scratch = cuda_attention_scratch;
    d->attention = cuda_attention;
    d->attention_backward_scratch = cuda_attention_backward_scratch;
    d->attention_backward = cuda_attention_backward;
}
