/* Convolutions in f32 without tensor cores: what is stored in f32, and mixtures of types that no 16-bit
 * product takes. The same walk (conv.h) by tiles of 128 × 64 outputs:
 *
 *                   64 columns                  128 threads, each 8 × 8 outputs in registers: rows 4·(t/8) …
 * and ┌────┬────┐  B (16,64)          64 on, columns 4·(t%8) … and 32 on. A step is 16 of the depth; its
 *               └────┴────┘                     operands lie depth by depth in shared memory, so that a
 * thread ┌──┐   ┌────┬────┐                     reads its 8 + 8 floats of a depth as four float4 for 64 │A │
 * │    │    │ 64 rows             multiply-adds: the 4 rows of threads of a warp read one float4 │  │
 * ├────┼────┤                     each (broadcast), its 8 columns of threads 128 bytes together, └──┘   │ │
 * │ 64 rows             no conflicts. Step k + 1 is read into registers before the (16,128) └────┴────┘
 * products of k and stored after them, into the other half.
 *
 * Forward: A is the source, thread t copies 16 channels of row t; B the form. Gradient of the weight: A is
 * grad y (128 of K), B the source (64 of C), of 16 pixels, already depth by depth. WIDE: f32 in whole float4.
 * With 24 KB of shared memory and 128 registers (167) a multiprocessor holds 4 (3) blocks of 4 warps. */
#include "kernels/cuda/base/families.h"
#include "conv.h"

enum { PLAIN_M = 128, PLAIN_N = 64, PLAIN_DEPTH = 16, PLAIN_THREADS = 128 };
enum { PLAIN_STAGE = (PLAIN_M + PLAIN_N) * PLAIN_DEPTH }; /* floats */

/* 4 neighbours from element i on; those from `count` on are zeros. WIDE: all or none count. */
template <bool WIDE>
__device__ static inline float4 read_four(const void *p, int type, int64_t i, int64_t count)
{
    if (WIDE)
        return count > 0 ? *(const float4 *)((const float *)p + i) : make_float4(0, 0, 0, 0);
    return make_float4(count > 0 ? read_float(p, type, i) : 0, count > 1 ? read_float(p, type, i + 1) : 0,
                       count > 2 ? read_float(p, type, i + 2) : 0,
                       count > 3 ? read_float(p, type, i + 3) : 0);
}

__device__ static inline void multiply_plain(float d[8][8], const float *stage)
{
    const float *a = stage + threadIdx.x / 8 * 4, *b = stage + PLAIN_M * PLAIN_DEPTH + threadIdx.x % 8 * 4;
#pragma unroll
    for (int k = 0; k < PLAIN_DEPTH; k++) {
        const float4 a0 = *(const float4 *)(a + k * PLAIN_M), a1 = *(const float4 *)(a + k * PLAIN_M + 64),
                     b0 = *(const float4 *)(b + k * PLAIN_N), b1 = *(const float4 *)(b + k * PLAIN_N + 32);
        const float x[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w},
                    y[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 8; j++)
                d[i][j] = fmaf(x[i], y[j], d[i][j]);
    }
}

/* The row and column of a thread's outputs in the tile. */
__device__ static inline int plain_row(int i)
{
    return (int)threadIdx.x / 8 * 4 + i % 4 + i / 4 * 64;
}
__device__ static inline int plain_column(int run)
{
    return (int)threadIdx.x % 8 * 4 + run * 32;
}

/* Forward and gradient of the input --------------------------------------------------------------------- */

typedef struct PlainWindow {
    int64_t window,
        weights;      /* elements: where this thread's row of A begins in the source, of B in the form */
    unsigned inside;  /* bit u: row u of the window is; bit 16 + v: column v */
    bool weight;      /* there is such a row of B */
    int tap, u, v, c; /* of the next step */
} PlainWindow;

