/* Elementwise arithmetic: activations, sums and products, sums over the positions of a picture, copies.
 *
 * All of it is bound by memory: a thread takes one pack (packs.h), a block 256 packs in a row. Sums over rows
 * have blocks of 64 bytes' width, which read 128 rows at a time:
 *
 *              4 packs of neighbouring columns
 *     row 0    t0   t1   t2   t3        Each thread adds up every 128th row of its pack; the 8 rows of a warp
 *     row 1    t4   t5   t6   t7        are added across lanes, the 16 warps in order, through shared memory.
 *     …                                 The narrow block makes enough of them from few columns: 320 channels
 *     row 127  t508 t509 t510 t511      in 16 bits are 10 blocks a picture. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/gelu.h"
#include "kernels/cuda/base/packs.h"

#define THREADS 256

typedef float (*Unary)(float a);
typedef float (*Binary)(float a, float b);

/* Loops ------------------------------------------------------------------------------------------------ */

/* The number of the thread's pack: 32 bits count more of them than a card holds. */
__device__ static inline unsigned pack_number()
{
    return blockIdx.x * THREADS + threadIdx.x;
}

/* A grid for so many packs. */
static dim3 grid_of(int64_t packs)
{
    return dim3(blocks_for(packs, THREADS));
}

template <typename T, int N, Unary F> __global__ static void unary_kernel(Floats a, Floats y, int64_t count)
{
    const int64_t i = (int64_t)pack_number() * N;
    float x[N];
    if (i >= count)
        return;
    load<T, N>(a, i, x);
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] = F(x[j]);
    store<T, N>(y, i, x);
}

template <typename T, int N, Binary F>
__global__ static void binary_kernel(Floats a, Floats b, Floats y, int64_t count)
{
    const int64_t i = (int64_t)pack_number() * N;
    float x[N], z[N];
    if (i >= count)
        return;
    load<T, N>(a, i, x);
    load<T, N>(b, i, z);
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] = F(x[j], z[j]);
    store<T, N>(y, i, x);
}

template <Unary F> static Status unary(const Tensor *a, Tensor *y)
{
    FLOATS_ONLY(a, y);
    const int64_t n = tensor_count(y);
    WITH_PACKS(is_packed(a, n) && is_packed(y, n), a->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(grid_of(n / N), dim3(THREADS), 0, (unary_kernel<T, N, F>), floats_of(a),
                             floats_of(y), n));
}

template <Binary F> static Status binary(const Tensor *a, const Tensor *b, Tensor *y)
{
    FLOATS_ONLY(a, b, y);
    const int64_t n = tensor_count(y);
    WITH_PACKS(is_packed(a, n) && is_packed(b, n) && is_packed(y, n),
               a->dtype == y->dtype && b->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(grid_of(n / N), dim3(THREADS), 0, (binary_kernel<T, N, F>), floats_of(a),
                             floats_of(b), floats_of(y), n));
}

/* Activations ------------------------------------------------------------------------------------------ */

#define QUICK 1.702f

__device__ static inline float quick_gelu_of(float x)
{
    return x * sigmoid_of(x * QUICK);
}
__device__ static inline float quick_gelu_grad_of(float x, float g)
{
    const float s = sigmoid_of(x * QUICK);
    return g * (s * (1.0f + x * QUICK * (1.0f - s)));
}

static Status cuda_silu(const Tensor *x, Tensor *y)
{
    return unary<silu_of>(x, y);
}
static Status cuda_silu_backward(const Tensor *x, const Tensor *grad_y, Tensor *grad_x)
{
    return binary<silu_grad_of>(x, grad_y, grad_x);
}
static Status cuda_gelu(const Tensor *x, Tensor *y)
{
    return unary<gelu_of>(x, y);
}
static Status cuda_gelu_backward(const Tensor *x, const Tensor *grad_y, Tensor *grad_x)
{
    return binary<gelu_grad_of>(x, grad_y, grad_x);
}
static Status cuda_quick_gelu(const Tensor *x, Tensor *y)
{
    return unary<quick_gelu_of>(x, y);
}
static Status cuda_quick_gelu_backward(const Tensor *x, const Tensor *grad_y, Tensor *grad_x)
{
    return binary<quick_gelu_grad_of>(x, grad_y, grad_x);
}

/* Sums and products ------------------------------------------------------------------------------------ */

__device__ static inline float sum_of(float a, float b)
{
    return a + b;
}
__device__ static inline float product_of(float a, float b)
{
    return a * b;
}
__device__ static inline float same_of(float x)
{
    return x;
}

static Status cuda_add(const Tensor *a, const Tensor *b, Tensor *y)
{
    return binary<sum_of>(a, b, y);
}
static Status cuda_multiply(const Tensor *a, const Tensor *b, Tensor *y)
{
    return binary<product_of>(a, b, y);
}
static Status cuda_copy(const Tensor *from, Tensor *to)
{
    return unary<same_of>(from, to);
}

