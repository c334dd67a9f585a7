/* Products of whole numbers in 8 bits, for weights that are stored so: the numbers of kernels/cpu/int8.c,
 *
 *     x ≈ step (q − zero)      w ≈ scale v      y = step scale (Σ q v − zero Σ v) + what is added
 *
 * with a step and a zero for each row of a product's operand, and for each picture of a convolution's. Sums
 * are exact, in 32 bits, so neither tiles nor parts of the depth matter.
 *
 *     round     x to q: a warp has a row; of a map the ranges of its parts first, then q with its padding
 *               around, which is the picture's zero
 *     weights   Σ v of each row; a convolution's are turned to (K,9,C) on the way
 *     multiply  the walk of conv.h over q and v by the tiles of tile.h, two bytes counting as an element: a
 *               step is 64 bytes of one tap. A product is a window of one pixel. A tile's sums become y as a
 *               convolution's do (conv.h), or, where the depth is cut into parts, go to scratch memory, and
 *               finish adds them up
 *
 *                                                registers   blocks of a multiprocessor
 *     128×128   2×2 warps of 64×64                 219         2
 *     128×64    2×2 warps of 64×32  small grids    126         2 (8.6 8.9), 4 (8.0)
 *
 * Tensor cores multiply bytes twice as fast as halves, cards for games four times as fast as halves with f32
 * sums. Convolutions over a doubled map are left to conv.cu: their taps' sums would be rounded again. */
#include "int8.h"

#include "kernels/cuda/base/families.h"
#include "bytes.h"
#include "window.h"

#include <math.h>

typedef TileShape<64, 64, 2, 2> Tile128;
typedef TileShape<64, 32, 2, 2> Tile64;

enum { THREADS = 256, WARPS = THREADS / WARP, TAPS = 9, PIECES = 64, LEAST_ROWS = 16, UNIT = 16 };

/* Neighbours of an operand. */
typedef struct Pair {
    unsigned char at[2];
} Pair;

/* What is multiplied, as a walk whose channels are pairs, and what its sums stand for. */
typedef struct Bytes {
    ConvWalk w;
    const float *scales, *step; /* (N); of each row, or picture */
    const int *zero, *sums;     /* as step; Σ v (N) */
    int *parts;                 /* (splits,rows,N) */
    int by_row;
} Bytes;

/* Rounding ---------------------------------------------------------------------------------------------- */

/* least ≤ 0 ≤ most; odd: NaN where one of the numbers is not finite. */
typedef struct Range {
    float least, most, odd;
} Range;

__device__ static inline void widen(Range &r, float x)
{
    r.least = fminf(r.least, x);
    r.most = fmaxf(r.most, x);
    r.odd += x * 0.0f;
}
/* Of a warp, the same in each lane. */
__device__ static inline Range warp_range(Range r)
{
    return Range{-warp_max(-r.least), warp_max(r.most), warp_sum(r.odd)};
}

typedef struct Rounding {
    float step, by, zero; /* by: 1 / step */
} Rounding;

/* NaN as a step makes NaN of everything. */
__device__ static inline Rounding rounding_of(const Range &r)
{
    const float s = (r.most - r.least) * (1.0f / 255), odd = r.odd + s * 0.0f;
    const float step = s > 0 ? s + odd : 1 + odd;
    return Rounding{step, 1.0f / step, s > 0 && odd == 0 ? rintf(-r.least / s) : 0};
}

template <int N>
__device__ static inline void put_rounded(const Rounding &by, const float x[N], unsigned char *q)
{
    Neighbours<unsigned char, N> bytes;
#pragma unroll
    for (int j = 0; j < N; j++)
        bytes.at[j] = (unsigned char)(int)rintf(fminf(255, fmaxf(0, fmaf(x[j], by.by, by.zero))));
    *(Neighbours<unsigned char, N> *)q = bytes;
}

/* x (rows,k) to q; a warp has a row. */
template <typename T, int N>
__global__ static void round_rows_kernel(Floats x, int64_t rows, int64_t k, unsigned char *q, float *step,
                                         int *zero)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    Range range = {0, 0, 0};
    float v[N];
    if (row >= rows)
        return;
    for (int64_t c = lane * N; c < k; c += WARP * N) {
        load<T, N>(x, row * k + c, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            widen(range, v[j]);
    }
    const Rounding by = rounding_of(warp_range(range));
    for (int64_t c = lane * N; c < k; c += WARP * N) {
        load<T, N>(x, row * k + c, v);
        put_rounded<N>(by, v, q + row * k + c);
    }
    if (lane == 0)
        step[row] = by.step, zero[row] = (int)by.zero;
}

