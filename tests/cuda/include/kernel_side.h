/* What kernels use of CUDA C++: qualifiers, indices, vectors, shuffles, arithmetic. */
#ifndef STAND_IN_KERNEL_SIDE_H
#define STAND_IN_KERNEL_SIDE_H

#include "tests/cuda/machine.h"

#include <math.h>
#include <string.h>

#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

#define threadIdx (stand_in_self->index)
#define blockIdx stand_in_block_index
#define blockDim stand_in_block_dim
#define gridDim stand_in_grid_dim
static const int warpSize = STAND_IN_WARP;

/* Makes the kernel known to the machine before it is launched. */
template <typename... P, size_t... I>
static inline void stand_in_call_with(void (*kernel)(P...), void **arguments, std::index_sequence<I...>)
{
    (void)arguments; /* of a kernel without any */
    kernel(*(P *)arguments[I]...);
}
template <typename... P> static inline void stand_in_kernel(const char *name, void (*kernel)(P...))
{
    static const size_t sizes[] = {sizeof(P)..., 0};
    const StandInCall call = [](const void *function, void **arguments) {
        stand_in_call_with((void (*)(P...))function, arguments, std::index_sequence_for<P...>());
    };
    stand_in_register(name, (const void *)kernel, call, (int)sizeof...(P), sizes);
}

/* Vectors ---------------------------------------------------------------------------------------------- */

#define STAND_IN_VECTORS(T, name)                                                                            \
    struct alignas(2 * sizeof(T)) name##2                                                                    \
    {                                                                                                        \
        T x, y;                                                                                              \
    };                                                                                                       \
    struct name##3                                                                                           \
    {                                                                                                        \
        T x, y, z;                                                                                           \
    };                                                                                                       \
    struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4                                          \
    {                                                                                                        \
        T x, y, z, w;                                                                                        \
    };                                                                                                       \
    static inline name##2 make_##name##2(T x, T y)                                                           \
    {                                                                                                        \
        return name##2 {x, y};                                                                               \
    }                                                                                                        \
    static inline name##3 make_##name##3(T x, T y, T z)                                                      \
    {                                                                                                        \
        return name##3 {x, y, z};                                                                            \
    }                                                                                                        \
    static inline name##4 make_##name##4(T x, T y, T z, T w)                                                 \
    {                                                                                                        \
        return name##4 {x, y, z, w};                                                                         \
    }
#define uint3 stand_in_uint3 /* is there already */
STAND_IN_VECTORS(unsigned int, uint)
#undef uint3
STAND_IN_VECTORS(int, int)
STAND_IN_VECTORS(float, float)
STAND_IN_VECTORS(double, double)
STAND_IN_VECTORS(unsigned short, ushort)
STAND_IN_VECTORS(short, short)
STAND_IN_VECTORS(unsigned char, uchar)
STAND_IN_VECTORS(signed char, char)
STAND_IN_VECTORS(long long, longlong)

/* Warps and blocks ------------------------------------------------------------------------------------- */

#define STAND_IN_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(STAND_IN_HERE)
{
    stand_in_barrier(file, line);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, STAND_IN_HERE)
{
    stand_in_collective("__syncwarp", mask, 0, NULL, NULL, file, line);
}
static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}
[[noreturn]] static inline void __trap(STAND_IN_HERE)
{
    stand_in_fail(file, line, "__trap()");
}

