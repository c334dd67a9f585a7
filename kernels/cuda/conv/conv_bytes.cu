/* Convolution and its input gradient with a weight in 8 bits, which stays so until it is in registers: as
 * conv_forward.cu has them, but for operand B, whose bytes (bytes.h) go to shared memory as they are and are
 * widened between there and the tensor cores.
 *
 *     forward    N rows of 32 bytes, a step's channels. Bytes are multiplied as whole numbers, which 16 bits
 *                hold exactly, and a column's scale comes at the end: y = scale Σ v x
 *     backward   channels of the walk are rows of the form: 32 rows of N bytes, 16 more for the sake of the
 *                banks, and the rows' 32 scales. w = scale v is rounded to 16 bits, as if it were decoded
 *                before, and the sums are the same
 *
 *                                          registers   blocks of a multiprocessor
 *     128×128   2×2 warps of 64×64            211, 217    2
 *     128×160   4×2 warps of 32×80   forward  150         1
 *     128×64    2×2 warps of 64×32            127, 128    2 (8.6 8.9), 4 (8.0)
 *
 * A step of 128×128 is 334 instructions of a warp forward and 472 backward, 64 of them mma: these take an
 * A100 512 clocks. */
#include "kernels/cuda/base/families.h"
#include "bytes.h"
#include "window.h"

/* Bytes to numbers -------------------------------------------------------------------------------------- */

#ifndef ATL_CUDA_HOST
template <typename Two> __device__ static inline unsigned add_two(unsigned x, unsigned y)
{
    union {
        unsigned all;
        Two two;
    } a, b;
    a.all = x, b.all = y;
    a.two = __hadd2(a.two, b.two);
    return a.all;
}

/* Bytes 0 and 2 of v as numbers. */
template <typename T> __device__ static inline unsigned numbers_of(unsigned v);
template <> __device__ inline unsigned numbers_of<f16>(unsigned v) /* 1024 + (byte + 128), less 1152 */
{
    return add_two<__half2>((v & 0x00ff00ffu) ^ held_constant(0x64806480u), 0xe480e480u);
}
template <>
__device__ inline unsigned numbers_of<bf16>(unsigned v) /* 128 + 7 bits, less 128 or, signed, 256 */
{
#if __CUDA_ARCH__ >= 800
    return add_two<__nv_bfloat162>((v & 0x007f007fu) | held_constant(0x43004300u),
                                   (v & 0x00800080u) | held_constant(0xc300c300u));
#else
    return v; /* Turing has no bf16 (mma.h) */
#endif
}
#endif

/* Byte i of two words as neighbours of a register. Numbers of 8 bits are exact in f16 and bf16; in place of
 * conversions, which go at a quarter of the speed, their bits are put into a number that ends with them. */
template <typename T> __device__ static inline unsigned pair_of_bytes(unsigned low, unsigned high, int i)
{
#ifdef ATL_CUDA_HOST
    return pack_two<T>((float)(signed char)(low >> 8 * i), (float)(signed char)(high >> 8 * i));
#else
    return numbers_of<T>(__byte_perm(low, high, (unsigned)(i | (4 + i) << 8)));
#endif
}

/* Fetching --------------------------------------------------------------------------------------------------
 */

enum { BYTES_128, BYTES_160, BYTES_64 };