/* The range of each piece of each picture's n numbers: (pictures,PIECES). */
template <typename T, int N> __global__ static void map_ranges_kernel(Floats x, int64_t n, Range *ranges)
{
    SHARED(Range, room); /* one for each warp */
    Range range = {0, 0, 0};
    const int64_t first = blockIdx.y * n;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; i < n; i += PIECES * THREADS * N) {
        float v[N];
        load<T, N>(x, first + i, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            widen(range, v[j]);
    }
    range = warp_range(range);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = range;
    __syncthreads();
    if (threadIdx.x >= WARP)
        return;
    range = threadIdx.x < WARPS ? room[threadIdx.x] : Range{0, 0, 0};
    range = warp_range(range);
    if (threadIdx.x == 0)
        ranges[blockIdx.y * PIECES + blockIdx.x] = range;
}

/* A map (H,W,C) and the one with its padding around. */
typedef struct Padded {
    int H, W, C, top, left, padded_H, padded_W;
} Padded;

template <typename T, int N>
__global__ static void round_map_kernel(Floats x, Padded p, const Range *ranges, unsigned char *q,
                                        float *step, int *zero)
{
    const int picture = blockIdx.y, lane = threadIdx.x % WARP;
    const int64_t all = (int64_t)p.padded_H * p.padded_W * p.C;
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    const Range *const mine = ranges + picture * PIECES;
    Range range = {0, 0, 0};
    for (int k = lane; k < PIECES; k += WARP) {
        widen(range, mine[k].least);
        widen(range, mine[k].most);
        range.odd += mine[k].odd;
    }
    const Rounding by = rounding_of(warp_range(range));
    if (blockIdx.x == 0 && threadIdx.x == 0)
        step[picture] = by.step, zero[picture] = (int)by.zero;
    if (i >= all)
        return;
    const int pixel = (int)(i / p.C), c = (int)(i % p.C);
    const int h = pixel / p.padded_W - p.top, w = pixel % p.padded_W - p.left;
    float v[N] = {};
    if (h >= 0 && h < p.H && w >= 0 && w < p.W)
        load<T, N>(x, (((int64_t)picture * p.H + h) * p.W + w) * p.C + c, v);
    put_rounded<N>(by, v, q + picture * all + i);
}

/* Weights ----------------------------------------------------------------------------------------------- */

__device__ static inline int sum_of(const signed char *v)
{
    const Neighbours<signed char, UNIT> bytes = *(const Neighbours<signed char, UNIT> *)v;
    int sum = 0;
#pragma unroll
    for (int j = 0; j < UNIT; j++)
        sum += bytes.at[j];
    return sum;
}

/* sums (N) of v (N,k): a warp has a row. */
__global__ static void row_sums_kernel(const signed char *v, int64_t N, int64_t k, int *sums)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    int sum = 0;
    if (row >= N)
        return;
    for (int64_t c = threadIdx.x % WARP * UNIT; c < k; c += WARP * UNIT)
        sum += sum_of(v + row * k + c);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        sums[row] = sum;
}

/* v (K,C,9), or (K,9,line) in the groups of bytes.h, to form (K,9,C), and sums: a block has a row, by way of
 * shared memory. */
__global__ static void turn_windows_kernel(const signed char *v, int C, int line, bool groups,
                                           signed char *form, int *sums)
{
    SHARED(signed char, row); /* line·9, and an int for each warp */
    int *const room = (int *)(row + line * TAPS);
    const int64_t first = (int64_t)blockIdx.x * line * TAPS, to = (int64_t)blockIdx.x * C * TAPS;
    int sum = 0;
    for (int i = threadIdx.x * UNIT; i < line * TAPS; i += THREADS * UNIT) {
        *(uint4 *)(row + i) = *(const uint4 *)(v + first + i);
        sum += sum_of(row + i);
    }
    sum = block_sum(sum, room); /* with a barrier */
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
    for (int i = threadIdx.x * 4; i < C * TAPS; i += THREADS * 4) {
        const int tap = i / C, c = i % C;
        Neighbours<signed char, 4> four;
#pragma unroll
        for (int j = 0; j < 4; j++)
            four.at[j] = row[groups ? tap * line + byte_place(c + j) : (c + j) * TAPS + tap];
        *(Neighbours<signed char, 4> *)(form + to + i) = four;
    }
}

/* Multiplying ------------------------------------------------------------------------------------------- */

