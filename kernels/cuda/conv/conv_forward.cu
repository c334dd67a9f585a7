/* Convolution and its input gradient as implicit products on the tensor cores (conv.h says how both are a
 * walk).
 *
 * D (pixels of a class, N) = source (pixels, taps·C) form (N, taps·C)^T by the tiles of tile.h, whose chunks
 * are fetched from where they lie (window.h). Blocks beside each other in the grid share pixels, those of one
 * wave a large part of the form, so both come from the L2 cache.
 *
 *     tile      warps          for                        registers   blocks of a multiprocessor (warps)
 *                                                                     8.6 8.9    8.0 9.0    7.5
 *     128×128   2×2 of 64×64   N = 128, 256, 512, 640, 1280      226    2 (8)      2 (8)     2 (8)
 *     128×160   4×2 of 32×80   N = 320, 960                      165    1 (8)      1 (8)     1 (8)
 *     128×64    2×2 of 64×32   small grids, gathered             124    2 (8)      4 (16)    2 (8)
 *     128×16    4×1 of 32×16   few outputs: to pictures           64    3 (12)     5 (20)    3 (12)
 *                              and latents, and their gradients
 *
 * A step of 128×128 is 64 mma a warp next to 16 ldmatrix, 8 copies and some hundred instructions for
 * addresses. On an A100 its mma take 512 clocks of the multiprocessor; of shared memory, its operands take
 * 256 and the copies 128.
 *
 * Maps of f32 are multiplied in TF32, their channels counted in parts (tile.h).
 *
 * Small maps do not fill the card: the depth is cut into parts (grid's y), each part's sums go to scratch
 * memory, and finish_kernel adds them in order and does what the end of a tile does. Channels that are no
 * multiple of 8 (latents, pictures) go 8 at a time, the last filled up with zeros, with one tap a chunk
 * instead of one a step. */
#include "kernels/cuda/base/families.h"
#include "window.h"

typedef TileShape<64, 64, 2, 2> Tile128;
typedef TileShape<32, 80, 4, 2> Tile160;
typedef TileShape<64, 32, 2, 2> Tile64;
typedef TileShape<32, 16, 4, 1> Tile16;
enum { TILE_128, TILE_160, TILE_64, TILE_16, TILE_GATHER, TILES };

/* Blocks that a processor is to hold, where the compiler would leave too few registers for what it thinks; 0:
 * as it thinks. */
template <typename T, typename S> constexpr int BLOCKS = sizeof(Number<T>) == 4 && S::N == Tile16::N ? 5 : 0;

/* Grid: x tiles, those of a row of D beside each other; y parts of the depth; z classes. */
template <typename T, typename S, bool GATHER>
__global__ static void __launch_bounds__(S::THREADS, (BLOCKS<T, S>)) window_kernel(ConvWalk w)
{
    SHARED(T, shared);
    const ConvClass &k = w.of[blockIdx.z];
    const int across = (int)((w.N + S::N - 1) / S::N);
    const int64_t row = (int64_t)(blockIdx.x / across) * S::M, column = (int64_t)(blockIdx.x % across) * S::N;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    if (row >= rows)
        return;
    const int all = steps_of<GATHER>((int64_t)k.rows.taps * k.columns.taps, w.padded);
    const int each = (all + w.splits - 1) / w.splits, first = (int)blockIdx.y * each;
    const int steps = first >= all ? 0 : first + each < all ? each : all - first;
    WindowSource<T, S, GATHER> from;
    begin_windows(from, w, k, row, column, first);
    float d[S::WM / 16][S::WN / 8][4];
    multiply_tiles<GATHER, T, S>(from, steps, d, shared);
    end_tile<S>(d, (float *)shared, [&](int r, int n, float *v) {
        if (row + r < rows && column + n < w.N)
            end_columns<Number<T>, 8>(w, output_at(w, k, row + r), column + n, (int)blockIdx.y, v);
    });
}