/* A lane's part of a shuffle: what it gives, which lane it asks, where the answer goes. */
template <typename T> struct StandInShuffle {
    T value;
    int from;
};
/* It looks at other threads' stacks: nothing to be watched. */
template <typename T>
__attribute__((no_sanitize_thread)) static void stand_in_shuffle(void **operands, unsigned mask, int)
{
    T values[STAND_IN_WARP];
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1) {
            const StandInShuffle<T> *s = (StandInShuffle<T> *)operands[i];
            if (!(mask >> s->from & 1))
                stand_in_fail(NULL, 0, "lane %d asks lane %d for its value, which is not in the mask %08x", i,
                              s->from, mask);
            values[i] = ((StandInShuffle<T> *)operands[s->from])->value;
        }
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1)
            ((StandInShuffle<T> *)operands[i])->value = values[i];
}
template <typename T>
static inline T stand_in_exchange(const char *name, unsigned mask, int width, T value, int from,
                                  const char *file, int line)
{
    StandInShuffle<T> s = {value, from};
    stand_in_collective(name, mask, width, &s, stand_in_shuffle<T>, file, line);
    return s.value;
}
template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = STAND_IN_WARP, STAND_IN_HERE)
{
    const int lane = stand_in_self->lane, first = lane & ~(width - 1);
    return stand_in_exchange("__shfl_sync", mask, width, value, first + (from & (width - 1)), file, line);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int apart, int width = STAND_IN_WARP, STAND_IN_HERE)
{
    const int lane = stand_in_self->lane, last = lane | (width - 1), from = lane ^ apart;
    return stand_in_exchange("__shfl_xor_sync", mask, width, value, from > last ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned apart, int width = STAND_IN_WARP,
                                 STAND_IN_HERE)
{
    const int lane = stand_in_self->lane, last = lane | (width - 1), from = lane + (int)apart;
    return stand_in_exchange("__shfl_down_sync", mask, width, value, from > last ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned apart, int width = STAND_IN_WARP,
                               STAND_IN_HERE)
{
    const int lane = stand_in_self->lane, first = lane & ~(width - 1), from = lane - (int)apart;
    return stand_in_exchange("__shfl_up_sync", mask, width, value, from < first ? lane : from, file, line);
}

__attribute__((no_sanitize_thread)) static inline void stand_in_vote(void **operands, unsigned mask, int)
{
    unsigned votes = 0;
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1 && *(unsigned *)operands[i])
            votes |= 1u << i;
    for (int i = 0; i < STAND_IN_WARP; i++)
        if (mask >> i & 1)
            *(unsigned *)operands[i] = votes;
}
static inline unsigned __ballot_sync(unsigned mask, int yes, STAND_IN_HERE)
{
    unsigned votes = yes != 0;
    stand_in_collective("__ballot_sync", mask, 0, &votes, stand_in_vote, file, line);
    return votes;
}
static inline int __any_sync(unsigned mask, int yes, STAND_IN_HERE)
{
    unsigned votes = yes != 0;
    stand_in_collective("__any_sync", mask, 0, &votes, stand_in_vote, file, line);
    return votes != 0;
}
static inline int __all_sync(unsigned mask, int yes, STAND_IN_HERE)
{
    unsigned votes = yes != 0;
    stand_in_collective("__all_sync", mask, 0, &votes, stand_in_vote, file, line);
    return votes == mask;
}

/* Arithmetic ------------------------------------------------------------------------------------------- */

#define STAND_IN_MIN_MAX(T)                                                                                  \
    static inline T min(T a, T b)                                                                            \
    {                                                                                                        \
        return b < a ? b : a;                                                                                \
    }                                                                                                        \
    static inline T max(T a, T b)                                                                            \
    {                                                                                                        \
        return a < b ? b : a;                                                                                \
    }
STAND_IN_MIN_MAX(int)
STAND_IN_MIN_MAX(unsigned)
STAND_IN_MIN_MAX(long)
STAND_IN_MIN_MAX(unsigned long)
STAND_IN_MIN_MAX(long long)
STAND_IN_MIN_MAX(unsigned long long)
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}

/* The C library has some of these names for itself. */
#define rsqrtf stand_in_rsqrtf
#define rsqrt stand_in_rsqrt
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __sincosf sincosf
static inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1 / sqrt(x);
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __frcp_rn(float x)
{
    return 1 / x;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __saturatef(float x)
{
    return fminf(fmaxf(x, 0), 1);
}
static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}
static inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}
static inline float __int_as_float(int i)
{
    return __uint_as_float((unsigned)i);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <typename T> static inline void __stcs(T *p, T x)
{
    *p = x;
}

/* Of whole numbers alone: sums of floats would depend on the order of the threads. */
#define STAND_IN_ATOMICS(T)                                                                                  \
    static inline T atomicAdd(T *at, T x)                                                                    \
    {                                                                                                        \
        return __atomic_fetch_add(at, x, __ATOMIC_RELAXED);                                                  \
    }                                                                                                        \
    static inline T atomicExch(T *at, T x)                                                                   \
    {                                                                                                        \
        return __atomic_exchange_n(at, x, __ATOMIC_RELAXED);                                                 \
    }                                                                                                        \
    static inline T atomicCAS(T *at, T expected, T x)                                                        \
    {                                                                                                        \
        __atomic_compare_exchange_n(at, &expected, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);            \
        return expected;                                                                                     \
    }                                                                                                        \
    static inline T atomicMin(T *at, T x)                                                                    \
    {                                                                                                        \
        T old = __atomic_load_n(at, __ATOMIC_RELAXED);                                                       \
        while (x < old &&                                                                                    \
               !__atomic_compare_exchange_n(at, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))         \
            ;                                                                                                \
        return old;                                                                                          \
    }                                                                                                        \
    static inline T atomicMax(T *at, T x)                                                                    \
    {                                                                                                        \
        T old = __atomic_load_n(at, __ATOMIC_RELAXED);                                                       \
        while (old < x &&                                                                                    \
               !__atomic_compare_exchange_n(at, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))         \
            ;                                                                                                \
        return old;                                                                                          \
    }
STAND_IN_ATOMICS(int)
STAND_IN_ATOMICS(unsigned)
STAND_IN_ATOMICS(unsigned long long)

#endif