template <typename T, int N> __global__ static void fill_kernel(Floats y, float value, int64_t count)
{
    const int64_t i = (int64_t)pack_number() * N;
    float x[N];
    if (i >= count)
        return;
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] = value;
    store<T, N>(y, i, x);
}

static Status cuda_fill(Tensor *t, float value)
{
    FLOATS_ONLY(t);
    const int64_t n = tensor_count(t);
    WITH_PACKS(is_packed(t, n), true, t->dtype, T, N,
               return LAUNCH(grid_of(n / N), dim3(THREADS), 0, (fill_kernel<T, N>), floats_of(t), value, n));
}

/* GEGLU ------------------------------------------------------------------------------------------------ */

/* x rows are (a, b), both C long; y rows C: a gelu(b) */
template <typename T, int N> __global__ static void geglu_kernel(Floats x, Floats y, int64_t rows, unsigned C)
{
    const unsigned i = pack_number(), packs = C / N, row = i / packs, c = (i - row * packs) * N;
    float a[N], b[N];
    if (row >= rows)
        return;
    load<T, N>(x, (int64_t)row * 2 * C + c, a);
    load<T, N>(x, (int64_t)row * 2 * C + C + c, b);
#pragma unroll
    for (int j = 0; j < N; j++)
        a[j] *= gelu_of(b[j]);
    store<T, N>(y, (int64_t)row * C + c, a);
}

static Status cuda_geglu(const Tensor *x, Tensor *y)
{
    FLOATS_ONLY(x, y);
    const int64_t C = tensor_dim(y, -1), rows = tensor_rows(y);
    WITH_PACKS(is_packed(x, C) && is_packed(y, C), x->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(grid_of(rows * C / N), dim3(THREADS), 0, (geglu_kernel<T, N>), floats_of(x),
                             floats_of(y), rows, (unsigned)C));
}

/* da = g gelu(b), db = g a gelu'(b) */
template <typename T, int N>
__global__ static void geglu_backward_kernel(Floats x, Floats g, Floats dx, int64_t rows, unsigned C)
{
    const unsigned i = pack_number(), packs = C / N, row = i / packs, c = (i - row * packs) * N;
    const int64_t at = (int64_t)row * 2 * C + c;
    float a[N], b[N], gy[N];
    if (row >= rows)
        return;
    load<T, N>(x, at, a);
    load<T, N>(x, at + C, b);
    load<T, N>(g, (int64_t)row * C + c, gy);
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float phi = normal_of(b[j]);
        const float db = gy[j] * a[j] * (phi + b[j] * (RSQRT_2PI * expf(b[j] * b[j] * -0.5f)));
        a[j] = gy[j] * (b[j] * phi);
        b[j] = db;
    }
    store<T, N>(dx, at, a);
    store<T, N>(dx, at + C, b);
}

static Status cuda_geglu_backward(const Tensor *x, const Tensor *grad_y, Tensor *grad_x)
{
    FLOATS_ONLY(x, grad_y, grad_x);
    const int64_t C = tensor_dim(grad_y, -1), rows = tensor_rows(grad_y);
    WITH_PACKS(is_packed(x, C) && is_packed(grad_y, C) && is_packed(grad_x, C),
               x->dtype == grad_y->dtype && x->dtype == grad_x->dtype, x->dtype, T, N,
               return LAUNCH(grid_of(rows * C / N), dim3(THREADS), 0, (geglu_backward_kernel<T, N>),
                             floats_of(x), floats_of(grad_y), floats_of(grad_x), rows, (unsigned)C));
}

/* One vector for many rows: x (B,T,D) + rows (T,D) ----------------------------------------------------- */

/* n = T D */
template <typename T, int N>
__global__ static void add_rows_kernel(Floats x, Floats v, Floats y, int64_t B, unsigned n)
{
    const unsigned i = pack_number(), packs = n / N, b = i / packs, at = (i - b * packs) * N;
    float p[N], q[N];
    if (b >= B)
        return;
    load<T, N>(x, (int64_t)b * n + at, p);
    load<T, N>(v, at, q);
#pragma unroll
    for (int j = 0; j < N; j++)
        p[j] += q[j];
    store<T, N>(y, (int64_t)b * n + at, p);
}

static Status cuda_add_rows(const Tensor *x, const Tensor *rows, Tensor *y)
{
    FLOATS_ONLY(x, rows, y);
    const int64_t B = y->shape[0], n = tensor_count(y) / B;
    WITH_PACKS(is_packed(x, n) && is_packed(rows, n) && is_packed(y, n),
               x->dtype == y->dtype && rows->dtype == y->dtype, y->dtype, T, N,
               return LAUNCH(grid_of(B * n / N), dim3(THREADS), 0, (add_rows_kernel<T, N>), floats_of(x),
                             floats_of(rows), floats_of(y), B, (unsigned)n));
}

/* Sums over rows --------------------------------------------------------------------------------------- */

