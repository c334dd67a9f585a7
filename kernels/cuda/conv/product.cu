/* Linear layers with what follows them, for what cuBLASLt would take another pass over memory:
 *
 *     h = x W^T + bias + residual + scale t up^T           y = h, or with GEGLU
 *                                                          y = first half of h times gelu of its second
 *
 * The tiles of tile.h. A is x (m,k), B is W (n,k), both as they lie. LoRA's share is a few more steps of the
 * same depth: of t (m,r) and of up (n,r) times its scale, which is f32 where it is trained and becomes 16
 * bits on the way to shared memory. With GEGLU the columns of a warp are two halves, 32 (or 16) of h's first
 * half and the 32 that go with them, so that both are in its registers and h is written only if it is wanted:
 *
 *       W's rows    j … j+31     n/2+j … n/2+j+31 │ j+32 … j+63   n/2+j+32 … n/2+j+63
 *       columns of  warp across 0                 │ warp across 1
 *
 *                                                registers   blocks of a multiprocessor
 *     128×128   2×2 warps of 64×64                 224–240     2
 *     128×64    2×2 warps of 64×32    small grids  128         2 (8.6 8.9), 4 (8.0)
 *
 * Where W is in 8 bits its bytes are read a step ahead and widened from registers into shared memory.
 *
 * Hopper's and Blackwell's data-centre chips multiply faster by instructions that only the library has: there
 * a second pass costs less than the slower product, but for few rows by a W in 8 bits. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/gelu.h"
#include "bytes.h"
#include "product.h"
#include "tile.h"

typedef TileShape<64, 64, 2, 2> Tile128;
typedef TileShape<64, 32, 2, 2> Tile64;

typedef struct Fused {
    const void *a, *b, *bias, *residual, *t, *up;
    void *y, *keep_h;
    int64_t m, n, k, r;
    float scale;
    const float *scales; /* b is in 8 bits, a scale a row; or NULL */
    int bias_type, up_type;
    bool wide; /* rows of x, W, y and what is added are whole chunks at multiples of 16 bytes */
} Fused;

/* How a step comes: whole chunks, of t and up runs of 4; the same with W in 8 bits; anything, number by
 * number.
 */
enum { WHOLE, BYTES, ODD };

/* Which row of W is column q of the tile. */
template <typename S, bool GEGLU>
__device__ static inline int64_t weight_row(const Fused &f, int64_t tile, int q)
{
    if (!GEGLU)
        return tile * S::N + q;
    constexpr int HALF = S::WN / 2;
    const int64_t column = tile * (S::N / 2) + q / S::WN * HALF + q % HALF;
    return column < f.n / 2 ? column + q % S::WN / HALF * (f.n / 2) : f.n;
}

/* 8 elements of row `row` of t from c on; of those before r. */
template <typename T, int WAY> __device__ static inline uint4 t_chunk(const Fused &f, int64_t row, int c)
{
    const T *from = (const T *)f.t + row * f.r + c;
    return WAY == ODD ? gather_chunk(from, (int)f.r - c) : gather_fours(from, (int)f.r - c);
}