/* A tile whose B comes in bytes. */
template <int WM_, int WN_, int DOWN_, int ACROSS_, bool BACK_>
struct ByteShape : TileShape<WM_, WN_, DOWN_, ACROSS_> {
    typedef TileShape<WM_, WN_, DOWN_, ACROSS_> Tile;
    static constexpr bool BACK = BACK_;
    static constexpr int LEAST =
        Tile::THREADS > 128; /* blocks at once: left to itself, nvcc spills for two */
    /* Bytes of a row of B in a stage, and chunks of 16 that a thread copies of all its rows. */
    static constexpr int LINE = BACK ? Tile::N + 16 : TILE_DEPTH;
    static constexpr int B_CHUNKS = (2 * Tile::N + Tile::THREADS - 1) / Tile::THREADS;
    static constexpr int SCALES = Tile::M * TILE_DEPTH * 2 + (BACK ? TILE_DEPTH : Tile::N) * LINE; /* bytes */
    static constexpr int STAGE = (SCALES + (BACK ? TILE_DEPTH * 4 : 0)) / 2;
};
template <bool BACK> using Bytes128 = ByteShape<64, 64, 2, 2, BACK>;
template <bool BACK> using Bytes64 = ByteShape<64, 32, 2, 2, BACK>;
typedef ByteShape<32, 80, 4, 2, false> Bytes160;

template <int WM, int WN, int DOWN, int ACROSS, bool BACK, bool STAGED>
struct Held<ByteShape<WM, WN, DOWN, ACROSS, BACK>, STAGED> {
    typedef ByteShape<WM, WN, DOWN, ACROSS, BACK> S;
    uint4 a[S::A_ROWS], b[S::B_CHUNKS], scales;
};

/* What a thread copies: of A as ever; of B chunks thread, thread + THREADS, … */
template <typename T, typename S> struct ByteSource {
    WindowSource<T, S, false> a;
    const ByteForm &form;
    const ConvClass &k;
    int b[S::B_CHUNKS]; /* where the chunk begins at tap and channel 0, in chunks of the form; −1: none */
    int depth;          /* from there to the next step's */
};

/* Which row and chunk of B's stage is the i-th that this thread copies. */
template <typename S> __device__ static inline int byte_row_of(int i)
{
    return ((int)threadIdx.x + i * S::THREADS) / (S::BACK ? S::N / 16 : 2);
}
template <typename S> __device__ static inline int byte_chunk_of(int i)
{
    return ((int)threadIdx.x + i * S::THREADS) % (S::BACK ? S::N / 16 : 2);
}

/* Where that is in a stage, in bytes. */
template <typename S> __device__ static inline int byte_place_of(int i)
{
    return S::M * TILE_DEPTH * 2 + byte_row_of<S>(i) * S::LINE + byte_chunk_of<S>(i) * 16;
}

/* The next step's place in the form, from its tap and channel. */
template <typename T, typename S> __device__ static inline void begin_byte_tap(ByteSource<T, S> &s)
{
    const ByteForm &f = s.form;
    const int c = s.a.c - (int)threadIdx.x % TILE_CHUNKS * CHUNK;
    const int element = s.k.rows.first[s.a.u] * f.width + s.k.columns.first[s.a.v];
    s.depth = (S::BACK ? (c * f.window + element) * f.row : element * f.row + c) / 16;
}

template <typename T, typename S>
__device__ static inline void begin_bytes(ByteSource<T, S> &s, const ConvWalk &w, int64_t row, int column,
                                          int step)
{
    begin_windows(s.a, w, s.k, row, column, step);
    const int line = s.form.row / 16, element_rows = s.form.window * line;
#pragma unroll
    for (int i = 0; i < S::B_CHUNKS; i++) {
        const int r = byte_row_of<S>(i), c = byte_chunk_of<S>(i);
        if (S::BACK)
            s.b[i] = column + c * 16 < w.N ? r * element_rows + column / 16 + c : -1;
        else
            s.b[i] = r < S::N && column + r < w.N ? (column + r) * element_rows + c : -1;
    }
    begin_byte_tap(s);
}