__device__ static inline PlainWindow plain_window(const ConvWalk &w, const ConvClass &k, int64_t row,
                                                  int64_t column, int step)
{
    PlainWindow p;
    const int64_t at = row + threadIdx.x, n = column + threadIdx.x % PLAIN_N,
                  taps = k.rows.taps * k.columns.taps;
    p.inside = 0, p.window = 0;
    if (at < w.pictures * k.rows.count * k.columns.count) {
        const Pixel o = pixel_of(k, (int)at);
        const int y = o.r * w.step + k.rows.start, x = o.s * w.step + k.columns.start;
        p.window = ((o.picture * w.H + y) * w.W + x) * w.C;
        for (int u = 0; u < k.rows.taps; u++)
            p.inside |= (unsigned)(y + u >= 0 && y + u < w.H) << u;
        for (int v = 0; v < k.columns.taps; v++)
            p.inside |= (unsigned)(x + v >= 0 && x + v < w.W) << (16 + v);
    }
    p.weight = n < w.N;
    p.weights = (w.N * k.first_tap + n * taps) * w.padded + threadIdx.x / PLAIN_N * (PLAIN_DEPTH / 2);
    const int steps = (int)((w.C + PLAIN_DEPTH - 1) / PLAIN_DEPTH); /* of a tap */
    p.tap = step / steps, p.c = step % steps * PLAIN_DEPTH;
    p.u = p.tap / k.columns.taps, p.v = p.tap % k.columns.taps;
    return p;
}

/* A thread's share of a step, on its way to shared memory. */
typedef struct PlainHeld {
    float4 a[4], b[2];
} PlainHeld;

template <bool WIDE>
__device__ static inline void read_windows(PlainHeld &h, PlainWindow &p, const ConvWalk &w,
                                           const ConvClass &k)
{
    const bool valid = p.inside >> p.u & p.inside >> (16 + p.v) & 1;
    const int64_t at = p.window + ((int64_t)p.u * w.W + p.v) * w.C + p.c;
#pragma unroll
    for (int i = 0; i < 4; i++)
        h.a[i] = read_four<WIDE>(w.source, w.source_type, at + i * 4, valid ? w.C - p.c - i * 4 : 0);
    const float *form = (const float *)w.form + p.weights + p.tap * w.padded + p.c;
    const int64_t left = w.padded - p.c - threadIdx.x / PLAIN_N * (PLAIN_DEPTH / 2);
#pragma unroll
    for (int i = 0; i < 2; i++)
        h.b[i] = read_four<true>(form, DTYPE_F32, i * 4, p.weight ? left - i * 4 : 0);
    p.c += PLAIN_DEPTH;
    if (p.c >= w.C) {
        p.c = 0, p.tap++, p.v++;
        if (p.v == k.columns.taps)
            p.v = 0, p.u++;
    }
}

/* To depth by depth: neighbouring threads store neighbouring rows. */
__device__ static inline void store_windows(const PlainHeld &h, float *stage)
{
    float *a = stage + threadIdx.x, *b = stage + PLAIN_M * PLAIN_DEPTH + threadIdx.x % PLAIN_N +
                                         threadIdx.x / PLAIN_N * (PLAIN_DEPTH / 2) * PLAIN_N;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        a[(i * 4 + 0) * PLAIN_M] = h.a[i].x, a[(i * 4 + 1) * PLAIN_M] = h.a[i].y;
        a[(i * 4 + 2) * PLAIN_M] = h.a[i].z, a[(i * 4 + 3) * PLAIN_M] = h.a[i].w;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        b[(i * 4 + 0) * PLAIN_N] = h.b[i].x, b[(i * 4 + 1) * PLAIN_N] = h.b[i].y;
        b[(i * 4 + 2) * PLAIN_N] = h.b[i].z, b[(i * 4 + 3) * PLAIN_N] = h.b[i].w;
    }
}

/* Grid: x tiles, those of a row of D beside each other; y parts of the depth; z classes. */
template <bool WIDE, typename Y>
__global__ static void __launch_bounds__(PLAIN_THREADS) plain_window_kernel(ConvWalk w)
{
    SHARED(float, shared);
    const ConvClass &k = w.of[blockIdx.z];
    const int across = (int)((w.N + PLAIN_N - 1) / PLAIN_N);
    const int64_t row = (int64_t)(blockIdx.x / across) * PLAIN_M,
                  column = (int64_t)(blockIdx.x % across) * PLAIN_N;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    if (row >= rows)
        return;
    const int all = k.rows.taps * k.columns.taps * (int)((w.C + PLAIN_DEPTH - 1) / PLAIN_DEPTH);
    const int each = (all + w.splits - 1) / w.splits, first = (int)blockIdx.y * each;
    const int last = first + each < all ? first + each : all;
    PlainWindow p = plain_window(w, k, row, column, first);
    PlainHeld held;
    float d[8][8] = {};
    if (first < last) {
        read_windows<WIDE>(held, p, w, k);
        store_windows(held, shared);
    }
    __syncthreads();
    for (int i = first; i < last; i++) {
        if (i + 1 < last)
            read_windows<WIDE>(held, p, w, k);
        multiply_plain(d, shared + (i - first) % 2 * PLAIN_STAGE);
        if (i + 1 < last)
            store_windows(held, shared + (i - first + 1) % 2 * PLAIN_STAGE);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int run = 0; run < 2; run++) {
            const int64_t r = row + plain_row(i), n = column + plain_column(run);
            if (r < rows && n < w.N)
                end_columns<Y, 4>(w, output_at(w, k, r), n, (int)blockIdx.y, d[i] + run * 4);
        }
}

