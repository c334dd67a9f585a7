/* Losses.
 *
 * Predictions are latents, 16384 numbers a sample, so one block takes them all, sample after sample: each
 * thread sums every 512th pack in f32, the threads' sums are added in double, in order. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/packs.h"

#define THREADS 512

/* p, t (B,n): per-sample means of (p - t)²; loss = Σ weight (p - t)² / (n B). A weight stands for a span of
 * `length` elements: a whole sample, or the channels of one position. weight and per_sample: or NULL. */
template <typename T, int N>
__global__ static void __launch_bounds__(THREADS)
    mse_kernel(Floats p, Floats t, const float *weight, float *loss, float *per_sample, int B, int64_t n,
               unsigned length)
{
    SHARED(double, room); /* a double for each warp */
    double total = 0;
    for (int b = 0; b < B; b++) {
        float plain = 0, weighted = 0;
        for (int64_t i = b * n + threadIdx.x * N; i < (b + 1) * n; i += THREADS * N) {
            float x[N], y[N];
            load<T, N>(p, i, x);
            load<T, N>(t, i, y);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float d = x[j] - y[j];
                plain += d * d;
                if (weight)
                    weighted += weight[(unsigned)(i + j) / length] * (d * d);
            }
        }
        const double mean = block_sum((double)plain, room) / (double)n;
        if (per_sample && threadIdx.x == 0)
            per_sample[b] = (float)mean;
        total += weight ? block_sum((double)weighted, room) / (double)n : mean;
    }
    if (threadIdx.x == 0)
        *loss = (float)(total / (double)B);
}

static Status cuda_mse_loss(const Tensor *p, const Tensor *t, const Tensor *weight, Tensor *loss,
                            Tensor *per_sample)
{
    FLOATS_ONLY(p, t);
    const int64_t B = p->shape[0], n = tensor_count(p) / B;
    const int64_t length = tensor_count(p) / (weight ? tensor_count(weight) : B);
    WITH_PACKS(is_packed(p, n) && is_packed(t, n), p->dtype == t->dtype, p->dtype, T, N,
               return LAUNCH(dim3(1), dim3(THREADS), THREADS / WARP * sizeof(double), (mse_kernel<T, N>),
                             floats_of(p), floats_of(t), weight ? (const float *)weight->data : NULL,
                             (float *)loss->data, per_sample ? (float *)per_sample->data : NULL, (int)B, n,
                             (unsigned)length));
}

/* grad_p = grad_loss weight 2 (p - t) / (n B); factor: 2 / (n B) */
template <typename T, int N>
__global__ static void mse_backward_kernel(Floats p, Floats t, const float *weight, const float *grad_loss,
                                           Floats grad_p, int64_t count, unsigned length, float factor)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    float x[N], y[N];
    if (i >= count)
        return;
    load<T, N>(p, i, x);
    load<T, N>(t, i, y);
    const float g = *grad_loss * factor;
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] = (x[j] - y[j]) * (weight ? g * weight[(unsigned)(i + j) / length] : g);
    store<T, N>(grad_p, i, x);
}

static Status cuda_mse_loss_backward(const Tensor *p, const Tensor *t, const Tensor *weight,
                                     const Tensor *grad_loss, Tensor *grad_p)
{
    FLOATS_ONLY(p, t, grad_p);
    const int64_t n = tensor_count(p), length = n / (weight ? tensor_count(weight) : 1);
    WITH_PACKS(is_packed(p, n) && is_packed(t, n) && is_packed(grad_p, n),
               p->dtype == t->dtype && p->dtype == grad_p->dtype, p->dtype, T, N,
               return LAUNCH(dim3(blocks_for(n, THREADS * N)), dim3(THREADS), 0, (mse_backward_kernel<T, N>),
                             floats_of(p), floats_of(t), weight ? (const float *)weight->data : NULL,
                             (const float *)grad_loss->data, floats_of(grad_p), n, (unsigned)length,
                             (float)(2.0 / (double)n)));
}

void cuda_loss_table(Device *d)
{
    d->mse_loss = cuda_mse_loss;
    d->mse_loss_backward = cuda_mse_loss_backward;
}