template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_step(ByteSource<T, S> &s, Held<S, STAGED> &held, T *stage)
{
    unsigned char *const bytes = (unsigned char *)stage;
    const int thread = (int)threadIdx.x;
    fetch_source(s.a, held, stage);
#pragma unroll
    for (int i = 0; i < S::B_CHUNKS; i++)
        if (S::BACK || byte_row_of<S>(i) < S::N)
            fetch_chunk<STAGED>(&held.b[i], bytes + byte_place_of<S>(i),
                                s.form.data + (int64_t)(s.b[i] + s.depth) * 16, s.b[i] >= 0);
    if (S::BACK && thread < TILE_DEPTH / 4) /* of this step's channels */
        fetch_chunk<STAGED>(&held.scales, bytes + S::SCALES + thread * 16,
                            s.form.scales + s.a.c - thread % TILE_CHUNKS * CHUNK + thread * 4, true);
    if (!next_step(s.a))
        s.depth += (S::BACK ? s.form.window * s.form.row * TILE_DEPTH : TILE_DEPTH) / 16;
    else if (s.a.tap < s.a.taps)
        begin_byte_tap(s);
}

template <typename T, int WM, int WN, int DOWN, int ACROSS, bool BACK>
__device__ static inline void store_held(const Held<ByteShape<WM, WN, DOWN, ACROSS, BACK>, true> &h, T *stage)
{
    typedef ByteShape<WM, WN, DOWN, ACROSS, BACK> S;
    unsigned char *const bytes = (unsigned char *)stage;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++)
        *(uint4 *)(stage + place_of<S, S::M>(i)) = h.a[i];
#pragma unroll
    for (int i = 0; i < S::B_CHUNKS; i++)
        if (BACK || byte_row_of<S>(i) < S::N)
            *(uint4 *)(bytes + byte_place_of<S>(i)) = h.b[i];
    if (BACK && threadIdx.x < TILE_DEPTH / 4)
        *(uint4 *)(bytes + S::SCALES + threadIdx.x * 16) = h.scales;
}

/* From shared memory to the tensor cores ----------------------------------------------------------------- */

/* The warp's rows of A, both halves of the step. */
template <typename T, typename S>
__device__ static inline void load_rows(unsigned a[2][S::WM / 16][4], const T *stage)
{
    const int lane = threadIdx.x % WARP, down = threadIdx.x / WARP / S::ACROSS * S::WM;
#pragma unroll
    for (int second = 0; second < 2; second++)
#pragma unroll
        for (int i = 0; i < S::WM / 16; i++)
            ldmatrix_x4(a[second][i], stage + (down + i * 16) * TILE_DEPTH +
                                          chunk_place(lane % 16, second * 2 + lane / 16));
}

/* Column of tiles j += A's half by b. */
template <typename T, typename S>
__device__ static inline void multiply_column(float d[S::WM / 16][S::WN / 8][4], int j,
                                              const unsigned a[S::WM / 16][4], const unsigned b[2])
{
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++)
        multiply_tile<T>(d[i][j], a[i], b);
}

/* bytes: of the warp's first column. */
template <typename T, typename S>
__device__ static inline void multiply_forward(float d[S::WM / 16][S::WN / 8][4],
                                               const unsigned a[2][S::WM / 16][4], const unsigned char *bytes)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < S::WN / 8; j++) {
        const uint2 eight = *(const uint2 *)(bytes + (j * 8 + lane / 4) * S::LINE + lane % 4 * 8);
#pragma unroll
        for (int second = 0; second < 2; second++) {
            const unsigned b[2] = {pair_of_bytes<T>(eight.x, eight.y, second * 2),
                                   pair_of_bytes<T>(eight.x, eight.y, second * 2 + 1)};
            multiply_column<T, S>(d, j, a[second], b);
        }
    }
}

/* Four columns of tiles from words of rows 2t, 2t+1, 2t+8, 2t+9 of half a step. */
template <typename T, typename S>
__device__ static inline void multiply_words(float d[S::WM / 16][S::WN / 8][4], int j,
                                             const unsigned a[S::WM / 16][4], const unsigned words[4],
                                             const float scales[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float w[4];
#pragma unroll
        for (int r = 0; r < 4; r++)
            w[r] = byte_float(words[r], i) * scales[r];
        const unsigned b[2] = {pack_two<T>(w[0], w[1]), pack_two<T>(w[2], w[3])};
        multiply_column<T, S>(d, j + i, a, b);
    }
}

