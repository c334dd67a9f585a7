/* Layer norm, forward and backward: rows x (N,D), the formulas of kernels/cpu/norm.c.
 *
 * A warp has a row, lane l its packs l, l + 32 …: read once, 16 bytes a lane, and kept in registers, as
 * floats, up to D = 1280; a longer row is read again for each pass, from the card's caches. A block has 8
 * rows and needs no shared memory.
 *
 * The gradients of weight and bias are sums down the columns: blocks of 32 packs' width and WEIGHT_ROWS rows,
 * whose 8 warps take every 8th row; then norm_weights.h. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"
#include "norm_weights.h"

#define WARPS 8

#define WEIGHT_ROWS 128
constexpr int KEPT = 40; /* floats of a row that a lane keeps */

typedef struct Rows {
    Floats x, w, b, dy, y; /* y: the output, or grad_x */
    float *mean, *rstd;
    int64_t N;
    int D;
    float eps;
} Rows;

/* Passes over a lane's packs of a row: r counts them, c is the column of its first element; v (N) is the pack
 * where all are kept, and else one that is filled again. */
#define EACH_PACK(keep, N, D, r, c)                                                                          \
    for (int r = 0, c = (int)threadIdx.x % WARP * N; (keep) ? r < KEPT / N : c < D; r++, c += WARP * N)

template <typename T, int N, bool KEEP> __global__ static void layer_norm_kernel(Rows s)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    float kept[KEEP ? KEPT / N : 1][N], sum = 0, squares = 0;
    if (row >= s.N)
        return;
#pragma unroll(KEEP ? KEPT / N : 1)
    EACH_PACK(KEEP, N, s.D, r, c)
    {
        float *const v = kept[KEEP ? r : 0];
        if (c < s.D)
            load<T, N>(s.x, row * s.D + c, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            sum += c < s.D ? v[j] : 0;
    }
    const float mean = warp_sum(sum) / (float)s.D;
#pragma unroll(KEEP ? KEPT / N : 1)
    EACH_PACK(KEEP, N, s.D, r, c)
    {
        float *const v = kept[KEEP ? r : 0];
        if (!KEEP)
            load<T, N>(s.x, row * s.D + c, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            squares += c < s.D ? (v[j] - mean) * (v[j] - mean) : 0;
    }
    const float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)s.D + s.eps);
    if (threadIdx.x % WARP == 0)
        s.mean[row] = mean, s.rstd[row] = rstd;
#pragma unroll(KEEP ? KEPT / N : 1)
    EACH_PACK(KEEP, N, s.D, r, c)
    {
        float *const v = kept[KEEP ? r : 0], w[N], b[N];
        if (c >= s.D)
            break;
        if (!KEEP)
            load<T, N>(s.x, row * s.D + c, v);
        load<Mixed, N>(s.w, c, w);
        load<Mixed, N>(s.b, c, b);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] = (v[j] - mean) * rstd * w[j] + b[j];
        store<T, N>(s.y, row * s.D + c, v);
    }
}