#define SUM_THREADS 512
#define SUM_ACROSS 4                        /* packs: 64 bytes of a row */
#define SUM_ROWS (SUM_THREADS / SUM_ACROSS) /* at a time */
#define SUM_WARPS (SUM_THREADS / WARP)

/* g (B,P,C) -> y (B,C), or y += that; a block for each 4 packs of columns of each picture */
template <typename T, int N>
__global__ static void __launch_bounds__(SUM_THREADS)
    column_sum_kernel(Floats g, Floats y, int64_t P, int64_t C, bool accumulate)
{
    SHARED(float, room); /* (SUM_WARPS, SUM_ACROSS N) */
    const int across = threadIdx.x % SUM_ACROSS, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int64_t first = (int64_t)blockIdx.x * SUM_ACROSS * N, c = first + across * N;
    const int64_t picture = blockIdx.y * P * C;
    float sum[N] = {};
    if (c < C) {
#pragma unroll 4
        for (int64_t r = threadIdx.x / SUM_ACROSS; r < P; r += SUM_ROWS) {
            float x[N];
            load<T, N>(g, picture + r * C + c, x);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] += x[j];
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        for (int apart = SUM_ACROSS; apart < WARP; apart *= 2)
            sum[j] += __shfl_xor_sync(EVERY_LANE, sum[j], apart);
        if (lane < SUM_ACROSS)
            room[(warp * SUM_ACROSS + lane) * N + j] = sum[j];
    }
    __syncthreads();
    if (threadIdx.x >= SUM_ACROSS * N || first + threadIdx.x >= C)
        return;
    float total = 0;
    for (int w = 0; w < SUM_WARPS; w++)
        total += room[w * SUM_ACROSS * N + threadIdx.x];
    const int64_t i = blockIdx.y * C + first + threadIdx.x;
    store_one(y, i, accumulate ? load_one(y, i) + total : total);
}

static Status sum_columns(const Tensor *g, int64_t B, Tensor *y, bool accumulate)
{
    const int64_t C = tensor_dim(g, -1), P = tensor_rows(g) / B;
    WITH_PACKS(is_packed(g, C), true, g->dtype, T, N,
               return LAUNCH(dim3(blocks_for(C, SUM_ACROSS * N), (unsigned)B), dim3(SUM_THREADS),
                             SUM_WARPS * SUM_ACROSS * N * sizeof(float), (column_sum_kernel<T, N>),
                             floats_of(g), floats_of(y), P, C, accumulate));
}

/* (B,…,C) -> (B,C) */
static Status cuda_sum_per_channel(const Tensor *g, Tensor *v)
{
    FLOATS_ONLY(g, v);
    return sum_columns(g, g->shape[0], v, false);
}

/* Stands in linear.c on the CPU, for its pieces; here it is the one above. */
static Status cuda_column_sum(const Tensor *g, Tensor *out, bool accumulate)
{
    FLOATS_ONLY(g, out);
    return sum_columns(g, 1, out, accumulate);
}

/* rows (n) f32 += sum over B of g (B,n) */
template <typename T, int N>
__global__ static void sum_rows_kernel(Floats g, Floats rows, int64_t B, int64_t n)
{
    const int64_t i = (int64_t)pack_number() * N;
    float sum[N] = {}, x[N];
    if (i >= n)
        return;
    for (int64_t b = 0; b < B; b++) {
        load<T, N>(g, b * n + i, x);
#pragma unroll
        for (int j = 0; j < N; j++)
            sum[j] += x[j];
    }
    load<float, N>(rows, i, x);
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] += sum[j];
    store<float, N>(rows, i, x);
}

static Status cuda_sum_rows(const Tensor *g, Tensor *rows)
{
    FLOATS_ONLY(g, rows);
    const int64_t B = g->shape[0], n = tensor_count(g) / B;
    WITH_PACKS(is_packed(g, n) && is_packed(rows, n), true, g->dtype, T, N,
               return LAUNCH(grid_of(n / N), dim3(THREADS), 0, (sum_rows_kernel<T, N>), floats_of(g),
                             floats_of(rows), B, n));
}

void cuda_pointwise_table(Device *d)
{
    d->copy = cuda_copy;
    d->fill = cuda_fill;
    d->column_sum = cuda_column_sum;
    d->silu = cuda_silu;
    d->silu_backward = cuda_silu_backward;
    d->gelu = cuda_gelu;
    d->gelu_backward = cuda_gelu_backward;
    d->quick_gelu = cuda_quick_gelu;
    d->quick_gelu_backward = cuda_quick_gelu_backward;
    d->geglu = cuda_geglu;
    d->geglu_backward = cuda_geglu_backward;
    d->add = cuda_add;
    d->multiply = cuda_multiply;
    d->sum_per_channel = cuda_sum_per_channel;
    d->add_rows = cuda_add_rows;
    d->sum_rows = cuda_sum_rows;
}