/* As many parts of the depth as give each multiprocessor four blocks. */
static int splits_for(int64_t blocks, int64_t steps)
{
    const int64_t wanted = (4 * (int64_t)cuda_card()->processors + blocks - 1) / blocks,
                  most = (steps + 7) / 8;
    const int64_t splits = wanted < most ? wanted : most;
    return splits < 1 ? 1 : splits > 16 ? 16 : (int)splits;
}

static int64_t plain_tiles(const ConvWalk *w)
{
    return (int64_t)blocks_for(most_class_rows(w), PLAIN_M) * blocks_for(w->N, PLAIN_N);
}

int conv_plain_splits(const ConvWalk *w)
{
    return splits_for(plain_tiles(w) * w->classes, most_taps(w) * ((w->C + PLAIN_DEPTH - 1) / PLAIN_DEPTH));
}

Status conv_plain(const ConvWalk *w)
{
    const dim3 grid((unsigned)plain_tiles(w), (unsigned)w->splits, (unsigned)w->classes),
        block(PLAIN_THREADS);
    const size_t shared = 2 * PLAIN_STAGE * sizeof(float);
    const bool wide = w->source_type == DTYPE_F32 && w->C % 4 == 0 && (uintptr_t)w->source % 16 == 0;
    Status s = STATUS_OK;
    if (wide && w->end.y_type == DTYPE_F32)
        s = LAUNCH(grid, block, shared, (plain_window_kernel<true, float>), *w);
    else
        WITH_FLOAT(w->end.y_type, Y, s = LAUNCH(grid, block, shared, (plain_window_kernel<false, Y>), *w));
    TRY(s);
    return w->splits > 1 ? conv_finish(w) : STATUS_OK;
}

/* Gradient of the weight -------------------------------------------------------------------------------- */

/* The pixels that this thread reads of a step, of grad y every 4th, of the source every 8th. */
typedef struct PlainPixels {
    Pixel a[4], b[2], by;
    int left_a, left_b; /* pixels from the first of them on */
    int64_t k, c;       /* its channels */
    int u, v;           /* start of the window + tap */
} PlainPixels;

template <bool WIDE>
__device__ static inline void read_pixels(PlainHeld &h, PlainPixels &p, const WeightWalk &g,
                                          const ConvClass &of)
{
    const ConvWalk &w = g.w;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const Pixel &o = p.a[i];
        const int64_t at = (o.picture * w.out_H + of.rows.place + o.r * w.spread) * w.out_W +
                           of.columns.place + o.s * w.spread;
        h.a[i] = read_four<WIDE>(g.grad_y, g.grad_y_type, at * w.N + p.k, i * 4 < p.left_a ? w.N - p.k : 0);
        pixel_add(p.a[i], p.by, of);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const Pixel &o = p.b[i];
        const int y = o.r * w.step + p.u, x = o.s * w.step + p.v;
        const bool valid = i * 8 < p.left_b && y >= 0 && y < w.H && x >= 0 && x < w.W;
        const int64_t at = (o.picture * w.H + y) * w.W + x;
        h.b[i] = read_four<WIDE>(w.source, w.source_type, at * w.C + p.c, valid ? w.C - p.c : 0);
        pixel_add(p.b[i], p.by, of);
    }
    p.left_a -= PLAIN_DEPTH, p.left_b -= PLAIN_DEPTH;
}

__device__ static inline void store_pixels(const PlainHeld &h, float *stage)
{
    const int t = (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < 4; i++)
        *(float4 *)(stage + (t / 32 + i * 4) * PLAIN_M + t % 32 * 4) = h.a[i];
#pragma unroll
    for (int i = 0; i < 2; i++)
        *(float4 *)(stage + PLAIN_M * PLAIN_DEPTH + (t / 16 + i * 8) * PLAIN_N + t % 16 * 4) = h.b[i];
}

