/* A tile of D (M,N) = A (M,depth) B (N,depth)^T on the tensor cores, for what fetches its operands in its own
 * way: 16-bit operands, f32 sums. Or operands of f32, in TF32: a number counts as two elements (Tf32Part), so
 * that a step is 16 of the depth in the same bytes, with as many mma of half the depth.
 *
 *        B^T  N = ACROSS warps · WN
 *            ┌───────┬───────┐
 *            │       │       │          A block's warps lie DOWN × ACROSS, each owns WM × WN of D in its
 *      A     │ warp 0│ warp 1│ WM       registers: WM/16 × WN/8 mma tiles of 4 floats a lane.
 *     ┌──┐   ├───────┼───────┤
 *     │  │   │ warp 2│ warp 3│          The depth goes by in steps of 32, two mma each. The rows of A and B
 * of └──┘   └───────┴───────┘          a step lie in shared memory, a row 64 bytes or 4 chunks of 16: 32 WN
 *
 *     row 0   0 1 2 3 │ row 1   0 1 2 3     chunk c of row r lies at place c ^ (r/2 % 4): the 8 rows of one
 *     row 2   1 0 3 2 │ row 3   1 0 3 2     ldmatrix, and the 8 chunks that 8 neighbouring threads store,
 *     row 4   2 3 0 1 │ row 5   2 3 0 1     are in 8 different sixteenths of the 128 bytes that shared
 *     row 6   3 2 1 0 │ row 7   3 2 1 0     memory moves at once
 *
 * From Ampere on, copies run behind the arithmetic (cp.async) in a ring of STAGES steps: step k is multiplied
 * while k + 1 and k + 2 are under way. Where the copy goes through registers (Turing, and operands whose rows
 * are not made of 16-byte chunks) there are two: step k + 1 is read before the products of k and stored
 * after. */
#ifndef ATL_CUDA_TILE_H
#define ATL_CUDA_TILE_H

#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/mma.h"

enum { TILE_DEPTH = 32, TILE_CHUNKS = 4, CHUNK = 8, STAGES = 3, STAGED_STAGES = 2 };

/* Known when it is compiled for a GPU; on the host, when it runs, by the card that the stand-in is. */
#ifdef ATL_CUDA_HOST
#define COPIES_STAGED (cuda_card()->major < 8)
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define COPIES_STAGED true
#else
#define COPIES_STAGED false
#endif

/* Half of the bytes of a f32; what the elements of a tile are elements of. */
struct Tf32Part {
    unsigned short bits;
};
template <typename T> struct NumberOf {
    typedef T type;
};
template <> struct NumberOf<Tf32Part> {
    typedef float type;
};
template <typename T> using Number = typename NumberOf<T>::type;

template <int WM_, int WN_, int DOWN_, int ACROSS_, bool DEEP_ = false, int PARTS_ = 1> struct TileShape {
    static constexpr bool DEEP = DEEP_; /* operands come as (depth,M) and (depth,N): A^T B */
    static constexpr int PARTS = PARTS_, DEEP_STEP = TILE_DEPTH / PARTS_; /* deep: elements of a number */
    static constexpr int WM = WM_, WN = WN_, DOWN = DOWN_, ACROSS = ACROSS_;
    static constexpr int M = WM * DOWN, N = WN * ACROSS, THREADS = WARP * DOWN * ACROSS;
    /* Of a step a thread copies a chunk of rows thread/4, thread/4 + LANES, … of A and of B; deep, of chunks
     * thread, thread + THREADS, … */
    static constexpr int LANES = THREADS / TILE_CHUNKS;
    static constexpr int A_ROWS = (M + LANES - 1) / LANES, B_ROWS = (N + LANES - 1) / LANES;
    static constexpr int STAGE = (M + N) * TILE_DEPTH; /* elements */
};

/* Where chunk c of row r begins, in elements. */
__device__ static inline int chunk_place(int row, int chunk)
{
    return row * TILE_DEPTH + (chunk ^ (row >> 1 & 3)) * CHUNK;
}

