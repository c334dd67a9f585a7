/* Half precision: the types and the functions that kernels use, as cuda_fp16.h has them. */
#ifndef STAND_IN_CUDA_FP16_H
#define STAND_IN_CUDA_FP16_H

#include <cuda_runtime.h>

struct __half_raw {
    unsigned short x;
};

static inline float stand_in_from_f16(unsigned short bits)
{
    const unsigned sign = (unsigned)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) /* infinity, NaN */
        return __uint_as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    /* 2^112 brings the exponent to float's, subnormal numbers too */
    const float x = __uint_as_float(rest << 13) * 0x1p112f;
    return __uint_as_float(__float_as_uint(x) | sign);
}
/* To nearest, ties to even. */
static inline unsigned short stand_in_to_f16(float x)
{
    const unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000)
        return 0x7fff;      /* NaN */
    if (rest >= 0x477ff000) /* 65520 and above */
        return (unsigned short)(sign | 0x7c00);
    if (rest < 0x38800000) /* subnormal: adding 0.5 leaves multiples of 2^-24 in the lower bits */
        return (unsigned short)(sign | (__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000));
    return (unsigned short)(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
}

struct __half {
    unsigned short bits;
    __half() = default;
    __half(float x) : bits(stand_in_to_f16(x))
    {
    }
    __half(double x) : bits(stand_in_to_f16((float)x))
    {
    }
    __half(int x) : bits(stand_in_to_f16((float)x))
    {
    }
    __half(__half_raw r) : bits(r.x)
    {
    }
    operator float() const
    {
        return stand_in_from_f16(bits);
    }
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

static inline float __half2float(__half x)
{
    return stand_in_from_f16(x.bits);
}
static inline __half __float2half_rn(float x)
{
    return __half(x);
}
static inline __half __float2half(float x)
{
    return __half(x);
}
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__half(x), __half(y)};
}
static inline __half2 __float22half2_rn(float2 v)
{
    return {__half(v.x), __half(v.y)};
}
static inline float2 __half22float2(__half2 v)
{
    return make_float2(__half2float(v.x), __half2float(v.y));
}
static inline float __low2float(__half2 v)
{
    return __half2float(v.x);
}
static inline float __high2float(__half2 v)
{
    return __half2float(v.y);
}
static inline __half2 __halves2half2(__half x, __half y)
{
    return {x, y};
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}
static inline __half __ushort_as_half(unsigned short bits)
{
    return __half(__half_raw{bits});
}

#endif
