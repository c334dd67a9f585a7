/* Vectors of f32 in this instruction set's own width: VL lanes, 16 (avx512), 8 (avx2) or 4 (baseline).
 *
 * vf and vi are the compiler's vectors: + - * / and comparisons work on them (a comparison gives a vi of 0
 * and -1); wider-than-native vectors were tried and left: gcc keeps them in memory across loops. Storage may
 * be f32, bf16 or f16: vec_get and vec_put take the type, which folds away where it is a constant (WITH_DTYPE
 * below), and the _n forms take 1 … VL elements, lanes beyond them reading as 0. Rounding is to nearest even;
 * NaN stays NaN through everything here but vec_min and vec_max, which keep their second argument's alone.
 * Sums over lanes are pairwise, always in the same order. */
#ifndef ATL_CPU_VEC_H
#define ATL_CPU_VEC_H

#include "kernels/tensor.h"

#include <string.h>
#ifdef ATL_X86
#include <immintrin.h>
#endif

#if defined(ATL_X86) && defined(__AVX512F__)
#define VL 16
#elif defined(ATL_X86) && defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint16_t vh __attribute__((vector_size(2 * VL)));
typedef float vf_mem __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef uint16_t vh_mem __attribute__((vector_size(2 * VL), aligned(2), may_alias));

#define VEC static inline __attribute__((always_inline, unused))

/* CASE(1) … CASE(12), for a switch that calls a micro-kernel with its number of rows as a constant: only then
 * does the compiler keep a sum for each row in a register. */
#define EACH_TO_12(CASE)                                                                                     \
    CASE(1)                                                                                                  \
    CASE(2)                                                                                                  \
    CASE(3)                                                                                                  \
    CASE(4)                                                                                                  \
    CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)