template <typename T, typename S>
__device__ static inline void multiply_backward(float d[S::WM / 16][S::WN / 8][4],
                                                const unsigned a[2][S::WM / 16][4],
                                                const unsigned char *bytes, const float *scales)
{
    const int lane = threadIdx.x % WARP, t = lane % 4;
#pragma unroll
    for (int second = 0; second < 2; second++) {
        const int row = second * 16 + t * 2;
        const float2 low = *(const float2 *)(scales + row), high = *(const float2 *)(scales + row + 8);
        const float by[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
        for (int j = 0; j < S::WN / 8; j += 4) {
            const unsigned char *from = bytes + row * S::LINE + j * 8 + lane / 4 * 4;
            unsigned words[4];
#pragma unroll
            for (int r = 0; r < 4; r++)
                words[r] = *(const unsigned *)(from + (r / 2 * 8 + r % 2) * S::LINE) ^ BYTE_SIGNS;
            multiply_words<T, S>(d, j, a[second], words, by);
        }
    }
}

template <int WM, int WN, int DOWN, int ACROSS, bool BACK>
struct Step<ByteShape<WM, WN, DOWN, ACROSS, BACK>> {
    typedef ByteShape<WM, WN, DOWN, ACROSS, BACK> S;
    template <typename T, typename D>
    __device__ static inline void multiply(D d[WM / 16][WN / 8][4], const T *stage)
    {
        const int across = threadIdx.x / WARP % ACROSS * WN;
        const unsigned char *bytes = (const unsigned char *)stage, *b = bytes + S::M * TILE_DEPTH * 2;
        unsigned a[2][WM / 16][4];
        load_rows<T, S>(a, stage);
        if constexpr (BACK)
            multiply_backward<T, S>(d, a, b + across, (const float *)(bytes + S::SCALES));
        else
            multiply_forward<T, S>(d, a, b + across * S::LINE);
    }
};

/* Grid: as window_kernel's. */
template <typename T, typename S>
__global__ static void __launch_bounds__(S::THREADS, S::LEAST) byte_window_kernel(ConvWalk w, ByteForm f)
{
    SHARED(T, shared);
    const ConvClass &k = w.of[blockIdx.z];
    const int across = (int)((w.N + S::N - 1) / S::N);
    const int64_t row = (int64_t)(blockIdx.x / across) * S::M, column = (int64_t)(blockIdx.x % across) * S::N;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    if (row >= rows)
        return;
    const int all = steps_of<false>((int64_t)k.rows.taps * k.columns.taps, w.padded);
    const int each = (all + w.splits - 1) / w.splits, first = (int)blockIdx.y * each;
    const int steps = first >= all ? 0 : first + each < all ? each : all - first;
    ByteSource<T, S> from = {{}, f, k, {}, 0};
    begin_bytes(from, w, row, (int)column, first);
    float d[S::WM / 16][S::WN / 8][4];
    multiply_tiles<false, T, S>(from, steps, d, shared);
    end_tile<S>(d, (float *)shared, [&](int r, int n, float *v) {
        if (row + r >= rows || column + n >= w.N)
            return;
        if (!S::BACK) {
            const Run<float> scales = read_run(f.scales + column + n);
#pragma unroll
            for (int j = 0; j < 8; j++)
                v[j] *= scales.at[j];
        }
        end_columns<T, 8>(w, output_at(w, k, row + r), column + n, (int)blockIdx.y, v);
    });
}

/* The form ----------------------------------------------------------------------------------------------- */

enum { FORM_THREADS = 256 };

/* The form of one of K and `groups` groups of its channels, by way of shared memory. words: rows of the
 * weight are whole words. */
__global__ static void byte_form_kernel(const signed char *weight, int C, int window, int row, int groups,
                                        bool words, signed char *form)
{
    SHARED(signed char, held); /* (channels,window) */
    const int c0 = (int)blockIdx.x * groups * BYTE_GROUP, k = (int)blockIdx.y;
    const int here = C - c0 < groups * BYTE_GROUP ? C - c0 : groups * BYTE_GROUP;
    const int padded = row - c0 < groups * BYTE_GROUP ? row - c0 : groups * BYTE_GROUP;
    const signed char *from = weight + ((int64_t)k * C + c0) * window;
    if (words)
        for (int i = (int)threadIdx.x; i < here * window / 4; i += FORM_THREADS)
            ((unsigned *)held)[i] = ((const unsigned *)from)[i];
    else
        for (int i = (int)threadIdx.x; i < here * window; i += FORM_THREADS)
            held[i] = from[i];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < window * padded / 4; i += FORM_THREADS) {
        const int tap = i / (padded / 4), word = i % (padded / 4);
        const int c = word / 8 * BYTE_GROUP + word % 8;
        Neighbours<signed char, 4> four;
#pragma unroll
        for (int j = 0; j < 4; j++)
            four.at[j] = c + j * 8 < here ? held[(c + j * 8) * window + tap] : 0;
        *(Neighbours<signed char, 4> *)(form + ((int64_t)k * window + tap) * row + c0 + word * 4) = four;
    }
}