/* 8 columns of an output's sums, from n on, into y. */
template <typename Y>
__device__ static inline void end_sums(const Bytes &b, int64_t row, int64_t n, const int *sum)
{
    const OutputAt at = output_at(b.w, b.w.of[0], row);
    const int64_t from = b.by_row ? row : at.picture;
    const float step = b.step[from];
    const int zero = b.zero[from];
    float v[8] = {};
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (n + j < b.w.N)
            v[j] = (float)(sum[j] - zero * b.sums[n + j]) * (b.scales[n + j] * step);
    end_columns<Y, 8>(b.w, at, n, 0, v);
}

/* 8 columns of a part, of which `count` exist; fours: they begin at multiples of 16 bytes. */
__device__ static inline void put_part(int *to, int64_t count, bool fours, const int *sum)
{
    if (fours) {
#pragma unroll
        for (int j = 0; j < 8; j += 4)
            if (j < count)
                *(int4 *)(to + j) = make_int4(sum[j], sum[j + 1], sum[j + 2], sum[j + 3]);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (j < count)
                to[j] = sum[j];
    }
}

/* Grid: x tiles, those of a row of D beside each other; y parts of the depth. */
template <typename S, typename Y>
__global__ static void __launch_bounds__(S::THREADS) bytes_product_kernel(Bytes b)
{
    SHARED(Pair, shared);
    const ConvWalk &w = b.w;
    const ConvClass &k = w.of[0];
    const int across = (int)((w.N + S::N - 1) / S::N);
    const int64_t row = (int64_t)(blockIdx.x / across) * S::M, column = (int64_t)(blockIdx.x % across) * S::N;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    const int all = steps_of<false>((int64_t)k.rows.taps * k.columns.taps, w.padded);
    const int each = (all + w.splits - 1) / w.splits, first = (int)blockIdx.y * each;
    const int steps = first >= all ? 0 : first + each < all ? each : all - first;
    WindowSource<Pair, S, false> from;
    begin_windows(from, w, k, row, column, first);
    int d[S::WM / 16][S::WN / 8][4];
    multiply_tiles<false, Pair, S>(from, steps, d, shared);
    end_tile<S>(d, (int *)shared, [&](int r, int n, const int *sum) {
        const int64_t i = row + r, c = column + n;
        if (i >= rows || c >= w.N)
            return;
        if (w.splits == 1)
            end_sums<Y>(b, i, c, sum);
        else
            put_part(b.parts + ((int64_t)blockIdx.y * rows + i) * w.N + c, w.N - c, w.N % 4 == 0, sum);
    });
}

/* y from the parts of the depth. A thread takes 8 columns. */
template <typename Y> __global__ static void finish_sums_kernel(Bytes b, int64_t rows)
{
    const int64_t runs = (b.w.N + 7) / 8, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= rows * runs)
        return;
    const int64_t row = i / runs, n = i % runs * 8;
    int sum[8] = {};
    for (int k = 0; k < b.w.splits; k++)
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (n + j < b.w.N)
                sum[j] += b.parts[(k * rows + row) * b.w.N + n + j];
    end_sums<Y>(b, row, n, sum);
}

/* The host's side --------------------------------------------------------------------------------------- */

/* Scratch memory. */
typedef struct Places {
    size_t q, step, zero, ranges, form, sums, parts, all;
} Places;

typedef struct Plan {
    Bytes b;
    Padded map;
    bool large;
    Places at;
} Plan;

/* Where the next piece lies. */
static size_t place(Places *p, size_t bytes)
{
    const size_t at = p->all;
    p->all += aligned_bytes(bytes);
    return at;
}

/* The fewest clocks for this tile, and into how many parts of the depth: as of halves twice as deep. */
template <typename S> static double least_clocks(const ConvWalk *w, int64_t steps, int *splits)
{
    const double blocks = (double)blocks_for(class_rows(w, 0), S::M) * blocks_for(w->N, S::N);
    const double outputs = (double)(class_rows(w, 0) * w->N);
    double least = 0;
    for (int i = 1; i <= 16 && i * 4 <= steps + 3; i++) {
        const double parts = i > 1 ? 3000 + cache_clocks(outputs * (8.0 * i + 4)) : 0;
        const double clocks = tile_clocks<S>(blocks * i, (steps + i - 1) / i) + parts;
        if (least == 0 || clocks < least)
            least = clocks, *splits = i;
    }
    return least;
}

static void choose_tile(Plan *p)
{
    ConvWalk *w = &p->b.w;
    const int64_t steps = steps_of<false>(most_taps(w), w->padded);
    int large = 1, small = 1;
    p->large = least_clocks<Tile128>(w, steps, &large) < least_clocks<Tile64>(w, steps, &small);
    w->splits = p->large ? large : small;
}