VEC vf vec_set(float x)
{
    return x - (vf){0}; /* a splat: x - 0 is x, whatever x is */
}
VEC vi vec_bits(vf x)
{
    return (vi)x;
}
VEC vf vec_from_bits(vi x)
{
    return (vf)x;
}
/* mask ? a : b, lane by lane; mask lanes are 0 or -1. */
VEC vf vec_select(vi mask, vf a, vf b)
{
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
VEC vf vec_abs(vf x)
{
    return (vf)((vi)x & 0x7fffffff);
}
/* The smaller / the larger; b where either is NaN: what may be NaN and has to stay so goes second. */
VEC vf vec_min(vf a, vf b)
{
#if VL == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vec_select(a < b, a, b);
#endif
}
VEC vf vec_max(vf a, vf b)
{
#if VL == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vec_select(a > b, a, b);
#endif
}
VEC vf vec_sqrt(vf x)
{
#if VL == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif VL == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    vf y;
    for (int i = 0; i < VL; i++)
        y[i] = __builtin_sqrtf(x[i]);
    return y;
#endif
}

/* Sum and largest over the lanes, by halves: lane i with lane i + VL/2 first. */
#if VL >= 8
VEC __m256 vec_lower(vf x)
{
#if VL == 16
    return _mm512_castps512_ps256((__m512)x);
#else
    return (__m256)x;
#endif
}
VEC float vec_sum(vf x)
{
    __m256 a = vec_lower(x);
#if VL == 16
    a = _mm256_add_ps(a, _mm512_extractf32x8_ps((__m512)x, 1));
#endif
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
VEC float vec_largest(vf x)
{
    __m256 a = vec_lower(x);
#if VL == 16
    a = _mm256_max_ps(a, _mm512_extractf32x8_ps((__m512)x, 1));
#endif
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
#else
VEC float vec_sum(vf x)
{
    return (x[0] + x[2]) + (x[1] + x[3]);
}
VEC float vec_largest(vf x)
{
    const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}
#endif

/* Loading and storing VL elements ----------------------------------------------------------------------- */

VEC vf vec_load(const float *p)
{
    return *(const vf_mem *)p;
}
VEC void vec_store(float *p, vf x)
{
    *(vf_mem *)p = x;
}

/* By hand where gcc's own conversions between 16 and 32 bits take detours. */
VEC vf vec_from_bf16(vh h)
{
#if VL == 16
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#elif VL == 8
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}
VEC vh vec_to_bf16(vf x)
{
    const vu u = (vu)x, upper = u >> 16, rounded = (u + 0x7fff + (upper & 1)) >> 16;
#if VL == 16
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
    const __m512i y = _mm512_mask_or_epi32((__m512i)rounded, nan, (__m512i)upper, _mm512_set1_epi32(0x40));
    return (vh)_mm512_cvtepi32_epi16(y);
#elif VL == 8
    const __m256 nan = _mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q);
    const __m256i y = (__m256i)_mm256_blendv_ps((__m256)rounded, (__m256)(upper | 0x40), nan);
    return (vh)_mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
#else
    const vu nan = (vu)(x != x);
    return __builtin_convertvector(((upper | 0x40) & nan) | (rounded & ~nan), vh);
#endif
}
VEC vf vec_from_f16(vh h)
{
#if VL == 16
    return (vf)_mm512_cvtph_ps((__m256i)h);
#elif VL == 8
    return (vf)_mm256_cvtph_ps((__m128i)h);
#else
    vf x;
    for (int i = 0; i < VL; i++)
        x[i] = f16_to_f32(h[i]);
    return x;
#endif
}
VEC vh vec_to_f16(vf x)
{
#if VL == 16
    return (vh)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif VL == 8
    return (vh)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    vh h;
    for (int i = 0; i < VL; i++)
        h[i] = f32_to_f16(x[i]);
    return h;
#endif
}

/* Elements i … i+VL-1 of storage p of type t (f32, bf16, f16). */
VEC vf vec_get(const void *p, DType t, int64_t i)
{
    if (t == DTYPE_F32)
        return vec_load((const float *)p + i);
    const vh h = *(const vh_mem *)((const uint16_t *)p + i);
    return t == DTYPE_BF16 ? vec_from_bf16(h) : vec_from_f16(h);
}
VEC void vec_put(void *p, DType t, int64_t i, vf x)
{
    if (t == DTYPE_F32)
        vec_store((float *)p + i, x);
    else
        *(vh_mem *)((uint16_t *)p + i) = t == DTYPE_BF16 ? vec_to_bf16(x) : vec_to_f16(x);
}
/* The same for n elements, 1 ≤ n ≤ VL; lanes from n on read as 0 and are not written. */
VEC vf vec_get_n(const void *p, DType t, int64_t i, int n)
{
    if (n == VL)
        return vec_get(p, t, i);
    if (t == DTYPE_F32) {
#if VL == 16
        return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), (const float *)p + i);
#else
        vf x = {0};
        for (int j = 0; j < n; j++)
            x[j] = ((const float *)p)[i + j];
        return x;
#endif
    }
    vh h = {0};
    for (int j = 0; j < n; j++)
        h[j] = ((const uint16_t *)p)[i + j];
    return t == DTYPE_BF16 ? vec_from_bf16(h) : vec_from_f16(h);
}
VEC void vec_put_n(void *p, DType t, int64_t i, vf x, int n)
{
    if (n == VL) {
        vec_put(p, t, i, x);
    } else if (t == DTYPE_F32) {
#if VL == 16
        _mm512_mask_storeu_ps((float *)p + i, (__mmask16)((1u << n) - 1), (__m512)x);
#else
        for (int j = 0; j < n; j++)
            ((float *)p)[i + j] = x[j];
#endif
    } else {
        const vh h = t == DTYPE_BF16 ? vec_to_bf16(x) : vec_to_f16(x);
        for (int j = 0; j < n; j++)
            ((uint16_t *)p)[i + j] = h[j];
    }
}
/* How many of the elements from i on, up to VL, lie before n. */
VEC int vec_part(int64_t i, int64_t n)
{
    return n - i < VL ? (int)(n - i) : VL;
}
/* n numbers in 8 bits, 1 ≤ n ≤ VL; lanes from n on are 0. */
VEC vf vec_get_i8(const int8_t *p, int n)
{
    int8_t part[VL] = {0};
    if (n < VL) {
        for (int j = 0; j < n; j++)
            part[j] = p[j];
        p = part;
    }
#if VL == 16
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
#elif VL == 8
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
#else
    vf x;
    for (int j = 0; j < VL; j++)
        x[j] = (float)p[j];
    return x;
#endif
}
VEC float get_float(const void *p, DType t, int64_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    const uint16_t h = ((const uint16_t *)p)[i];
    return t == DTYPE_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}