/* y from the parts of the depth, added in order. A thread takes 8 columns. */
template <typename T> __global__ static void finish_kernel(ConvWalk w, const float *parts)
{
    const int64_t runs = (w.N + 7) / 8, rows = w.pictures * w.out_H * w.out_W, all = rows * w.N;
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * runs)
        return;
    const OutputAt at = {i / runs, i / runs / (w.out_H * w.out_W)};
    const int64_t n = i % runs * 8;
    const float *part = parts + at.row * w.N + n;
    float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int k = 0; k < w.splits; k++, part += all) {
        if (w.N % 8 == 0) {
            const float4 low = *(const float4 *)part, high = *(const float4 *)(part + 4);
            v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
            v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (n + j < w.N)
                    v[j] += part[j];
        }
    }
    end_columns<T, 8>(w, at, n, 0, v);
}

Status conv_finish(const ConvWalk *w)
{
    ConvWalk f = *w;
    f.end.partial = NULL;
    const unsigned blocks = blocks_for(w->pictures * w->out_H * w->out_W * ((w->N + 7) / 8), 128);
    Status s = STATUS_OK;
    WITH_FLOAT(w->end.y_type, T, s = LAUNCH(dim3(blocks), dim3(128), 0, finish_kernel<T>, f, w->end.partial));
    return s;
}

/* Which tile -------------------------------------------------------------------------------------------- */

/* f32 as the tiles see it. */
static ConvWalk in_parts(const ConvWalk *w)
{
    ConvWalk parts = *w;
    if (w->source_type == DTYPE_F32)
        parts.C *= 2, parts.padded *= 2;
    return parts;
}

Tiling conv_tiling(const ConvWalk *of)
{
    const ConvWalk parts = in_parts(of), *w = &parts;
    if (w->C % CHUNK != 0)
        return (Tiling){TILE_GATHER, 1};
    const int64_t steps = steps_of<false>(most_taps(w), w->padded);
    Tiling best = {TILE_64, 1};
    double least = 0;
    if (w->N <= Tile16::N) {
        try_tile<Tile16>(w, TILE_16, steps, &best, &least);
        return best;
    }
    try_tile<Tile128>(w, TILE_128, steps, &best, &least);
    try_tile<Tile160>(w, TILE_160, steps, &best, &least);
    try_tile<Tile64>(w, TILE_64, steps, &best, &least);
    return best;
}

template <typename T, typename S, bool GATHER> static Status launch_windows(const ConvWalk *w)
{
    const unsigned tiles = blocks_for(most_class_rows(w), S::M) * blocks_for(w->N, S::N);
    const dim3 grid(tiles, (unsigned)w->splits, (unsigned)w->classes);
    const size_t shared = tile_shared<S>(GATHER || cuda_card()->major < 8);
    return LAUNCH(grid, dim3(S::THREADS), shared, (window_kernel<T, S, GATHER>), *w);
}

template <typename T> static Status launch_tile(const ConvWalk *w, int tile)
{
    switch (tile) {
    case TILE_128:
        return launch_windows<T, Tile128, false>(w);
    case TILE_160:
        return launch_windows<T, Tile160, false>(w);
    case TILE_16:
        return launch_windows<T, Tile16, false>(w);
    case TILE_GATHER:
        return launch_windows<T, Tile64, true>(w);
    default:
        return launch_windows<T, Tile64, false>(w);
    }
}

Status conv_tensor(const ConvWalk *w, int tile)
{
    ConvWalk run = in_parts(w);
    if ((uintptr_t)w->source % 16 != 0) { /* a view: its elements one by one */
        tile = TILE_GATHER;
        run.splits = 1, run.end.partial = NULL;
    }
    TRY(w->source_type == DTYPE_F32    ? launch_tile<Tf32Part>(&run, tile)
        : w->source_type == DTYPE_BF16 ? launch_tile<bf16>(&run, tile)
                                       : launch_tile<f16>(&run, tile));
    return run.splits > 1 ? conv_finish(&run) : STATUS_OK;
}