/* The same of up in f32. */
template <int WAY> __device__ static inline Run<float> wide_chunk(const float *from, int count)
{
    Run<float> run = {};
    if constexpr (WAY == ODD) {
#pragma unroll
        for (int j = 0; j < CHUNK; j++)
            if (j < count)
                run.at[j] = from[j];
    } else {
        const float4 none = make_float4(0, 0, 0, 0), low = count > 0 ? *(const float4 *)from : none,
                     high = count > 4 ? *(const float4 *)(from + 4) : none;
        run = {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    }
    return run;
}

/* The same of up, times scale. */
template <typename T, int WAY> __device__ static inline uint4 up_chunk(const Fused &f, int64_t row, int c)
{
    union {
        T at[CHUNK];
        uint4 all;
    } chunk;
    const int64_t i = row * f.r + c;
    Run<float> run;
    if (f.up_type == DTYPE_F32) {
        run = wide_chunk<WAY>((const float *)f.up + i, (int)f.r - c);
    } else {
        const T *from = (const T *)f.up + i;
        chunk.all = WAY == ODD ? gather_chunk(from, (int)f.r - c) : gather_fours(from, (int)f.r - c);
#pragma unroll
        for (int j = 0; j < CHUNK; j++)
            run.at[j] = to_float(chunk.at[j]);
    }
#pragma unroll
    for (int j = 0; j < CHUNK; j++)
        chunk.at[j] = from_float<T>(run.at[j] * f.scale);
    return chunk.all;
}

/* What a thread copies; rows in chunks from where x or W begins, −1: there is no such row. */
template <typename T, typename S, bool GEGLU, int WAY> struct RowSource {
    const Fused &f;
    int64_t row, tile; /* first row of D; number of the tile across */
    int a[S::A_ROWS], b[S::B_ROWS];
    int step, c; /* of the depth, and this thread's chunk of it; from 0 on again in t and up */
    bool low;
    /* Of W in 8 bits: what the next step is made of, and its rows' scales. */
    uint2 next[WAY == BYTES ? S::B_ROWS : 1];
    float scales[WAY == BYTES ? S::B_ROWS : 1];
};

/* Of W in 8 bits: the i-th chunk of the step at s.c. */
template <typename T, typename S, bool GEGLU>
__device__ static inline uint2 bytes_at(const RowSource<T, S, GEGLU, BYTES> &s, int i)
{
    return s.c < s.f.k && s.b[i] >= 0
               ? *(const uint2 *)((const signed char *)s.f.b + (int64_t)s.b[i] * CHUNK + s.c)
               : make_uint2(0, 0);
}

/* All of them, on their way while another step is multiplied. Not on Turing, which holds chunks in registers
 * as well and has none left. */
template <typename T, typename S, bool GEGLU>
__device__ static inline void ask_for_bytes(RowSource<T, S, GEGLU, BYTES> &s)
{
    if (!COPIES_STAGED)
#pragma unroll
        for (int i = 0; i < S::B_ROWS; i++)
            s.next[i] = bytes_at(s, i);
}

template <typename T, typename S, bool GEGLU, int WAY>
__device__ static inline void begin_rows(RowSource<T, S, GEGLU, WAY> &s)
{
    const int lane = threadIdx.x / TILE_CHUNKS;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const int64_t row = s.row + lane + i * S::LANES;
        s.a[i] = row < s.f.m ? (int)(row * s.f.k / CHUNK) : -1;
    }
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++) {
        const int64_t row = weight_row<S, GEGLU>(s.f, s.tile, lane + i * S::LANES);
        s.b[i] = row < s.f.n ? (int)(row * s.f.k / CHUNK) : -1;
        if constexpr (WAY == BYTES)
            s.scales[i] = row < s.f.n ? s.f.scales[row] : 0;
    }
    s.step = 0, s.c = (int)threadIdx.x % TILE_CHUNKS * CHUNK, s.low = false;
    if constexpr (WAY == BYTES)
        ask_for_bytes(s);
}

/* A chunk that is at hand. */
template <bool STAGED, typename T> __device__ static inline void put_chunk(uint4 *held, T *place, uint4 chunk)
{
    *(STAGED ? held : (uint4 *)place) = chunk;
}

/* A step of t and up, whose places are worked out anew: there are few. */
template <typename T, typename S, bool GEGLU, int WAY, bool STAGED>
__device__ static inline void fetch_low(const RowSource<T, S, GEGLU, WAY> &s, Held<S, STAGED> &held, T *stage)
{
    const int lane = threadIdx.x / TILE_CHUNKS;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++)
        put_chunk<STAGED>(&held.a[i], stage + place_of<S, S::M>(i),
                          s.a[i] >= 0 ? t_chunk<T, WAY>(s.f, s.row + lane + i * S::LANES, s.c)
                                      : make_uint4(0, 0, 0, 0));
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        put_chunk<STAGED>(
            &held.b[i], stage + S::M * TILE_DEPTH + place_of<S, S::N>(i),
            s.b[i] >= 0 ? up_chunk<T, WAY>(s.f, weight_row<S, GEGLU>(s.f, s.tile, lane + i * S::LANES), s.c)
                        : make_uint4(0, 0, 0, 0));
}