/* Deep: of DEEP_STEP rows of WIDTH elements, 64 or more. */
template <int WIDTH> __device__ static inline int deep_place(int row, int chunk)
{
    return row * WIDTH + (chunk ^ (row & 7)) * CHUNK;
}

/* Where the i-th chunk goes that this thread copies; −1: it has none. A: WIDTH is M; B: N. Chunks of a thread
 * are whole swizzles of 8 rows apart, so that one place is worked out and the rest are constants away. */
template <typename S, int WIDTH> __device__ static inline int place_of(int i)
{
    const int thread = (int)threadIdx.x;
    if constexpr (S::DEEP) {
        constexpr int LINE = WIDTH * S::PARTS, ROW = LINE / CHUNK, APART = S::THREADS / ROW;
        static_assert(APART % 4 == 0, "a thread's chunks are two places and whole swizzles apart");
        return deep_place<LINE>(thread / ROW + i * APART % 8, thread % ROW) + i * APART / 8 * 8 * LINE;
    } else {
        static_assert(S::LANES % 8 == 0, "a thread's chunks are whole swizzles apart");
        const int row = thread / TILE_CHUNKS;
        return WIDTH % S::LANES == 0 || row + i * S::LANES < WIDTH
                   ? chunk_place(row, thread % TILE_CHUNKS) + i * S::LANES * TILE_DEPTH
                   : -1;
    }
}

/* A chunk on its way: behind the arithmetic, or held in registers until it is stored. */
template <bool STAGED>
__device__ static inline void fetch_chunk(uint4 *held, void *place, const void *from, bool valid)
{
    if (STAGED)
        *held = valid ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    else
        copy_async_16(place, from, valid);
}

/* A chunk of up to 8 elements that lie anywhere, the rest zeros. */
template <typename T> __device__ static inline uint4 gather_chunk(const T *from, int count)
{
    union {
        T at[CHUNK];
        uint4 all;
    } chunk;
    chunk.all = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < CHUNK; j++)
        if (j < count)
            chunk.at[j] = from[j];
    return chunk.all;
}

/* The same where there are 4 or 8, at a multiple of 8 bytes: latents have 4 channels, small LoRAs 4 ranks. */
template <typename T> __device__ static inline uint4 gather_fours(const T *from, int count)
{
    const uint2 none = make_uint2(0, 0), low = count > 0 ? *(const uint2 *)from : none,
                high = count > 4 ? *(const uint2 *)(from + 4) : none;
    return make_uint4(low.x, low.y, high.x, high.y);
}

template <typename S, bool STAGED> struct Held {
    uint4 a[S::A_ROWS], b[S::B_ROWS];
};

template <typename T, typename S> __device__ static inline void store_held(const Held<S, true> &h, T *stage)
{
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++)
        if (place_of<S, S::M>(i) >= 0)
            *(uint4 *)(stage + place_of<S, S::M>(i)) = h.a[i];
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        if (place_of<S, S::N>(i) >= 0)
            *(uint4 *)(stage + S::M * TILE_DEPTH + place_of<S, S::N>(i)) = h.b[i];
}

template <typename S> struct Fragments {
    unsigned a[S::WM / 16][4], b[S::WN / 16][4]; /* b: two columns of tiles */
};

/* Deep, of f32, which ldmatrix does not turn: word by word. Which of the depth a product calls t and t+4 is
 * up to both operands; they are rows 2t and 2t+1, whose swizzles keep a warp's words in different banks. r:
 * columns n and n+8 of both rows. */
