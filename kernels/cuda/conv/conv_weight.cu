/* The gradient of a convolution's weight on the tensor cores, in parts, and the sum of the parts.
 *
 * For each tap, D (K,C) = grad y (pixels,K)^T source (pixels,C), the source's pixels being those that the tap
 * meets. Both operands come pixel by pixel, channels side by side, which is tile.h's deep order: rows of a
 * step are 32 pixels. A block has one tap and M × N of its channels; a thread copies the same chunk of some
 * pixels of a step, and goes from step to step by adding 32 pixels in (picture, row, column) with carries,
 * and what each of those adds to its places in both maps: no division, no product.
 *
 *                                                             registers   blocks of a multiprocessor
 *     128×128   2×2 warps of 64×64                               238        2
 *     64×64     2×2 warps of 32×32    C or K = 320; small layers  92        4 (8.6 8.9), 5 (8.0 9.0)
 *
 * f32 goes the same way in TF32, 16 pixels a step.
 *
 * The depth, all pixels, is cut into parts where taps and channels alone do not fill the card. Each part goes
 * to scratch memory, (splits,K,taps,C), even if it is the only one: the gradient is (K,C,kh,kw), and to add
 * to it tap by tap would move each of its sectors nine times. weight_finish_kernel adds the parts in order
 * and turns taps and channels in shared memory. */
#include "kernels/cuda/base/families.h"
#include "conv.h"
#include "tile.h"

typedef TileShape<64, 64, 2, 2, true> Deep128;
typedef TileShape<32, 32, 2, 2, true> Deep64;
typedef TileShape<64, 64, 2, 2, true, 2> DeepTf32;
typedef TileShape<32, 32, 2, 2, true, 2> DeepTf32Small;
enum { DEEP_128, DEEP_64 };

/* Chunks in a row of A, and of B. */
template <typename S> constexpr int ROW_CHUNKS = S::M *S::PARTS / CHUNK;

/* How a map's offset grows from one step's pixel to the next's, in chunks: always, and where the column goes
 * over the end of its row, and the row over that of its picture. */
typedef struct Growth {
    int step, row, picture;
} Growth;

/* Of a map (pictures,H,W,chunks), by `by`, one pixel of the class being `apart` of its own. */
__device__ static inline Growth growth_of(const ConvClass &k, const Pixel &by, int apart, int H, int W,
                                          int chunks)
{
    const int row = apart * W;
    return Growth{(by.picture * H * W + by.r * row + by.s * apart) * chunks,
                  (row - k.columns.count * apart) * chunks, (H * W - k.rows.count * row) * chunks};
}

/* What a thread copies: A and B are as wide, so its pixels are the same in both. */
template <typename T, typename S> struct PixelSource {
    const T *source, *grad_y;          /* at its channel */
    bool source_has, grad_has;         /* there is such a channel */
    Pixel at[S::A_ROWS], by;           /* the picture is in the offsets alone */
    int in[S::A_ROWS], out[S::A_ROWS]; /* where they begin, in chunks: at the tap in the source, in grad y */
    Growth in_grows, out_grows;
    int left; /* pixels from the thread's first one on */
    int u, v; /* start of the window + tap */
};

template <typename T, typename S>
__device__ static inline void begin_pixels(PixelSource<T, S> &s, const ConvWalk &w, const ConvClass &k,
                                           int first, int apart)
{
    const int H = (int)w.H, W = (int)w.W, out_H = (int)w.out_H, out_W = (int)w.out_W;
    s.by = pixel_of(k, S::DEEP_STEP);
    const int in_chunks = (int)(w.C * S::PARTS / CHUNK), out_chunks = (int)(w.N * S::PARTS / CHUNK);
    s.in_grows = growth_of(k, s.by, w.step, H, W, in_chunks);
    s.out_grows = growth_of(k, s.by, w.spread, out_H, out_W, out_chunks);
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const Pixel p = pixel_of(k, first + i * apart);
        s.at[i] = p;
        s.in[i] = ((p.picture * H + p.r * w.step + s.u) * W + p.s * w.step + s.v) * in_chunks;
        s.out[i] =
            ((p.picture * out_H + k.rows.place + p.r * w.spread) * out_W + k.columns.place + p.s * w.spread) *
            out_chunks;
    }
}

