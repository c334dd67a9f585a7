/* Convolution and its input gradient as implicit products on the tensor cores (conv.h says how both are a
 * walk).
 *
 * D (pixels of a class, N) = source (pixels, taps·C) form (N, taps·C)^T by the tiles of tile.h. Nothing is
 * laid out in memory: a thread copies one 16-byte chunk (8 channels) of some rows of the tile, remembers for
 * each where its pixel's window begins and which rows and columns of the window lie inside of the source, and
 * adds the same delta for the tap and channel of the step. A step is 32 channels of one tap. Blocks beside
 * each other in the grid share pixels, those of one wave a large part of the form, so both come from the L2
 * cache.
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
 * Small maps do not fill the card: the depth is cut into parts (grid's y), each part's sums go to scratch
 * memory, and finish_kernel adds them in order and does what the end of a tile does. Channels that are no
 * multiple of 8 (latents, pictures) go 8 at a time, the last filled up with zeros, with one tap a chunk
 * instead of one a step. */
#include "kernels/cuda/base/families.h"
#include "conv.h"
#include "tile.h"

typedef TileShape<64, 64, 2, 2> Tile128;
typedef TileShape<32, 80, 4, 2> Tile160;
typedef TileShape<64, 32, 2, 2> Tile64;
typedef TileShape<32, 16, 4, 1> Tile16;
enum { TILE_128, TILE_160, TILE_64, TILE_16, TILE_GATHER, TILES };

/* What a thread copies: the windows of its rows of A and its rows of B, all in units of a chunk or, where it
 * gathers A, of an element. */
template <typename T, typename S, bool GATHER> struct WindowSource {
    const T *source, *form;
    int window[S::A_ROWS];      /* where its first pixel lies in the source */
    unsigned inside[S::A_ROWS]; /* bit u: row u of the window is; bit 16 + v: column v */
    int weights[S::B_ROWS];     /* where the row begins in the form, in chunks; −1: there is none */
    int C, W, padded, columns;  /* of the source; columns of the window */
    int taps, tap, u, v, c;     /* the next step: c of this thread's chunk */
    bool fours;       /* gathering: a pixel's channels are whole runs of 4, at multiples of 8 bytes */
    int delta, depth; /* from the window's beginning to the tap and channel, and so in the form */
};

/* A tap's place from its number and c. */
template <typename T, typename S> __device__ static inline void begin_tap(WindowSource<T, S, false> &s)
{
    s.delta = ((s.u * s.W + s.v) * s.C + s.c) / CHUNK;
    s.depth = (s.tap * s.padded + s.c) / CHUNK;
}

template <typename T, typename S, bool GATHER>
__device__ static inline void begin_windows(WindowSource<T, S, GATHER> &s, const ConvWalk &w,
                                            const ConvClass &k, int64_t row, int64_t column, int step)
{
    const int unit = GATHER ? 1 : CHUNK, lane = threadIdx.x / TILE_CHUNKS;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    s.source = (const T *)w.source;
    s.C = (int)w.C, s.W = (int)w.W, s.padded = (int)w.padded;
    s.columns = k.columns.taps, s.taps = k.rows.taps * k.columns.taps;
    s.form = (const T *)w.form + w.N * k.first_tap * w.padded;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const int64_t at = row + lane + i * S::LANES;
        s.inside[i] = 0, s.window[i] = 0;
        if (at >= rows)
            continue;
        const Pixel p = pixel_of(k, (int)at);
        const int y = p.r * w.step + k.rows.start, x = p.s * w.step + k.columns.start;
        s.window[i] = (int)(((p.picture * w.H + y) * w.W + x) * w.C / unit);
        for (int u = 0; u < k.rows.taps; u++)
            s.inside[i] |= (unsigned)(y + u >= 0 && y + u < w.H) << u;
        for (int v = 0; v < k.columns.taps; v++)
            s.inside[i] |= (unsigned)(x + v >= 0 && x + v < w.W) << (16 + v);
    }
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++) {
        const int64_t at = column + lane + i * S::LANES;
        const bool there = lane + i * S::LANES < S::N && at < w.N;
        s.weights[i] = there ? (int)(at * s.taps * w.padded / CHUNK) : -1;
    }
    if constexpr (GATHER) { /* steps by chunks, whatever tap they are of */
        s.depth = step * TILE_CHUNKS + threadIdx.x % TILE_CHUNKS;
        s.fours = s.C % 4 == 0 && (uintptr_t)s.source % 8 == 0;
    } else {
        const int steps = (s.padded + TILE_DEPTH - 1) / TILE_DEPTH; /* of a tap */
        s.tap = step / steps, s.c = step % steps * TILE_DEPTH + threadIdx.x % TILE_CHUNKS * CHUNK;
        s.u = s.tap / s.columns, s.v = s.tap % s.columns;
        begin_tap(s);
    }
}