template <int WIDTH> __device__ static inline void load_turned(unsigned r[4], const unsigned *rows, int n)
{
    const int row = threadIdx.x % 4 * 2, column = n + threadIdx.x % WARP / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = column + i / 2 * 8;
        r[i] = rows[deep_place<WIDTH * 2>(row + i % 2, at / 4) / 2 + at % 4];
    }
}
template <typename S>
__device__ static inline void load_deep_tf32(Fragments<S> &f, const unsigned *stage, int second, int down,
                                             int across)
{
    const unsigned *b = stage + S::M * S::DEEP_STEP + second * 8 * S::N;
    stage += second * 8 * S::M;
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++) {
        unsigned r[4];
        load_turned<S::M>(r, stage, down + i * 16);
        f.a[i][0] = r[0], f.a[i][1] = r[2], f.a[i][2] = r[1], f.a[i][3] = r[3];
    }
#pragma unroll
    for (int j = 0; j < S::WN / 16; j++)
        load_turned<S::N>(f.b[j], b, across + j * 16);
}

/* The warp's rows of half a step, the first or the second. */
template <typename T, typename S>
__device__ static inline void load_fragments(Fragments<S> &f, const T *stage, int second)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int down = warp / S::ACROSS * S::WM, across = warp % S::ACROSS * S::WN;
    if constexpr (S::DEEP && S::PARTS == 2) {
        load_deep_tf32(f, (const unsigned *)stage, second, down, across);
    } else if constexpr (S::DEEP) {
        const T *b = stage + S::M * TILE_DEPTH + second * 16 * S::N;
        stage += second * 16 * S::M;
#pragma unroll
        for (int i = 0; i < S::WM / 16; i++)
            ldmatrix_x4_transposed(f.a[i], stage + deep_place<S::M>(lane / 16 * 8 + lane % 8,
                                                                    (down + i * 16) / CHUNK + lane / 8 % 2));
#pragma unroll
        for (int j = 0; j < S::WN / 16; j++)
            ldmatrix_x4_transposed(f.b[j],
                                   b + deep_place<S::N>(lane % 16, (across + j * 16) / CHUNK + lane / 16));
    } else {
        const T *a = stage + down * TILE_DEPTH + chunk_place(lane % 16, second * 2 + lane / 16);
        const T *b = stage + (S::M + across) * TILE_DEPTH +
                     chunk_place(lane / 16 * 8 + lane % 8, second * 2 + lane / 8 % 2);
#pragma unroll
        for (int i = 0; i < S::WM / 16; i++)
            ldmatrix_x4(f.a[i], a + i * 16 * TILE_DEPTH);
#pragma unroll
        for (int j = 0; j < S::WN / 16; j++)
            ldmatrix_x4(f.b[j], b + j * 16 * TILE_DEPTH);
    }
}

/* Of elements of T, or d being whole numbers, of two bytes each: T is their pair then. */
template <typename T>
__device__ static inline void multiply_tile(float d[4], const unsigned a[4], const unsigned b[2])
{
    mma_32_bytes<Number<T>>(d, a, b);
}
template <typename T>
__device__ static inline void multiply_tile(int d[4], const unsigned a[4], const unsigned b[2])
{
    mma_16x8x32_bytes(d, a, b);
}

template <typename T, typename S, typename D>
__device__ static inline void multiply_fragments(D d[S::WM / 16][S::WN / 8][4], Fragments<S> &f)
{
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++)
        to_operand<Number<T>>(f.a[i]);
#pragma unroll
    for (int j = 0; j < S::WN / 16; j++)
        to_operand<Number<T>>(f.b[j]);
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++)
#pragma unroll
        for (int j = 0; j < S::WN / 8; j++)
            multiply_tile<T>(d[i][j], f.a[i], f.b[j / 2] + j % 2 * 2);
}

template <typename T, typename S, typename D>
__device__ static inline void multiply_stage(D d[S::WM / 16][S::WN / 8][4], const T *stage)
{
    Fragments<S> f[2];
    load_fragments<T, S>(f[0], stage, 0);
    load_fragments<T, S>(f[1], stage, 1); /* under way while the first half is multiplied */
    multiply_fragments<T, S>(d, f[0]);
    multiply_fragments<T, S>(d, f[1]);
}

