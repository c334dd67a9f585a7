/* The machine's own instructions, each behind a function with a plain twin for the host: products of small
 * matrices on the tensor cores, loading their operands, copying to shared memory behind the arithmetic.
 *
 * Who holds what of D (16,8) += A (16,16) B (16,8); g = lane / 4, t = lane % 4, a register holds two
 * neighbours:
 *
 *     A  a[0] row g,   columns 2t 2t+1      a[2] row g,   columns 2t+8 2t+9
 *        a[1] row g+8, columns 2t 2t+1      a[3] row g+8, columns 2t+8 2t+9
 *     B  b[0] column g, rows 2t 2t+1        b[1] column g, rows 2t+8 2t+9
 *     D  d[0] d[1] row g, columns 2t 2t+1   d[2] d[3] row g+8
 *
 * With a depth of 8 there are a[0], a[1] and b[0]; f32 and bytes stand with their products below. ldmatrix:
 * lane i gives the address of a row of 8 elements (16 bytes, aligned) of matrix i / 8; lane l gets elements
 * 2(l%4), 2(l%4)+1 of row l/4 of each matrix; transposed: of column l/4. PTX ISA, "Matrix multiply-accumulate
 * operation using mma instruction". */
#ifndef ATL_CUDA_MMA_H
#define ATL_CUDA_MMA_H

#include "kernel.h"

#ifdef ATL_CUDA_HOST
#include <mma_twins.h>
#else

__device__ static inline unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

template <typename T> __device__ static inline void mma_16x8x8(float d[4], const unsigned a[2], unsigned b);
template <> __device__ inline void mma_16x8x8<f16>(float d[4], const unsigned a[2], unsigned b)
{
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
template <> __device__ inline void mma_16x8x8<bf16>(float d[4], const unsigned a[2], unsigned b)
{
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    (void)d, (void)a, (void)b;
    __trap(); /* Turing has no bf16: the device is asked before */
#endif
}

template <typename T>
__device__ static inline void mma_16x8x16(float d[4], const unsigned a[4], const unsigned b[2]);
template <> __device__ inline void mma_16x8x16<f16>(float d[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_16x8x8<f16>(d, a, b[0]);
    mma_16x8x8<f16>(d, a + 2, b[1]);
#endif
}
template <> __device__ inline void mma_16x8x16<bf16>(float d[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}

/* D (16,8) += A (16,32) B (32,8) of bytes, A's from 0 on, B's signed, into whole numbers. In bytes a row is
 * as long as one of 16 halves, so who holds what is as above, a register holding four neighbours. */
__device__ static inline void mma_16x8x32_bytes(int d[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else /* Turing's is (8,16) by (16,8) */
#pragma unroll
    for (int i = 0; i < 4; i++)
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                     : "+r"(d[i % 2 * 2]), "+r"(d[i % 2 * 2 + 1])
                     : "r"(a[i]), "r"(b[i / 2]));
#endif
}

/* f32 rounded to TF32: 10 bits of the fraction stay, what lies in the middle goes away from 0. */
__device__ static inline unsigned to_tf32(float x)
{
#if __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#else
    return __float_as_uint(x);
#endif
}

/* D (16,8) += A (16,8) B (8,8) of TF32. In bytes a row is as long as one of 16 halves, so ldmatrix brings the
 * operands' registers as it does those, an element in each: A has columns t and t+4, B rows t and t+4. */
__device__ static inline void mma_16x8x8_tf32(float d[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}

/* row: in shared memory, every lane's valid */
__device__ static inline void ldmatrix_x4(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static inline void ldmatrix_x4_transposed(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
/* The rows of lanes 0…15 count. */
__device__ static inline void ldmatrix_x2(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static inline void ldmatrix_x2_transposed(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

/* 16 bytes from global to shared memory, both aligned, behind the arithmetic; zeros, and nothing is read,
 * where !valid. Turing has no such copy: there it has happened on return. */
__device__ static inline void copy_async_16(void *shared, const void *global, bool valid)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    *(uint4 *)shared = valid ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
#endif
}
/* Ends a group of copies; waits until at most N of this thread's groups are still under way. */
__device__ static inline void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> __device__ static inline void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

#endif

/* 2^x within 2 units of the last place, in one instruction; what would be no normal number is 0. */
__device__ static inline float exp2_fast(float x)
{
#ifdef ATL_CUDA_HOST
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* D += A B over 32 bytes of both, which is a depth of 16 halves, or of 8 floats that are TF32 by then. */
template <typename T>
__device__ static inline void mma_32_bytes(float d[4], const unsigned a[4], const unsigned b[2])
{
    if constexpr (sizeof(T) == 4)
        mma_16x8x8_tf32(d, a, b);
    else
        mma_16x8x16<T>(d, a, b);
}

/* What ldmatrix has brought, as an operand: floats are rounded. */
template <typename T, int N> __device__ static inline void to_operand(unsigned (&r)[N])
{
    for (int i = 0; sizeof(T) == 4 && i < N; i++) /* unrolled, being short */
        r[i] = to_tf32(__uint_as_float(r[i]));
}

/* Two floats as neighbours of a register, the first below. */
template <typename T> __device__ static inline unsigned pack_two(float low, float high)
{
    union {
        T at[2];
        unsigned all;
    } both;
    both.at[0] = from_float<T>(low);
    both.at[1] = from_float<T>(high);
    return both.all;
}

#endif