static Side side_of(int taps, int64_t count)
{
    Side s = {};
    s.taps = taps, s.count = (int)count;
    return s;
}

static Plan plan_walk(int64_t pictures, int64_t H, int64_t W, int64_t channels, int taps, const Tensor *w,
                      int64_t out_H, int64_t out_W, int stride)
{
    Plan p = {};
    ConvWalk *walk = &p.b.w;
    walk->pictures = pictures, walk->H = H, walk->W = W;
    walk->C = walk->padded = channels / (int64_t)sizeof(Pair);
    walk->out_H = out_H, walk->out_W = out_W, walk->N = w->shape[0];
    walk->step = stride, walk->spread = 1, walk->classes = 1, walk->all_taps = taps * taps;
    walk->of[0].rows = side_of(taps, out_H), walk->of[0].columns = side_of(taps, out_W);
    p.b.by_row = taps == 1;
    choose_tile(&p);
    const int64_t rows = class_rows(walk, 0), rounded = p.b.by_row ? rows : pictures;
    p.at.q = place(&p.at, (size_t)(pictures * H * W * channels));
    p.at.step = place(&p.at, (size_t)rounded * sizeof(float));
    p.at.zero = place(&p.at, (size_t)rounded * sizeof(int));
    p.at.ranges = place(&p.at, p.b.by_row ? 0 : (size_t)(pictures * PIECES) * sizeof(Range));
    p.at.form = place(&p.at, p.b.by_row ? 0 : (size_t)tensor_count(w));
    p.at.sums = place(&p.at, (size_t)walk->N * sizeof(int));
    p.at.parts = place(&p.at, walk->splits == 1 ? 0 : (size_t)(walk->splits * rows * walk->N) * sizeof(int));
    return p;
}

static Plan plan_product(const Product *p)
{
    return plan_walk(1, 1, p->m, p->k, 1, p->b, 1, p->m, 1);
}

static Plan plan_conv(const Conv *a)
{
    const int64_t *x = a->x->shape, *y = a->y->shape;
    const ConvShape *s = &a->s;
    const int64_t H = x[1] + s->pad_top + s->pad_bottom, W = x[2] + s->pad_left + s->pad_right;
    Plan p = plan_walk(x[0], H, W, x[3], 3, a->w, y[1], y[2], s->stride);
    p.map = Padded{(int)x[1], (int)x[2], (int)x[3], s->pad_top, s->pad_left, (int)H, (int)W};
    return p;
}

/* Where everything is. */
static void settle_in(Plan *p, char *scratch, const Tensor *w)
{
    Bytes *b = &p->b;
    b->w.source = scratch + p->at.q;
    b->w.form = b->by_row ? w->data : scratch + p->at.form;
    b->scales = (const float *)w->scales->data;
    b->step = (float *)(scratch + p->at.step);
    b->zero = (int *)(scratch + p->at.zero);
    b->sums = (int *)(scratch + p->at.sums);
    b->parts = (int *)(scratch + p->at.parts);
}

template <typename S> static Status launch_bytes(const Bytes &b)
{
    const ConvWalk *w = &b.w;
    const dim3 grid(blocks_for(class_rows(w, 0), S::M) * blocks_for(w->N, S::N), (unsigned)w->splits);
    const size_t shared = tile_shared<S>(cuda_card()->major < 8);
    Status s = STATUS_OK;
    WITH_FLOAT(w->end.y_type, Y, s = LAUNCH(grid, dim3(S::THREADS), shared, (bytes_product_kernel<S, Y>), b));
    return s;
}

static Status multiply(const Plan *p)
{
    const ConvWalk *w = &p->b.w;
    const int64_t rows = class_rows(w, 0);
    TRY(p->large ? launch_bytes<Tile128>(p->b) : launch_bytes<Tile64>(p->b));
    if (w->splits == 1)
        return STATUS_OK;
    Status s = STATUS_OK;
    WITH_FLOAT(w->end.y_type, Y,
               s = LAUNCH(dim3(blocks_for(rows * ((w->N + 7) / 8), THREADS)), dim3(THREADS), 0,
                          finish_sums_kernel<Y>, p->b, rows));
    return s;
}

extern "C" size_t cuda_int8_product_scratch(const Product *p)
{
    return plan_product(p).at.all;
}

extern "C" size_t cuda_int8_conv_scratch(const Conv *a)
{
    return plan_conv(a).at.all;
}