/* The i-th pixel of the next step, with carries instead of divisions. */
template <typename T, typename S>
__device__ static inline void next_pixel(PixelSource<T, S> &s, const ConvClass &k, int i)
{
    Pixel &p = s.at[i];
    p.s += s.by.s, p.r += s.by.r;
    s.in[i] += s.in_grows.step, s.out[i] += s.out_grows.step;
    if (p.s >= k.columns.count) {
        p.s -= k.columns.count, p.r++;
        s.in[i] += s.in_grows.row, s.out[i] += s.out_grows.row;
    }
    if (p.r >= k.rows.count) {
        p.r -= k.rows.count;
        s.in[i] += s.in_grows.picture, s.out[i] += s.out_grows.picture;
    }
}

template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_step(PixelSource<T, S> &s, const ConvWalk &w, const ConvClass &k,
                                         Held<S, STAGED> &held, T *stage)
{
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const unsigned y = (unsigned)(s.at[i].r * w.step + s.u), x = (unsigned)(s.at[i].s * w.step + s.v);
        const bool there = i * (S::THREADS / ROW_CHUNKS<S>) < s.left;
        const bool inside =
            y < (unsigned)w.H && x < (unsigned)w.W; /* before the first it is a large number */
        fetch_chunk<STAGED>(&held.a[i], stage + place_of<S, S::M>(i), s.grad_y + (int64_t)s.out[i] * CHUNK,
                            there && s.grad_has);
        fetch_chunk<STAGED>(&held.b[i], stage + S::M * TILE_DEPTH + place_of<S, S::N>(i),
                            s.source + (int64_t)s.in[i] * CHUNK, there && inside && s.source_has);
        next_pixel(s, k, i);
    }
    s.left -= S::DEEP_STEP;
}

/* multiply_tiles' source brings the walk along. */
template <typename T, typename S> struct PixelWalk {
    PixelSource<T, S> s;
    const ConvWalk &w;
    const ConvClass &k;
};
template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_step(PixelWalk<T, S> &p, Held<S, STAGED> &held, T *stage)
{
    fetch_step(p.s, p.w, p.k, held, stage);
}

/* Grid: x tiles of K, then of C, then taps, those of one tap beside each other; y parts; z classes. */
template <typename T, typename S>
__global__ static void __launch_bounds__(S::THREADS) weight_kernel(WeightWalk g)
{
    SHARED(T, shared);
    const ConvWalk &w = g.w;
    const ConvClass &k = w.of[blockIdx.z];
    const int tiles_k = (int)((w.N + S::M - 1) / S::M), tiles_c = (int)((w.C + S::N - 1) / S::N);
    const int tap = (int)blockIdx.x / (tiles_k * tiles_c), tile = (int)blockIdx.x % (tiles_k * tiles_c);
    const int row = tile % tiles_k * S::M, column = tile / tiles_k * S::N;
    const int pixels = (int)w.pictures * k.rows.count * k.columns.count;
    const int all = (pixels + S::DEEP_STEP - 1) / S::DEEP_STEP, each = (all + w.splits - 1) / w.splits;
    const int first = (int)blockIdx.y * each;
    const int steps = first >= all ? 0 : first + each < all ? each : all - first;
    if (tap >= k.rows.taps * k.columns.taps)
        return;
    constexpr int CHUNKS = ROW_CHUNKS<S>;
    const int chunk = (int)threadIdx.x % CHUNKS * (CHUNK / S::PARTS), pixel = (int)threadIdx.x / CHUNKS;
    PixelWalk<T, S> from = {{}, w, k};
    from.s.source = (const T *)w.source + (column + chunk) * S::PARTS;
    from.s.grad_y = (const T *)g.grad_y + (row + chunk) * S::PARTS;
    from.s.source_has = column + chunk < w.C, from.s.grad_has = row + chunk < w.N;
    from.s.left = pixels - first * S::DEEP_STEP - pixel;
    from.s.u = k.rows.start + tap / k.columns.taps, from.s.v = k.columns.start + tap % k.columns.taps;
    begin_pixels(from.s, w, k, first * S::DEEP_STEP + pixel, S::THREADS / CHUNKS);
    float d[S::WM / 16][S::WN / 8][4];
    multiply_tiles<false, T, S>(from, steps, d, shared);
    float *parts = g.parts + ((int64_t)blockIdx.y * w.N * w.all_taps + k.first_tap + tap) * w.C;
    end_tile<S>(d, (float *)shared, [&](int r, int n, const float *v) {
        if (row + r >= w.N || column + n >= w.C)
            return;
        float *to = parts + (int64_t)(row + r) * w.all_taps * w.C + column + n;
        *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
        *(float4 *)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
    });
}

