/* Kronecker products, which adapters of the kind LoKr are made of, all f32: a (A,B), b (C,D), y and grad y
 * (AC,BD); row i·C+k of y is row i of a, each element times row k of b. On the CPU they stand in linear.c. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"

#define THREADS 256

typedef struct Kronecker {
    const float *a, *b;
    int A, B, C, D;
} Kronecker;

static Kronecker kronecker_of(const Tensor *a, const Tensor *b)
{
    Kronecker s = {};
    s.a = (const float *)a->data;
    s.b = (const float *)b->data;
    s.A = (int)a->shape[0];
    s.B = (int)(tensor_count(a) / a->shape[0]);
    s.C = (int)b->shape[0];
    s.D = (int)(tensor_count(b) / b->shape[0]);
    return s;
}

/* Where in y part j of row i·C+k begins. */
__device__ static inline int64_t part_of(const Kronecker &s, int i, int j, int k)
{
    return (((int64_t)i * s.C + k) * s.B + j) * s.D;
}

/* A thread has N neighbours of one row of b. */
template <int N> __global__ static void kronecker_kernel(Kronecker s, float factor, Floats b, Floats y)
{
    const unsigned at = blockIdx.x * THREADS + threadIdx.x, packs = (unsigned)s.D / N;
    const unsigned part = at / packs, row = part / (unsigned)s.B;
    const int j = (int)(part - row * s.B), i = (int)(row / s.C), k = (int)row % s.C;
    const int l = (int)(at - part * packs) * N;
    float x[N];
    if (i >= s.A)
        return;
    const float scale = factor * s.a[i * s.B + j];
    load<float, N>(b, (int64_t)k * s.D + l, x);
#pragma unroll
    for (int n = 0; n < N; n++)
        x[n] *= scale;
    store<float, N>(y, part_of(s, i, j, k) + l, x);
}

static Status cuda_kronecker(float factor, const Tensor *a, const Tensor *b, Tensor *y)
{
    const Kronecker s = kronecker_of(a, b);
    WITH_WIDTH(is_packed(b, s.D) && is_packed(y, s.D), float, N,
               return LAUNCH(dim3(blocks_for(tensor_count(y), THREADS * N)), dim3(THREADS), 0,
                             (kronecker_kernel<N>), s, factor, floats_of(b), floats_of(y)));
}

/* grad a[i,j] += factor Σ_kl of row i·C+k's part j with row k of b: a block for each. */
__global__ static void kronecker_a_kernel(Kronecker s, float factor, const float *grad_y, float *grad_a)
{
    SHARED(float, room);
    const int i = blockIdx.x / s.B, j = blockIdx.x % s.B;
    float sum = 0;
    for (int64_t e = threadIdx.x; e < (int64_t)s.C * s.D; e += THREADS) {
        const unsigned k = (unsigned)e / (unsigned)s.D;
        sum += grad_y[part_of(s, i, j, (int)k) + (int)((unsigned)e - k * s.D)] * s.b[e];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        grad_a[blockIdx.x] += factor * sum;
}

#define SPLIT (THREADS / WARP)

/* grad b[k,l] += factor Σ_ij a[i,j] times row i·C+k's part j: block (32 columns, row k), whose warps share
 * out the elements of a. */
__global__ static void kronecker_b_kernel(Kronecker s, float factor, const float *grad_y, float *grad_b)
{
    SHARED(float, room); /* (SPLIT, WARP) */
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, k = blockIdx.y;
    const int l = (int)blockIdx.x * WARP + lane;
    float sum = 0;
    for (int e = warp; l < s.D && e < s.A * s.B; e += SPLIT)
        sum += s.a[e] * grad_y[part_of(s, e / s.B, e % s.B, k) + l];
    room[warp * WARP + lane] = sum;
    __syncthreads();
    if (warp > 0 || l >= s.D)
        return;
    for (int w = 1; w < SPLIT; w++)
        sum += room[w * WARP + lane];
    grad_b[(int64_t)k * s.D + l] += factor * sum;
}

static Status cuda_kronecker_backward(float factor, const Tensor *a, const Tensor *b, const Tensor *grad_y,
                                      Tensor *grad_a, Tensor *grad_b)
{
    const Kronecker s = kronecker_of(a, b);
    const float *g = (const float *)grad_y->data;
    if (grad_a)
        TRY(LAUNCH(dim3((unsigned)(s.A * s.B)), dim3(THREADS), SPLIT * sizeof(float), kronecker_a_kernel, s,
                   factor, g, (float *)grad_a->data));
    if (grad_b)
        TRY(LAUNCH(dim3(blocks_for(s.D, WARP), (unsigned)s.C), dim3(THREADS), THREADS * sizeof(float),
                   kronecker_b_kernel, s, factor, g, (float *)grad_b->data));
    return STATUS_OK;
}

void cuda_kronecker_table(Device *d)
{
    d->kronecker = cuda_kronecker;
    d->kronecker_backward = cuda_kronecker_backward;
}