/* 8 elements of a row of W from 8 bytes and its scale. */
template <typename T> __device__ static inline uint4 decoded_chunk(uint2 from, float scale)
{
    const unsigned low = from.x ^ BYTE_SIGNS, high = from.y ^ BYTE_SIGNS;
    return make_uint4(pack_two<T>(byte_float(low, 0) * scale, byte_float(low, 1) * scale),
                      pack_two<T>(byte_float(low, 2) * scale, byte_float(low, 3) * scale),
                      pack_two<T>(byte_float(high, 0) * scale, byte_float(high, 1) * scale),
                      pack_two<T>(byte_float(high, 2) * scale, byte_float(high, 3) * scale));
}

/* A step of ROWS rows of x or W; at: where they begin, in chunks, −1: there is none. WIDTH: the tile's. */
template <int WAY, typename T, typename S, int WIDTH, int ROWS, bool STAGED>
__device__ static inline void fetch_rows(const T *from, const int at[ROWS], bool there, uint4 held[ROWS],
                                         T *stage)
{
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        T *const place = stage + place_of<S, WIDTH>(i);
        const bool valid = there && at[i] >= 0;
        if (WAY == ODD)
            put_chunk<STAGED>(&held[i], place,
                              gather_chunk(from + (int64_t)at[i] * CHUNK, valid ? CHUNK : 0));
        else
            fetch_chunk<STAGED>(&held[i], place, from + (int64_t)at[i] * CHUNK, valid);
    }
}

/* W in 8 bits, decoded on its way from registers to shared memory. */
template <typename T, typename S, bool GEGLU, bool STAGED>
__device__ static inline void fetch_bytes(const RowSource<T, S, GEGLU, BYTES> &s, Held<S, STAGED> &held,
                                          T *stage)
{
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        put_chunk<STAGED>(&held.b[i], stage + place_of<S, S::N>(i),
                          decoded_chunk<T>(COPIES_STAGED ? bytes_at(s, i) : s.next[i], s.scales[i]));
}

/* The same, byte by byte and in no hurry. */
template <typename T, typename S, bool GEGLU, bool STAGED>
__device__ static inline void fetch_odd_bytes(const RowSource<T, S, GEGLU, ODD> &s, Held<S, STAGED> &held,
                                              T *stage)
{
    const int lane = threadIdx.x / TILE_CHUNKS;
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++) {
        union {
            signed char at[CHUNK];
            uint2 all;
        } bytes;
        const int64_t row = weight_row<S, GEGLU>(s.f, s.tile, lane + i * S::LANES);
        const bool there = s.c < s.f.k && row < s.f.n;
        for (int j = 0; j < CHUNK; j++)
            bytes.at[j] = there ? ((const signed char *)s.f.b)[row * s.f.k + s.c + j] : 0;
        put_chunk<STAGED>(&held.b[i], stage + place_of<S, S::N>(i),
                          decoded_chunk<T>(bytes.all, there ? s.f.scales[row] : 0));
    }
}

template <typename T, typename S, bool GEGLU, int WAY, bool STAGED>
__device__ static inline void fetch_step(RowSource<T, S, GEGLU, WAY> &s, Held<S, STAGED> &held, T *stage)
{
    if (s.low) {
        fetch_low(s, held, stage);
    } else {
        T *const w = stage + S::M * TILE_DEPTH;
        const bool there = s.c < s.f.k;
        fetch_rows<WAY, T, S, S::M, S::A_ROWS, STAGED>((const T *)s.f.a + s.c, s.a, there, held.a, stage);
        if constexpr (WAY == BYTES)
            fetch_bytes(s, held, w);
        else
            fetch_rows<WAY, T, S, S::N, S::B_ROWS, STAGED>((const T *)s.f.b + s.c, s.b, there && !s.f.scales,
                                                           held.b, w);
        if constexpr (WAY == ODD)
            if (s.f.scales)
                fetch_odd_bytes(s, held, w);
    }
    s.step += TILE_DEPTH, s.c += TILE_DEPTH;
    if constexpr (WAY == BYTES)
        if (!s.low)
            ask_for_bytes(s);
    if (!s.low && s.step >= s.f.k)
        s.low = true, s.c -= s.step, s.step = 0;
}