/* Runs the statements with KEEP: whether lanes can keep their part of a row, and it is worth it. */
#define WITH_KEPT(D, N, KEEP, ...)                                                                           \
    do {                                                                                                     \
        if ((D) <= KEPT * WARP) {                                                                            \
            constexpr bool KEEP = N > 1;                                                                     \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr bool KEEP = false;                                                                     \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

static Status cuda_layer_norm(const Norm *n)
{
    FLOATS_ONLY(n->x, n->w, n->b, n->y);
    Rows s = {};
    s.x = floats_of(n->x);
    s.w = floats_of(n->w);
    s.b = floats_of(n->b);
    s.y = floats_of(n->y);
    s.mean = (float *)n->mean->data;
    s.rstd = (float *)n->rstd->data;
    s.N = tensor_rows(n->x);
    s.D = (int)tensor_dim(n->x, -1);
    s.eps = n->eps;
    const bool packed =
        is_packed(n->x, s.D) && is_packed(n->y, s.D) && is_packed(n->w, s.D) && is_packed(n->b, s.D);
    WITH_PACKS(packed, n->x->dtype == n->y->dtype, n->x->dtype, T, N,
               WITH_KEPT(s.D, N, KEEP,
                         return LAUNCH(dim3(blocks_for(s.N, WARPS)), dim3(WARPS * WARP), 0,
                                       (layer_norm_kernel<T, N, KEEP>), s)));
}

/* The backward ----------------------------------------------------------------------------------------- */

/* dx = rstd (w dy - mean(w dy) - x̂ mean(w dy x̂)) */
template <typename T, int N, bool KEEP> __global__ static void layer_norm_backward_kernel(Rows s)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    float away[KEEP ? KEPT / N : 1][N], wdy[KEEP ? KEPT / N : 1][N]; /* x - mean, w dy */
    float sum = 0, product = 0;
    if (row >= s.N)
        return;
    const float mean = s.mean[row], rstd = s.rstd[row];
#pragma unroll(KEEP ? KEPT / N : 1)
    EACH_PACK(KEEP, N, s.D, r, c)
    {
        float *const d = away[KEEP ? r : 0], *const g = wdy[KEEP ? r : 0], w[N];
        if (c >= s.D)
            break;
        load<T, N>(s.x, row * s.D + c, d);
        load<T, N>(s.dy, row * s.D + c, g);
        load<Mixed, N>(s.w, c, w);
#pragma unroll
        for (int j = 0; j < N; j++) {
            d[j] -= mean;
            g[j] *= w[j];
            sum += g[j];
            product += g[j] * d[j];
        }
    }
    const float sum_mean = warp_sum(sum) / (float)s.D, slope = warp_sum(product) * rstd * rstd / (float)s.D;
#pragma unroll(KEEP ? KEPT / N : 1)
    EACH_PACK(KEEP, N, s.D, r, c)
    {
        float *const d = away[KEEP ? r : 0], *const g = wdy[KEEP ? r : 0];
        if (c >= s.D)
            break;
        if (!KEEP) {
            float w[N];
            load<T, N>(s.x, row * s.D + c, d);
            load<T, N>(s.dy, row * s.D + c, g);
            load<Mixed, N>(s.w, c, w);
#pragma unroll
            for (int j = 0; j < N; j++) {
                d[j] -= mean;
                g[j] *= w[j];
            }
        }
#pragma unroll
        for (int j = 0; j < N; j++)
            d[j] = ((g[j] - sum_mean) - d[j] * slope) * rstd;
        store<T, N>(s.y, row * s.D + c, d);
    }
}

/* partial (pieces,2,D): Σ dy x̂ and Σ dy over the block's rows; block (columns, rows) */
template <typename T, int N> __global__ static void layer_norm_weights_kernel(Rows s, float *partial)
{
    SHARED(float, room); /* (WARPS,2,N,WARP) */
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first = blockIdx.x * WARP * N, c = first + lane * N;
    const int64_t begin = (int64_t)blockIdx.y * WEIGHT_ROWS;
    const int64_t end = begin + WEIGHT_ROWS < s.N ? begin + WEIGHT_ROWS : s.N;
    float dw[N] = {}, db[N] = {};
    for (int64_t row = begin + warp; c < s.D && row < end; row += WARPS) {
        const float mean = s.mean[row], rstd = s.rstd[row];
        float x[N], dy[N];
        load<T, N>(s.x, row * s.D + c, x);
        load<T, N>(s.dy, row * s.D + c, dy);
#pragma unroll
        for (int j = 0; j < N; j++) {
            dw[j] += dy[j] * ((x[j] - mean) * rstd);
            db[j] += dy[j];
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        room[((warp * 2) * N + j) * WARP + lane] = dw[j];
        room[((warp * 2 + 1) * N + j) * WARP + lane] = db[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * N * WARP; i += WARPS * WARP) {
        const int which = i / (N * WARP), column = first + i % WARP * N + i / WARP % N;
        float sum = 0;
        for (int w = 0; w < WARPS; w++)
            sum += room[w * 2 * N * WARP + i];
        if (column < s.D)
            partial[((int64_t)blockIdx.y * 2 + which) * s.D + column] = sum;
    }
}

static int64_t weight_pieces(const Norm *n)
{
    return (tensor_rows(n->x) + WEIGHT_ROWS - 1) / WEIGHT_ROWS;
}

static Status cuda_layer_norm_backward_scratch(const Norm *n, size_t *bytes)
{
    *bytes = n->grad_w || n->grad_b ? norm_weights_bytes(weight_pieces(n), tensor_dim(n->x, -1)) : 0;
    return STATUS_OK;
}

static Status cuda_layer_norm_backward(const Norm *n, void *scratch)
{
    FLOATS_ONLY(n->x, n->w, n->grad_y, n->grad_x);
    Rows s = {};
    s.x = floats_of(n->x);
    s.w = floats_of(n->w);
    s.dy = floats_of(n->grad_y);
    s.y = floats_of(n->grad_x);
    s.mean = (float *)n->mean->data;
    s.rstd = (float *)n->rstd->data;
    s.N = tensor_rows(n->x);
    s.D = (int)tensor_dim(n->x, -1);
    const bool packed = is_packed(n->x, s.D) && is_packed(n->grad_y, s.D) && is_packed(n->grad_x, s.D) &&
                        is_packed(n->w, s.D);
    const bool alike = n->x->dtype == n->grad_y->dtype && (!n->grad_x || n->x->dtype == n->grad_x->dtype);
    if (n->grad_x)
        WITH_PACKS(packed, alike, n->x->dtype, T, N,
                   WITH_KEPT(s.D, N, KEEP,
                             TRY(LAUNCH(dim3(blocks_for(s.N, WARPS)), dim3(WARPS * WARP), 0,
                                        (layer_norm_backward_kernel<T, N, KEEP>), s))));
    if (!n->grad_w && !n->grad_b)
        return STATUS_OK;
    WITH_PACKS(packed, alike, n->x->dtype, T, N,
               TRY(LAUNCH(dim3(blocks_for(s.D, WARP * N), (unsigned)weight_pieces(n)), dim3(WARPS * WARP),
                          WARPS * 2 * N * WARP * sizeof(float), (layer_norm_weights_kernel<T, N>), s,
                          (float *)scratch)));
    return norm_weights((const float *)scratch, weight_pieces(n), s.D, n->grad_w, n->grad_b);
}

void cuda_layer_norm_table(Device *d)
{
    d->layer_norm = cuda_layer_norm;
    d->layer_norm_backward_scratch = cuda_layer_norm_backward_scratch;
    d->layer_norm_backward = cuda_layer_norm_backward;
}