/* The sum of the parts ---------------------------------------------------------------------------------- */

enum { FINISH_THREADS = 128, BIAS_ROWS = 8, BIAS_SLAB = 256, BIAS_SLABS_MAX = 64 };

/* grad (K,C,kh,kw) += the parts. A block: one k, `channels` of C, all elements of their windows; they are
 * turned in shared memory. Where there is a bias, the block of k's first channels adds the slabs of its sum
 * as well. */
__global__ static void weight_finish_kernel(WeightWalk g, float *grad, int channels, const float *slab_sums,
                                            int slabs, float *grad_bias)
{
    SHARED(float, turned);
    const ConvWalk &w = g.w;
    const int64_t k = blockIdx.y, first = (int64_t)blockIdx.x * channels;
    const int count = w.C - first < channels ? (int)(w.C - first) : channels, window = g.kh * g.kw;
    const int64_t part = w.N * w.all_taps * w.C;
    for (int i = (int)threadIdx.x; i < count * window; i += blockDim.x) {
        const int c = i % count, u = i / count / g.kw, v = i / count % g.kw;
        float sum = 0;
        for (int j = 0; j < w.classes; j++) {
            const ConvClass &of = w.of[j];
            for (int a = 0; a < of.rows.taps; a++)
                for (int b = 0; b < of.columns.taps; b++) {
                    if (u < of.rows.first[a] || u > of.rows.last[a] || v < of.columns.first[b] ||
                        v > of.columns.last[b])
                        continue;
                    const int tap = of.first_tap + a * of.columns.taps + b;
                    const float *from = g.parts + (k * w.all_taps + tap) * w.C + first + c;
                    for (int split = 0; split < w.splits; split++)
                        sum += from[split * part];
                }
        }
        turned[c * window + i / count] = sum;
    }
    __syncthreads();
    float *to = grad + (k * w.C + first) * window;
    for (int i = (int)threadIdx.x; i < count * window; i += blockDim.x)
        to[i] += turned[i];
    if (grad_bias && blockIdx.x == 0 && threadIdx.x < WARP) {
        float sum = 0;
        for (int i = (int)threadIdx.x; i < slabs; i += WARP)
            sum += slab_sums[i * w.N + k];
        sum = warp_sum(sum);
        if (threadIdx.x == 0)
            grad_bias[k] += sum;
    }
}

/* Sums of grad y's columns over slabs of rows: (slabs,K). A block: 32 columns, 8 rows at a time. */
template <typename T>
__global__ static void bias_slab_kernel(const T *grad_y, int64_t rows, int64_t K, int64_t slab,
                                        float *slab_sums)
{
    SHARED(float, sums);
    const int64_t k = (int64_t)blockIdx.x * WARP + threadIdx.x, first = blockIdx.y * slab;
    const int64_t last = first + slab < rows ? first + slab : rows;
    float sum = 0;
    for (int64_t i = first + threadIdx.y; k < K && i < last; i += BIAS_ROWS)
        sum += to_float(grad_y[i * K + k]);
    sums[threadIdx.y * WARP + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && k < K) {
        for (int i = 1; i < BIAS_ROWS; i++)
            sum += sums[i * WARP + threadIdx.x];
        slab_sums[blockIdx.y * K + k] = sum;
    }
}