/* 8 columns of h, from n on. */
template <typename T>
__device__ static inline void add_to_run(const Fused &f, int64_t row, int64_t n, float v[8])
{
    const T *residual = (const T *)f.residual + row * f.n + n;
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (f.bias)
            v[j] += f.bias_type == DTYPE_F32 ? ((const float *)f.bias)[n + j]
                                             : to_float(((const T *)f.bias)[n + j]);
    if (!f.residual)
        return;
    union {
        uint4 all;
        T at[8];
    } add;
    add.all = f.wide ? *(const uint4 *)residual : gather_chunk(residual, 8);
#pragma unroll
    for (int j = 0; j < 8; j++)
        v[j] += to_float(add.at[j]);
}

/* v rounded to T, which goes to `to` unless that is NULL; v is what T holds then. */
template <typename T> __device__ static inline void round_run(float v[8], T *to, bool wide)
{
    union {
        uint4 all;
        T at[8];
    } run;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        run.at[j] = from_float<T>(v[j]);
        v[j] = to_float(run.at[j]);
    }
    if (to && wide)
        *(uint4 *)to = run.all;
    else if (to)
#pragma unroll
        for (int j = 0; j < 8; j++)
            to[j] = run.at[j];
}

/* Grid: tiles, those of a row of D beside each other. */
template <typename T, typename S, bool GEGLU, int WAY>
__global__ static void __launch_bounds__(S::THREADS) product_kernel(Fused f)
{
    SHARED(T, shared);
    const int64_t columns = GEGLU ? f.n / 2 : f.n;
    constexpr int WIDTH = GEGLU ? S::N / 2 : S::N;
    const int across = (int)((columns + WIDTH - 1) / WIDTH);
    RowSource<T, S, GEGLU, WAY> from = {
        f, (int64_t)(blockIdx.x / across) * S::M, blockIdx.x % across, {}, {}, 0, 0, false, {}, {}};
    begin_rows(from);
    const int steps = (int)((f.k + TILE_DEPTH - 1) / TILE_DEPTH + (f.r + TILE_DEPTH - 1) / TILE_DEPTH);
    const int64_t row = from.row, column = from.tile * WIDTH;
    float d[S::WM / 16][S::WN / 8][4];
    multiply_tiles<false, T, S>(from, steps, d, shared);
    if constexpr (GEGLU) {
        end_tile_halves<S>(d, (float *)shared, [&](int r, int n, float *v, float *gate) {
            const int64_t i = row + r, c = column + n;
            if (i >= f.m || c >= columns)
                return;
            add_to_run<T>(f, i, c, v);
            add_to_run<T>(f, i, c + columns, gate);
            T *h = f.keep_h ? (T *)f.keep_h + i * f.n + c : NULL;
            round_run(v, h, f.wide);
            round_run(gate, h ? h + columns : NULL, f.wide);
#pragma unroll
            for (int j = 0; j < 8; j++)
                v[j] *= gelu_of(gate[j]);
            round_run(v, (T *)f.y + i * columns + c, f.wide);
        });
    } else {
        end_tile<S>(d, (float *)shared, [&](int r, int n, float *v) {
            const int64_t i = row + r, c = column + n;
            if (i >= f.m || c >= columns)
                return;
            add_to_run<T>(f, i, c, v);
            round_run(v, (T *)f.y + i * f.n + c, f.wide);
        });
    }
}

/* Which products, and by which tile --------------------------------------------------------------------- */

static bool wide(const Tensor *t)
{
    return !t || (uintptr_t)t->data % 16 == 0;
}

static bool of_type(const Tensor *t, DType type, bool or_f32)
{
    return !t || t->dtype == type || (or_f32 && t->dtype == DTYPE_F32);
}

/* On the chips whose products are the library's: a W in 8 bits would be read, written as a copy and read
 * again, 5 bytes a number where 1 is read here, and that takes as long as what these instructions are slower
 * by in so many rows (scripts/roofline.py's peaks and bytes a second; mma.sync reaches 65 % of Hopper's
 * products, some 30 % of B200's; halved for what its decoding costs). */
static bool is_quicker_decoded(const Product *p)
{
    const int rows = cuda_card()->major == 9 ? 384 : 128;
    return p->b->dtype == DTYPE_I8 && p->m <= rows;
}