/* What becomes of a step that is there; special where B lies otherwise in a stage. */
template <typename S> struct Step {
    template <typename T, typename D>
    __device__ static inline void multiply(D d[S::WM / 16][S::WN / 8][4], const T *stage)
    {
        multiply_stage<T, S>(d, stage);
    }
};

template <bool STAGED, typename T, typename S, typename Source, typename D>
__device__ static inline void multiply_tiles_as(Source &from, int steps, D d[S::WM / 16][S::WN / 8][4],
                                                T *shared)
{
    Held<S, STAGED> held;
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++)
#pragma unroll
        for (int j = 0; j < S::WN / 8; j++)
            d[i][j][0] = d[i][j][1] = d[i][j][2] = d[i][j][3] = 0;
    if constexpr (STAGED) {
        if (steps > 0) {
            fetch_step(from, held, shared);
            store_held(held, shared);
        }
        __syncthreads();
        for (int k = 0; k < steps; k++) {
            T *const next = shared + (k + 1) % 2 * S::STAGE;
            if (k + 1 < steps)
                fetch_step(from, held, next);
            Step<S>::multiply(d, shared + k % 2 * S::STAGE);
            if (k + 1 < steps)
                store_held(held, next);
            __syncthreads();
        }
        return;
    } else {
#pragma unroll
        for (int k = 0; k < STAGES - 1; k++) {
            if (k < steps)
                fetch_step(from, held, shared + k * S::STAGE);
            copy_async_commit();
        }
        int now = 0, free = STAGES - 1; /* stages */
        for (int k = 0; k < steps; k++) {
            copy_async_wait<STAGES - 2>();
            __syncthreads(); /* this step is there for all, and nobody reads the one before any more */
            if (k + STAGES - 1 < steps)
                fetch_step(from, held, shared + free * S::STAGE);
            copy_async_commit();
            Step<S>::multiply(d, shared + now * S::STAGE);
            now = now == STAGES - 1 ? 0 : now + 1;
            free = free == STAGES - 1 ? 0 : free + 1;
        }
        copy_async_wait<0>();
        __syncthreads(); /* shared memory is free for what follows */
    }
}

/* d = the products of `steps` steps. fetch_step(from, held, stage), which Source brings along, begins the
 * copies of the next one. ALWAYS: they go through registers on every card. */
template <bool ALWAYS, typename T, typename S, typename Source, typename D>
__device__ static inline void multiply_tiles(Source &from, int steps, D d[S::WM / 16][S::WN / 8][4],
                                             T *shared)
{
    if constexpr (ALWAYS)
        multiply_tiles_as<true, T, S>(from, steps, d, shared);
    else if (COPIES_STAGED)
        multiply_tiles_as<true, T, S>(from, steps, d, shared);
    else
        multiply_tiles_as<false, T, S>(from, steps, d, shared);
}

/* Bytes of shared memory: the stages, or what end_tile needs. */
template <typename S> static inline size_t tile_shared(bool staged)
{
    const size_t stages = (size_t)(staged ? STAGED_STAGES : STAGES) * S::STAGE * 2;
    const size_t end = (size_t)S::DOWN * S::ACROSS * 16 * (S::WN + 8) * sizeof(float);
    return stages > end ? stages : end;
}