int conv_bias_slabs(const WeightWalk *g)
{
    const int64_t rows = g->w.pictures * g->w.out_H * g->w.out_W, slabs = (rows + BIAS_SLAB - 1) / BIAS_SLAB;
    return slabs < BIAS_SLABS_MAX ? (int)slabs : BIAS_SLABS_MAX;
}

Status conv_weight_finish(const WeightWalk *g, float *grad, float *slab_sums, float *grad_bias)
{
    const ConvWalk *w = &g->w;
    const int slabs = conv_bias_slabs(g), window = g->kh * g->kw, channels = window <= 64 ? 64 : 16;
    const int64_t rows = w->pictures * w->out_H * w->out_W, slab = (rows + slabs - 1) / slabs;
    if (grad_bias) {
        const dim3 grid(blocks_for(w->N, WARP), (unsigned)slabs);
        Status s = STATUS_OK;
        WITH_FLOAT(g->grad_y_type, T,
                   s = LAUNCH(grid, dim3(WARP, BIAS_ROWS), WARP * BIAS_ROWS * sizeof(float),
                              bias_slab_kernel<T>, (const T *)g->grad_y, rows, w->N, slab, slab_sums));
        TRY(s);
    }
    return LAUNCH(dim3(blocks_for(w->C, channels), (unsigned)w->N), dim3(FINISH_THREADS),
                  (size_t)channels * window * sizeof(float), weight_finish_kernel, *g, grad, channels,
                  slab_sums, slabs, grad_bias);
}

/* Which tile -------------------------------------------------------------------------------------------- */

template <typename S>
static void try_tile(const WeightWalk *g, int tile, int64_t steps, Tiling *best, double *least)
{
    const ConvWalk *w = &g->w;
    const double blocks = (double)blocks_for(w->N, S::M) * blocks_for(w->C, S::N) * w->all_taps;
    for (int splits = 1; splits <= 32 && splits * 4 <= steps + 3; splits++) {
        const double parts = cache_clocks((double)w->N * w->all_taps * (double)w->C * 8 * splits);
        const double clocks = tile_clocks<S>(blocks * splits, (steps + splits - 1) / splits) + parts;
        if (*least == 0 || clocks < *least) {
            *least = clocks;
            *best = (Tiling){tile, splits};
        }
    }
}

Tiling conv_weight_tiling(const WeightWalk *g)
{
    const int depth = g->w.source_type == DTYPE_F32 ? DeepTf32::DEEP_STEP : Deep128::DEEP_STEP;
    const int64_t steps = (most_class_rows(&g->w) + depth - 1) / depth;
    Tiling best = {DEEP_64, 1};
    double least = 0;
    try_tile<Deep128>(g, DEEP_128, steps, &best, &least);
    try_tile<Deep64>(g, DEEP_64, steps, &best, &least);
    return best;
}

template <typename T, typename S> static Status launch_weight(const WeightWalk *g)
{
    const ConvWalk *w = &g->w;
    const unsigned tiles = blocks_for(w->N, S::M) * blocks_for(w->C, S::N) * (unsigned)most_taps(w);
    const dim3 grid(tiles, (unsigned)w->splits, (unsigned)w->classes);
    return LAUNCH(grid, dim3(S::THREADS), tile_shared<S>(cuda_card()->major < 8), (weight_kernel<T, S>), *g);
}

Status conv_weight_tensor(const WeightWalk *g, int tile)
{
    if (g->w.source_type == DTYPE_F32)
        return tile == DEEP_128 ? launch_weight<Tf32Part, DeepTf32>(g)
                                : launch_weight<Tf32Part, DeepTf32Small>(g);
    if (g->w.source_type == DTYPE_BF16)
        return tile == DEEP_128 ? launch_weight<bf16, Deep128>(g) : launch_weight<bf16, Deep64>(g);
    return tile == DEEP_128 ? launch_weight<f16, Deep128>(g) : launch_weight<f16, Deep64>(g);
}
