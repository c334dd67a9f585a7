/* How the gradients of a norm's weight and bias come together: kernels leave a row of partial sums for each
 * of their pieces, which are added up here, always in the same order, and to what is there. */
#ifndef ATL_CUDA_NORM_WEIGHTS_H
#define ATL_CUDA_NORM_WEIGHTS_H

#include "kernels/cuda/base/kernel.h"

#define NORM_WEIGHTS_WARPS 8

/* partial (pieces,2,C): of w and of b; block (32 columns, w or b), whose warps share out the pieces */
__global__ static void norm_weights_kernel(const float *partial, int64_t pieces, int64_t C, float *grad_w,
                                           float *grad_b)
{
    SHARED(float, room); /* (NORM_WEIGHTS_WARPS, WARP) */
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int64_t c = (int64_t)blockIdx.x * WARP + lane;
    float *const grad = blockIdx.y ? grad_b : grad_w;
    float sum = 0;
    for (int64_t i = warp; c < C && i < pieces; i += NORM_WEIGHTS_WARPS)
        sum += partial[(i * 2 + blockIdx.y) * C + c];
    room[warp * WARP + lane] = sum;
    __syncthreads();
    if (warp > 0 || c >= C || !grad)
        return;
    for (int i = 1; i < NORM_WEIGHTS_WARPS; i++)
        sum += room[i * WARP + lane];
    grad[c] += sum;
}

static inline size_t norm_weights_bytes(int64_t pieces, int64_t C)
{
    return (size_t)(pieces * 2 * C) * sizeof(float);
}

/* Either gradient may be NULL. */
static inline Status norm_weights(const float *partial, int64_t pieces, int64_t C, Tensor *grad_w,
                                  Tensor *grad_b)
{
    return LAUNCH(dim3(blocks_for(C, WARP), 2), dim3(NORM_WEIGHTS_WARPS * WARP),
                  NORM_WEIGHTS_WARPS * WARP * sizeof(float), norm_weights_kernel, partial, pieces, C,
                  grad_w ? (float *)grad_w->data : NULL, grad_b ? (float *)grad_b->data : NULL);
}

#endif
