/* Activations, as elementwise operations and as what follows a product or a norm have them. */
#ifndef ATL_CUDA_GELU_H
#define ATL_CUDA_GELU_H

#include "kernel.h"

#define SQRT_HALF 0.70710678118654752f
#define RSQRT_2PI 0.39894228040143268f

/* 1 / (1 + e^-x). The division is the card's own for 1 ulp more: the sum is at least 1, or NaN, and where it
 * is infinite the quotient is 0. */
__device__ static inline float sigmoid_of(float x)
{
    return __fdividef(1.0f, 1.0f + expf(-x));
}

__device__ static inline float silu_of(float x)
{
    return x * sigmoid_of(x);
}
/* d/dx x σ(x) = σ(x) (1 + x (1 - σ(x))) */
__device__ static inline float silu_grad_of(float x, float g)
{
    const float s = sigmoid_of(x);
    return g * (s * (1.0f + x * (1.0f - s)));
}

/* Φ(x) = (1 + erf(x / √2)) / 2, the normal distribution */
__device__ static inline float normal_of(float x)
{
    return 0.5f + 0.5f * erff(x * SQRT_HALF);
}
__device__ static inline float gelu_of(float x)
{
    return x * normal_of(x);
}
/* Φ(x) + x φ(x), φ the normal density */
__device__ static inline float gelu_slope(float x)
{
    return normal_of(x) + x * (RSQRT_2PI * expf(x * x * -0.5f));
}
__device__ static inline float gelu_grad_of(float x, float g)
{
    return g * gelu_slope(x);
}

#endif