extern "C" Status cuda_int8_product(const Product *p, void *scratch)
{
    Plan plan = plan_product(p);
    settle_in(&plan, (char *)scratch, p->b);
    Bytes *b = &plan.b;
    b->w.end = conv_ending(p->y, p->bias, NULL, p->residual);
    WITH_PACKS(is_packed(p->a, p->k), true, p->a->dtype, T, N,
               TRY(LAUNCH(dim3(blocks_for(p->m, WARPS)), dim3(THREADS), 0, (round_rows_kernel<T, N>),
                          floats_of(p->a), p->m, p->k, (unsigned char *)b->w.source, (float *)b->step,
                          (int *)b->zero)));
    TRY(LAUNCH(dim3(blocks_for(p->n, WARPS)), dim3(THREADS), 0, row_sums_kernel,
               (const signed char *)p->b->data, p->n, p->k, (int *)b->sums));
    return multiply(&plan);
}

static Status round_map(const Conv *a, const Plan *p, Range *ranges)
{
    const Padded &m = p->map;
    const int64_t n = (int64_t)m.H * m.W * m.C, padded = (int64_t)m.padded_H * m.padded_W * m.C;
    const unsigned pictures = (unsigned)a->x->shape[0];
    WITH_PACKS(is_packed(a->x, m.C), true, a->x->dtype, T, N, {
        TRY(LAUNCH(dim3(PIECES, pictures), dim3(THREADS), WARPS * sizeof(Range), (map_ranges_kernel<T, N>),
                   floats_of(a->x), n, ranges));
        return LAUNCH(dim3(blocks_for(padded, THREADS * N), pictures), dim3(THREADS), 0,
                      (round_map_kernel<T, N>), floats_of(a->x), m, ranges, (unsigned char *)p->b.w.source,
                      (float *)p->b.step, (int *)p->b.zero);
    });
}

extern "C" Status cuda_int8_conv(const Conv *a, const signed char *form, void *scratch)
{
    Plan plan = plan_conv(a);
    settle_in(&plan, (char *)scratch, a->w);
    plan.b.w.end = conv_ending(a->y, a->bias, a->per_picture, a->residual);
    TRY(round_map(a, &plan, (Range *)((char *)scratch + plan.at.ranges)));
    const int C = plan.map.C, line = form ? (int)byte_row(C) : C;
    TRY(LAUNCH(dim3((unsigned)a->w->shape[0]), dim3(THREADS), (size_t)line * TAPS + WARPS * sizeof(int),
               turn_windows_kernel, form ? form : (const signed char *)a->w->data, C, line, form != NULL,
               (signed char *)plan.b.w.form, (int *)plan.b.sums));
    return multiply(&plan);
}

/* Which go this way ------------------------------------------------------------------------------------- */

/* Sums stay within 32 bits. Blackwell's chips of data centres multiply bytes slower than halves, and so do
 * these instructions there. */
static bool is_narrow(const Tensor *w, int64_t channels)
{
    return w->dtype == DTYPE_I8 && w->scales && cuda_card()->major != 10 && channels % UNIT == 0 &&
           tensor_count(w) / w->shape[0] < INT32_MAX / (255 * 127) && (uintptr_t)w->data % UNIT == 0;
}

/* Rounding reads a row twice, writes bytes and reads them again: that pays where the row meets many columns.
 * Of products of halves a multiprocessor does so many (tile.h) while it moves a byte of memory, about 10 and
 * 4 of which it gets a clock. */
static bool is_worth_rounding(const Product *p)
{
    const int64_t products = is_data_centre() ? 1024 / 10 : 256 / 4;
    return products * (6 * p->k + 2 * p->n) < p->n * p->k;
}

extern "C" bool cuda_int8_takes_product(const Product *p)
{
    return p->narrow && is_narrow(p->b, p->k) && is_worth_rounding(p) && p->trans_b && !p->trans_a &&
           p->alpha == 1 && p->beta == 0 && p->m >= LEAST_ROWS && p->m < INT32_MAX / 8 &&
           p->m * p->k / UNIT < INT32_MAX && (!p->residual || p->residual->dtype == p->y->dtype);
}

extern "C" bool cuda_int8_takes_conv(const Conv *a)
{
    const Tensor *w = a->w, *x = a->x;
    if (!a->narrow || !is_narrow(w, w->shape[1]) || w->shape[2] != 3 || w->shape[3] != 3 || a->s.upsample ||
        byte_row(w->shape[1]) * TAPS + (int64_t)(WARPS * sizeof(int)) > 48 << 10)
        return false;
    const int64_t pixels = x->shape[0] * (x->shape[1] + 2 * WINDOW_MAX) * (x->shape[2] + 2 * WINDOW_MAX);
    return pixels < INT32_MAX / 8 && pixels * x->shape[3] / UNIT < INT32_MAX &&
           (!a->residual || a->residual->dtype == a->y->dtype);
}
