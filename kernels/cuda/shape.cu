/* Rearranging: joining and cutting of NHWC maps, and the way from and to NCHW, which files and PyTorch use.
 * Rows go by packs; where storage types differ they are converted on the way.
 *
 * Transposing goes through shared memory, 32 channels × 64 positions at a time, so that both sides are read
 * and written along their rows. A row of the tile is one float longer than its 64 positions: a warp that
 * writes channels reads down a column, and finds each row in another bank. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"

#define THREADS 256

/* The thread's pack in rows of `packs`. */
typedef struct Place {
    int64_t row;
    unsigned column; /* of packs */
} Place;

__device__ static inline Place place_of(unsigned packs)
{
    const unsigned i = blockIdx.x * THREADS + threadIdx.x, row = i / packs;
    return Place{row, i - row * packs};
}

/* a (rows,C), b (rows,K) -> y (rows,C+K) */
template <typename T, int N>
__global__ static void concat_kernel(Floats a, Floats b, Floats y, int64_t rows, int C, int K)
{
    const Place p = place_of((unsigned)(C + K) / N);
    const int c = (int)p.column * N;
    float x[N];
    if (p.row >= rows)
        return;
    if (c < C)
        load<T, N>(a, p.row * C + c, x);
    else
        load<T, N>(b, p.row * K + c - C, x);
    store<T, N>(y, p.row * (C + K) + c, x);
}

static Status cuda_concat(const Tensor *a, const Tensor *b, Tensor *y)
{
    FLOATS_ONLY(a, b, y);
    const int64_t rows = tensor_rows(y), C = tensor_dim(a, -1), K = tensor_dim(b, -1);
    WITH_PACKS(is_packed(a, C) && is_packed(b, K) && is_packed(y, C + K),
               a->dtype == y->dtype && b->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(dim3(blocks_for(rows * (C + K) / N, THREADS)), dim3(THREADS), 0,
                             (concat_kernel<T, N>), floats_of(a), floats_of(b), floats_of(y), rows, (int)C,
                             (int)K));
}

/* x (rows,C) -> y (rows,K): columns first … first+K-1 */
template <typename T, int N>
__global__ static void slice_kernel(Floats x, Floats y, int64_t rows, int C, int K, int first)
{
    const Place p = place_of((unsigned)K / N);
    const int c = (int)p.column * N;
    float v[N];
    if (p.row >= rows)
        return;
    load<T, N>(x, p.row * C + first + c, v);
    store<T, N>(y, p.row * K + c, v);
}

static Status cuda_slice_channels(const Tensor *x, int64_t first, Tensor *y)
{
    FLOATS_ONLY(x, y);
    const int64_t rows = tensor_rows(y), C = tensor_dim(x, -1), K = tensor_dim(y, -1);
    WITH_PACKS(is_packed(x, C) && is_packed(x, first) && is_packed(y, K), x->dtype == y->dtype, y->dtype, T,
               N,
               return LAUNCH(dim3(blocks_for(rows * K / N, THREADS)), dim3(THREADS), 0, (slice_kernel<T, N>),
                             floats_of(x), floats_of(y), rows, (int)C, (int)K, (int)first));
}

/* NCHW and NHWC ---------------------------------------------------------------------------------------- */

#define TILE_CHANNELS 32
#define TILE_POSITIONS 64
#define TILE_ROW (TILE_POSITIONS + 1)

/* nchw (B,C,P) f32 <-> nhwc (B,P,C) any; block (positions, channels, picture) */
template <bool TO_NCHW>
__global__ static void transpose_kernel(float *nchw, Floats nhwc, int64_t P, int64_t C)
{
    SHARED(float, tile); /* (TILE_CHANNELS, TILE_ROW) */
    const int64_t p0 = (int64_t)blockIdx.x * TILE_POSITIONS, c0 = (int64_t)blockIdx.y * TILE_CHANNELS;
    const int64_t b = blockIdx.z;
    const int positions = P - p0 < TILE_POSITIONS ? (int)(P - p0) : TILE_POSITIONS;
    const int channels = C - c0 < TILE_CHANNELS ? (int)(C - c0) : TILE_CHANNELS;
    float *const plane = nchw + (b * C + c0) * P + p0;
    const int64_t row = (b * P + p0) * C + c0;
    if (TO_NCHW)
        for (int e = threadIdx.x; e < channels * positions; e += THREADS) {
            const int p = e / channels, c = e - p * channels;
            tile[c * TILE_ROW + p] = load_one(nhwc, row + p * C + c);
        }
    else
        for (int e = threadIdx.x; e < channels * TILE_POSITIONS; e += THREADS) {
            const int c = e / TILE_POSITIONS, p = e % TILE_POSITIONS;
            if (p < positions)
                tile[c * TILE_ROW + p] = plane[c * P + p];
        }
    __syncthreads();
    if (TO_NCHW)
        for (int e = threadIdx.x; e < channels * TILE_POSITIONS; e += THREADS) {
            const int c = e / TILE_POSITIONS, p = e % TILE_POSITIONS;
            if (p < positions)
                plane[c * P + p] = tile[c * TILE_ROW + p];
        }
    else
        for (int e = threadIdx.x; e < channels * positions; e += THREADS) {
            const int p = e / channels, c = e - p * channels;
            store_one(nhwc, row + p * C + c, tile[c * TILE_ROW + p]);
        }
}

template <bool TO_NCHW> static Status transpose(const Tensor *nchw, const Tensor *nhwc)
{
    const int64_t C = nchw->shape[1], P = nchw->shape[2] * nchw->shape[3];
    return LAUNCH(dim3(blocks_for(P, TILE_POSITIONS), blocks_for(C, TILE_CHANNELS), (unsigned)nchw->shape[0]),
                  dim3(THREADS), TILE_CHANNELS * TILE_ROW * sizeof(float), (transpose_kernel<TO_NCHW>),
                  (float *)nchw->data, floats_of(nhwc), P, C);
}

/* x (B,C,H,W) f32 -> y (B,H,W,C) */
static Status cuda_from_nchw(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    return transpose<false>(x, y);
}

static Status cuda_to_nchw(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    return transpose<true>(y, x);
}

void cuda_shape_table(Device *d)
{
    d->concat = cuda_concat;
    d->slice_channels = cuda_slice_channels;
    d->from_nchw = cuda_from_nchw;
    d->to_nchw = cuda_to_nchw;
}