/* Grid: x tiles of K, then of C, then taps; y parts of the depth; z classes. */
template <bool WIDE> __global__ static void __launch_bounds__(PLAIN_THREADS) plain_weight_kernel(WeightWalk g)
{
    SHARED(float, shared);
    const ConvWalk &w = g.w;
    const ConvClass &of = w.of[blockIdx.z];
    const int tiles_k = (int)((w.N + PLAIN_M - 1) / PLAIN_M),
              tiles = tiles_k * (int)((w.C + PLAIN_N - 1) / PLAIN_N);
    const int tap = (int)blockIdx.x / tiles, tile = (int)blockIdx.x % tiles, t = (int)threadIdx.x;
    const int row = tile % tiles_k * PLAIN_M, column = tile / tiles_k * PLAIN_N;
    const int pixels = (int)w.pictures * of.rows.count * of.columns.count;
    const int all = (pixels + PLAIN_DEPTH - 1) / PLAIN_DEPTH, each = (all + w.splits - 1) / w.splits;
    const int first = (int)blockIdx.y * each, last = first + each < all ? first + each : all;
    if (tap >= of.rows.taps * of.columns.taps)
        return;
    PlainPixels p;
#pragma unroll
    for (int i = 0; i < 4; i++)
        p.a[i] = pixel_of(of, first * PLAIN_DEPTH + t / 32 + i * 4);
#pragma unroll
    for (int i = 0; i < 2; i++)
        p.b[i] = pixel_of(of, first * PLAIN_DEPTH + t / 16 + i * 8);
    p.by = pixel_of(of, PLAIN_DEPTH);
    p.left_a = pixels - first * PLAIN_DEPTH - t / 32, p.left_b = pixels - first * PLAIN_DEPTH - t / 16;
    p.k = row + t % 32 * 4, p.c = column + t % 16 * 4;
    p.u = of.rows.start + tap / of.columns.taps, p.v = of.columns.start + tap % of.columns.taps;
    PlainHeld held;
    float d[8][8] = {};
    if (first < last) {
        read_pixels<WIDE>(held, p, g, of);
        store_pixels(held, shared);
    }
    __syncthreads();
    for (int i = first; i < last; i++) {
        if (i + 1 < last)
            read_pixels<WIDE>(held, p, g, of);
        multiply_plain(d, shared + (i - first) % 2 * PLAIN_STAGE);
        if (i + 1 < last)
            store_pixels(held, shared + (i - first + 1) % 2 * PLAIN_STAGE);
        __syncthreads();
    }
    float *parts = g.parts + ((int64_t)blockIdx.y * w.N * w.all_taps + of.first_tap + tap) * w.C;
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const int64_t k = row + plain_row(i), c = column + plain_column(j / 4) + j % 4;
            if (k < w.N && c < w.C)
                parts[k * w.all_taps * w.C + c] = d[i][j];
        }
}

static int64_t weight_tiles(const WeightWalk *g)
{
    return (int64_t)blocks_for(g->w.N, PLAIN_M) * blocks_for(g->w.C, PLAIN_N) * most_taps(&g->w);
}

int conv_weight_plain_splits(const WeightWalk *g)
{
    return splits_for(weight_tiles(g) * g->w.classes,
                      (most_class_rows(&g->w) + PLAIN_DEPTH - 1) / PLAIN_DEPTH);
}

Status conv_weight_plain(const WeightWalk *g)
{
    const ConvWalk *w = &g->w;
    const dim3 grid((unsigned)weight_tiles(g), (unsigned)w->splits, (unsigned)w->classes),
        block(PLAIN_THREADS);
    const size_t shared = 2 * PLAIN_STAGE * sizeof(float);
    const bool wide = w->source_type == DTYPE_F32 && g->grad_y_type == DTYPE_F32 && w->C % 4 == 0 &&
                      w->N % 4 == 0 && (uintptr_t)w->source % 16 == 0 && (uintptr_t)g->grad_y % 16 == 0;
    return wide ? LAUNCH(grid, block, shared, plain_weight_kernel<true>, *g)
                : LAUNCH(grid, block, shared, plain_weight_kernel<false>, *g);
}