/* Two or eight neighbours at once. */
__device__ static inline void put_two(float *to, float x, float y)
{
    *(float2 *)to = make_float2(x, y);
}
__device__ static inline void put_two(int *to, int x, int y)
{
    *(int2 *)to = make_int2(x, y);
}
template <typename D> struct Run {
    D at[8];
};
__device__ static inline Run<float> read_run(const float *from)
{
    const float4 low = *(const float4 *)from, high = *(const float4 *)(from + 4);
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}
__device__ static inline Run<int> read_run(const int *from)
{
    const int4 low = *(const int4 *)from, high = *(const int4 *)(from + 4);
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

/* 16 of a warp's rows into shared memory, WN + 8 numbers apart, so that the rows of a fragment are in
 * different banks. */
template <typename S, typename D>
__device__ static inline void rows_to_shared(const D d[S::WN / 8][4], D *rows)
{
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    __syncwarp(); /* the rows before have been read */
#pragma unroll
    for (int j = 0; j < S::WN / 8; j++) {
        put_two(rows + g * (S::WN + 8) + j * 8 + t * 2, d[j][0], d[j][1]);
        put_two(rows + (g + 8) * (S::WN + 8) + j * 8 + t * 2, d[j][2], d[j][3]);
    }
    __syncwarp();
}

/* Hands D out by runs of 8 columns: end(row, column, run). */
template <typename S, typename D, typename End>
__device__ static inline void end_tile(const D d[S::WM / 16][S::WN / 8][4], D *shared, End end)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int down = warp / S::ACROSS * S::WM, across = warp % S::ACROSS * S::WN;
    constexpr int LINE = S::WN + 8, RUNS = S::WN / 8;
    D *const mine = shared + warp * 16 * LINE;
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++) {
        rows_to_shared<S>(d[i], mine);
        for (int at = lane; at < 16 * RUNS; at += WARP) {
            Run<D> run = read_run(mine + at / RUNS * LINE + at % RUNS * 8);
            end(down + i * 16 + at / RUNS, across + at % RUNS * 8, run.at);
        }
    }
}

/* The same where a warp's columns are two halves that belong together: end(row, column of N / 2, run, run of
 * the other half). */
template <typename S, typename End>
__device__ static inline void end_tile_halves(const float d[S::WM / 16][S::WN / 8][4], float *shared, End end)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int down = warp / S::ACROSS * S::WM, across = warp % S::ACROSS * (S::WN / 2);
    constexpr int LINE = S::WN + 8, RUNS = S::WN / 16;
    float *const mine = shared + warp * 16 * LINE;
#pragma unroll
    for (int i = 0; i < S::WM / 16; i++) {
        rows_to_shared<S>(d[i], mine);
        for (int at = lane; at < 16 * RUNS; at += WARP) {
            const float *row = mine + at / RUNS * LINE + at % RUNS * 8;
            Run<float> run = read_run(row), other = read_run(row + S::WN / 2);
            end(down + i * 16 + at / RUNS, across + at % RUNS * 8, run.at, other.at);
        }
    }
}

/* Which tile ---------------------------------------------------------------------------------------------
 *
 * Rough clocks, for choosing: chips of data centres multiply 1024 pairs a clock of a multiprocessor and get
 * 40 bytes of the L2 cache, the others 256 (with f32 sums) and 16. Of TF32 half as many pairs, which are half
 * of what is counted here. */
static inline bool is_data_centre()
{
    const CudaCard *c = cuda_card();
    return c->major == 9 || c->major == 10 || (c->major == 8 && c->minor == 0);
}
static inline double cache_clocks(double bytes) /* of all multiprocessors together */
{
    return bytes / ((is_data_centre() ? 40 : 16) * (double)cuda_card()->processors);
}

/* So many blocks, shared evenly by the multiprocessors: a step takes what is the tightest of products, shared
 * memory (128 bytes a clock: copies in, fragments out) and cache; longer where four warps are alone and
 * nobody multiplies while they wait; beginning and end. */
template <typename S> static inline double tile_clocks(double blocks, int64_t steps)
{
    constexpr double ROW = TILE_DEPTH * 2; /* bytes */
    const double processors = cuda_card()->processors;
    const double turns = (double)(int64_t)((blocks + processors - 1) / processors);
    const double products = (double)S::M * S::N * TILE_DEPTH / (is_data_centre() ? 1024 : 256);
    const double shared = ROW * (S::M + S::N + S::DOWN * S::ACROSS * (S::WM + S::WN)) / 128;
    const double cache = cache_clocks(ROW * (S::M + S::N) * processors);
    const double most = products > shared ? products : shared;
    const double alone = turns < 2 && S::THREADS < 256 ? 1.3 : 1;
    return turns * (alone * (most > cache ? most : cache) * (double)steps + 1500);
}

#endif