/* Latents have 4 channels. */
template <typename T> __device__ static inline uint4 gather_fours(const T *from, int count)
{
    const uint2 none = make_uint2(0, 0), low = count > 0 ? *(const uint2 *)from : none,
                high = count > 4 ? *(const uint2 *)(from + 4) : none;
    return make_uint4(low.x, low.y, high.x, high.y);
}

template <typename T, typename S>
__device__ static inline void fetch_step(WindowSource<T, S, true> &s, Held<S, true> &held, T *)
{
    const int chunks = s.padded / CHUNK, tap = s.depth / chunks, c = s.depth % chunks * CHUNK;
    const int u = tap / s.columns, v = tap % s.columns;
    const int delta = (u * s.W + v) * s.C + c;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const bool valid = tap < s.taps && (s.inside[i] >> u & s.inside[i] >> (16 + v) & 1);
        const T *from = s.source + (s.window[i] + delta);
        const int count = valid ? s.C - c : 0;
        held.a[i] = s.fours ? gather_fours(from, count) : gather_chunk(from, count);
    }
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        fetch_chunk<true>(&held.b[i], NULL, s.form + (int64_t)(s.weights[i] + s.depth) * CHUNK,
                          tap < s.taps && s.weights[i] >= 0);
    s.depth += TILE_CHUNKS;
}

template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_step(WindowSource<T, S, false> &s, Held<S, STAGED> &held, T *stage)
{
    const unsigned need = 1u << s.u | 1u << (16 + s.v);
    const bool channel = s.c < s.C;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++)
        fetch_chunk<STAGED>(&held.a[i], stage + place_of<S, S::M>(i),
                            s.source + (int64_t)(s.window[i] + s.delta) * CHUNK,
                            channel && (s.inside[i] & need) == need);
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        if (place_of<S, S::N>(i) >= 0)
            fetch_chunk<STAGED>(&held.b[i], stage + S::M * TILE_DEPTH + place_of<S, S::N>(i),
                                s.form + (int64_t)(s.weights[i] + s.depth) * CHUNK,
                                channel && s.weights[i] >= 0);
    s.c += TILE_DEPTH, s.delta += TILE_CHUNKS, s.depth += TILE_CHUNKS;
    if (s.c - (int)threadIdx.x % TILE_CHUNKS * CHUNK >= s.C) {
        s.c = threadIdx.x % TILE_CHUNKS * CHUNK;
        s.tap++, s.v++;
        if (s.v == s.columns)
            s.v = 0, s.u++;
        begin_tap(s);
    }
}

template <bool GATHER> __host__ __device__ static inline int steps_of(int64_t taps, int64_t padded)
{
    const int64_t steps = GATHER ? (taps * (padded / CHUNK) + TILE_CHUNKS - 1) / TILE_CHUNKS
                                 : taps * ((padded + TILE_DEPTH - 1) / TILE_DEPTH);
    return (int)steps;
}

/* Grid: x tiles, those of a row of D beside each other; y parts of the depth; z classes. */
template <typename T, typename S, bool GATHER>
__global__ static void __launch_bounds__(S::THREADS) window_kernel(ConvWalk w)
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
            end_columns<T, 8>(w, output_at(w, k, row + r), column + n, (int)blockIdx.y, v);
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

/* The best of this tile, if it is better than the best so far: with the parts' way through memory. */
template <typename S>
static void try_tile(const ConvWalk *w, int tile, int64_t steps, Tiling *best, double *least)
{
    const double blocks = (double)blocks_for(most_class_rows(w), S::M) * blocks_for(w->N, S::N) * w->classes;
    const double outputs = (double)(w->pictures * w->out_H * w->out_W * w->N);
    for (int splits = 1; splits <= 16 && splits * 4 <= steps + 3; splits++) {
        const double parts = splits > 1 ? 3000 + cache_clocks(outputs * (8.0 * splits + 4)) : 0;
        const double clocks = tile_clocks<S>(blocks * splits, (steps + splits - 1) / splits) + parts;
        if (*least == 0 || clocks < *least) {
            *least = clocks;
            *best = (Tiling){tile, splits};
        }
    }
}

Tiling conv_tiling(const ConvWalk *w)
{
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
    ConvWalk run = *w;
    if ((uintptr_t)w->source % 16 != 0) { /* a view: its elements one by one */
        tile = TILE_GATHER;
        run.splits = 1, run.end.partial = NULL;
    }
    TRY(w->source_type == DTYPE_BF16 ? launch_tile<bf16>(&run, tile) : launch_tile<f16>(&run, tile));
    return run.splits > 1 ? conv_finish(&run) : STATUS_OK;
}
