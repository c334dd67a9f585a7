/* bfloat16: a float's upper half: the types and the functions that kernels use, as cuda_bf16.h has them. */
#ifndef STAND_IN_CUDA_BF16_H
#define STAND_IN_CUDA_BF16_H

#include <cuda_runtime.h>

struct __nv_bfloat16_raw {
    unsigned short x;
};

static inline float stand_in_from_bf16(unsigned short bits)
{
    return __uint_as_float((unsigned)bits << 16);
}
/* To nearest, ties to even. */
static inline unsigned short stand_in_to_bf16(float x)
{
    const unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return 0x7fff; /* NaN */
    return (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) : bits(stand_in_to_bf16(x))
    {
    }
    __nv_bfloat16(double x) : bits(stand_in_to_bf16((float)x))
    {
    }
    __nv_bfloat16(int x) : bits(stand_in_to_bf16((float)x))
    {
    }
    __nv_bfloat16(__nv_bfloat16_raw r) : bits(r.x)
    {
    }
    operator float() const
    {
        return stand_in_from_bf16(bits);
    }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return stand_in_from_bf16(x.bits);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(__bfloat162float(v.x), __bfloat162float(v.y));
}
static inline float __low2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.x);
}
static inline float __high2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.y);
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}

#endif