/* In 8 bits W is decoded here on all other cards: the library would want a copy. */
extern "C" bool cuda_product_fused_fits(const Product *p)
{
    const bool decodes = p->b->dtype == DTYPE_I8;
    const DType type = p->a->dtype;
    const int64_t columns = p->geglu ? p->n / 2 : p->n, most = (int64_t)INT32_MAX * CHUNK;
    const bool library = cuda_card()->major == 9 || cuda_card()->major == 10;
    if ((library && !is_quicker_decoded(p)) || !(p->geglu || p->t || decodes) || p->alpha != 1 ||
        p->beta != 0 || p->trans_a || !p->trans_b)
        return false;
    if (type == DTYPE_F32 || !(decodes || of_type(p->b, type, false)) || !of_type(p->y, type, false) ||
        !of_type(p->residual, type, false) || !of_type(p->keep_h, type, false) ||
        !of_type(p->t, type, false) || !of_type(p->bias, type, true) || !of_type(p->up, type, true))
        return false;
    if (p->m == 0 || p->k == 0 || p->k % CHUNK != 0 || columns % CHUNK != 0 || p->m * p->k >= most ||
        p->n * p->k >= most)
        return false;
    /* a grid that leaves most of the card idle is the library's, which cuts the depth */
    const double blocks = (double)blocks_for(p->m, Tile64::M) * blocks_for(p->n, Tile64::N);
    return blocks * 2 >= cuda_card()->processors;
}

static Fused fused_of(const Product *p)
{
    Fused f = {};
    f.a = p->a->data, f.b = p->b->data, f.y = p->y->data;
    f.m = p->m, f.n = p->n, f.k = p->k;
    if (p->bias)
        f.bias = p->bias->data, f.bias_type = p->bias->dtype;
    if (p->residual)
        f.residual = p->residual->data;
    if (p->keep_h)
        f.keep_h = p->keep_h->data;
    if (p->b->dtype == DTYPE_I8)
        f.scales = (const float *)p->b->scales->data;
    f.wide = wide(p->a) && wide(p->b) && wide(p->y) && wide(p->residual) && wide(p->keep_h);
    if (p->t) {
        f.t = p->t->data, f.up = p->up->data, f.up_type = p->up->dtype;
        f.r = tensor_dim(p->t, -1), f.scale = p->scale;
    }
    return f;
}

static bool is_whole(const Product *p, const Fused &f)
{
    return f.wide && f.r % 4 == 0 && wide(p->t) && wide(p->up);
}

template <typename T, typename S, bool GEGLU, int WAY> static Status launch_product(const Fused &f)
{
    const unsigned blocks =
        blocks_for(f.m, S::M) * blocks_for(GEGLU ? f.n / 2 : f.n, GEGLU ? S::N / 2 : S::N);
    return LAUNCH(dim3(blocks), dim3(S::THREADS), tile_shared<S>(cuda_card()->major < 8),
                  (product_kernel<T, S, GEGLU, WAY>), f);
}

template <typename T, typename S> static Status launch_tile(const Fused &f, bool geglu)
{
    if (f.scales)
        return geglu ? launch_product<T, S, true, BYTES>(f) : launch_product<T, S, false, BYTES>(f);
    return geglu ? launch_product<T, S, true, WHOLE>(f) : launch_product<T, S, false, WHOLE>(f);
}

template <typename S> static double clocks_of(const Fused &f)
{
    const double blocks = (double)blocks_for(f.m, S::M) * blocks_for(f.n, S::N);
    return tile_clocks<S>(blocks, (f.k + f.r + TILE_DEPTH - 1) / TILE_DEPTH);
}

template <typename T> static Status launch_any(const Product *p, const Fused &f)
{
    if (!is_whole(p, f))
        return p->geglu ? launch_product<T, Tile64, true, ODD>(f) : launch_product<T, Tile64, false, ODD>(f);
    return clocks_of<Tile128>(f) < clocks_of<Tile64>(f) ? launch_tile<T, Tile128>(f, p->geglu)
                                                        : launch_tile<T, Tile64>(f, p->geglu);
}

extern "C" Status cuda_product_fused(const Product *p)
{
    const Fused f = fused_of(p);
    return p->a->dtype == DTYPE_BF16 ? launch_any<bf16>(p, f) : launch_any<f16>(p, f);
}