VEC void put_float(void *p, DType t, int64_t i, float x)
{
    if (t == DTYPE_F32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = t == DTYPE_BF16 ? f32_to_bf16(x) : f32_to_f16(x);
}
VEC char *at_element(const void *p, DType t, int64_t i)
{
    return (char *)p + (t == DTYPE_F32 ? 4 : t == DTYPE_I8 ? 1 : 2) * i;
}

/* Runs `call`, in which T is the type t (of floats: floats.h) as a constant: a copy of the loop for each
 * storage type. */
#define WITH_DTYPE(t, call)                                                                                  \
    do {                                                                                                     \
        if ((t) == DTYPE_F32) {                                                                              \
            const DType T = DTYPE_F32;                                                                       \
            call;                                                                                            \
        } else if ((t) == DTYPE_BF16) {                                                                      \
            const DType T = DTYPE_BF16;                                                                      \
            call;                                                                                            \
        } else {                                                                                             \
            const DType T = DTYPE_F16;                                                                       \
            call;                                                                                            \
        }                                                                                                    \
    } while (0)

/* The halves of two vectors, one from each in turn: a0 b0 a1 b1 …, from the first or the second half on. */
#if VL == 16
#define ZIP(from)                                                                                            \
    (vi)                                                                                                     \
    {                                                                                                        \
        from, from + 16, from + 1, from + 17, from + 2, from + 18, from + 3, from + 19, from + 4, from + 20, \
            from + 5, from + 21, from + 6, from + 22, from + 7, from + 23                                    \
    }
#elif VL == 8
#define ZIP(from) ((vi){from, from + 8, from + 1, from + 9, from + 2, from + 10, from + 3, from + 11})
#else
#define ZIP(from) ((vi){from, from + 4, from + 1, from + 5})
#endif

/* x (VL,VL) transposed in place: rows i and i + VL/2 zipped, as often as VL can be halved. */
VEC void vec_transpose(vf x[VL])
{
#pragma GCC unroll 4
    for (int round = 1; round < VL; round *= 2) {
        vf y[VL];
#pragma GCC unroll 16
        for (int i = 0; i < VL / 2; i++) {
            y[2 * i] = __builtin_shuffle(x[i], x[i + VL / 2], ZIP(0));
            y[2 * i + 1] = __builtin_shuffle(x[i], x[i + VL / 2], ZIP(VL / 2));
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++)
            x[i] = y[i];
    }
}

/* Functions --------------------------------------------------------------------------------------------- */

/* e^x within about 1 ulp (Cephes expf: x = n ln 2 + r, polynomial in r, times 2^n in two factors so that the
 * ends are right: 0 below -104, denormals above it, infinity from 88.73 on). */
VEC vf vec_exp(vf x)
{
    const float magic =
        12582912.0f; /* 1.5 · 2^23: adding it rounds to an integer, which the low bits then hold */
    x = vec_min(vec_set(89.0f), vec_max(vec_set(-104.0f), x));
    const vf shifted = x * 1.44269504088896341f + magic;
    const vf n = shifted - magic;
    vf r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const vi e = (vi)shifted - 0x4b400000, first = e >> 1;
    return p * (vf)((first + 127) << 23) * (vf)((e - first + 127) << 23);
}
/* 1 / (1 + e^-x) */
VEC vf vec_sigmoid(vf x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}
/* erf within about 1 ulp, after N. Juffa's erff: an odd polynomial near 0, 1 - e^polynomial beyond. */
VEC vf vec_erf(vf x)
{
    const vf t = vec_min(vec_set(4.5f), vec_abs(x)), s = t * t;
    vf near = s * -5.96761703e-4f + 4.99119423e-3f;
    near = near * s + -2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s + -3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    near = near * x + x;
    vf far = (t * -1.72853470e-5f + 3.83197126e-4f) * s + (t * -3.88396438e-3f + 2.42546219e-2f);
    far = far * t + -1.06777877e-1f;
    far = far * t + -6.34846687e-1f;
    far = far * t + -1.28717512e-1f;
    far = 1.0f - vec_exp(far * t - t);
    far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000));
    return vec_select(vec_abs(x) > 0.927734375f, far, near);
}

#endif