Status conv_bytes_form(const Tensor *weight, signed char *form)
{
    const int C = (int)weight->shape[1], window = (int)(weight->shape[2] * weight->shape[3]);
    const int row = (int)byte_row(C), groups = window <= 16 ? 8 : 1;
    const bool words = C * window % 4 == 0 && (uintptr_t)weight->data % 4 == 0;
    return LAUNCH(dim3(blocks_for(row, groups * BYTE_GROUP), (unsigned)weight->shape[0]), dim3(FORM_THREADS),
                  (size_t)groups * BYTE_GROUP * window, byte_form_kernel, (const signed char *)weight->data,
                  C, window, row, groups, words, form);
}

/* Which tile --------------------------------------------------------------------------------------------- */

Tiling conv_bytes_tiling(const ConvWalk *w, bool backward)
{
    const int64_t steps = steps_of<false>(most_taps(w), w->padded);
    Tiling best = {BYTES_64, 1};
    double least = 0;
    try_tile<Bytes128<false>>(w, BYTES_128, steps, &best, &least);
    if (!backward)
        try_tile<Bytes160>(w, BYTES_160, steps, &best, &least);
    try_tile<Bytes64<false>>(w, BYTES_64, steps, &best, &least);
    return best;
}

template <typename T, typename S> static Status launch_bytes(const ConvWalk *w, const ByteForm *f)
{
    const unsigned tiles = blocks_for(most_class_rows(w), S::M) * blocks_for(w->N, S::N);
    const dim3 grid(tiles, (unsigned)w->splits, (unsigned)w->classes);
    return LAUNCH(grid, dim3(S::THREADS), tile_shared<S>(cuda_card()->major < 8), (byte_window_kernel<T, S>),
                  *w, *f);
}

template <typename T>
static Status launch_byte_tile(const ConvWalk *w, const ByteForm *f, int tile, bool backward)
{
    if (tile == BYTES_160)
        return launch_bytes<T, Bytes160>(w, f);
    if (tile == BYTES_128)
        return backward ? launch_bytes<T, Bytes128<true>>(w, f) : launch_bytes<T, Bytes128<false>>(w, f);
    return backward ? launch_bytes<T, Bytes64<true>>(w, f) : launch_bytes<T, Bytes64<false>>(w, f);
}

Status conv_bytes(const ConvWalk *w, const ByteForm *f, int tile, bool backward)
{
    TRY(w->source_type == DTYPE_BF16 ? launch_byte_tile<bf16>(w, f, tile, backward)
                                     : launch_byte_tile<f16>(w, f, tile, backward));
    return w->splits > 1 ? conv_finish(w) : STATUS_OK;
}
