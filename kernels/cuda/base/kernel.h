/* What the kernels' files share: launching, shared memory, the storage types, sums within a warp and a block.
 *
 * The same files are compiled twice: by nvcc for GPUs, and by the host's compiler against tests/cuda, where
 * each thread of a block runs by itself. Three rules keep a kernel runnable both ways: it is launched by
 * LAUNCH, its shared memory is what SHARED names (no __shared__ arrays), and instructions of the machine
 * stand in mma.h with a plain twin each. Sums take one order that depends on shapes alone: no atomics on
 * floats. */
#ifndef ATL_CUDA_KERNEL_H
#define ATL_CUDA_KERNEL_H

#include "queue.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

#define WARP 32
#define EVERY_LANE 0xffffffffu

/* Launching -------------------------------------------------------------------------------------------- */

template <typename T> struct SameType {
    typedef T type;
};

/* Queues kernel<<<grid, block, shared>>>(arguments…); they are copied. */
template <typename... P>
static Status launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                     typename SameType<P>::type... arguments)
{
    void *list[] = {(void *)&arguments...};
    const size_t sizes[] = {sizeof(P)...};
#ifdef ATL_CUDA_HOST
    stand_in_kernel(name, kernel); /* how the stand-in calls it */
#endif
    const Launch l = {(const void *)kernel,
                      name,
                      {grid.x, grid.y, grid.z},
                      {block.x, block.y, block.z},
                      shared,
                      (int)sizeof...(P),
                      list,
                      sizes};
    return cuda_launch(&l);
}

/* A Status: LAUNCH(grid, block, bytes of shared memory, (kernel<float, 4>), arguments…). A struct among the
 * arguments is compared byte by byte with the step before: begin it as {} so that padding is zero. */
#define LAUNCH(grid, block, shared, kernel, ...) launch(#kernel, kernel, grid, block, shared, __VA_ARGS__)

/* Declares `name`, a pointer to the block's shared memory, 16-byte aligned; undefined at first. */
#ifdef ATL_CUDA_HOST
#define SHARED(T, name) T *const name = (T *)stand_in_shared()
#else
#define SHARED(T, name)                                                                                      \
    extern __shared__ __align__(16) unsigned char shared_memory_[];                                          \
    T *const name = (T *)shared_memory_
#endif

static inline unsigned blocks_for(int64_t count, int64_t each)
{
    return (unsigned)((count + each - 1) / each);
}

/* What a piece of scratch memory takes where another follows. */
static inline size_t aligned_bytes(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* Storage types ---------------------------------------------------------------------------------------- */

__host__ __device__ static inline float to_float(float x)
{
    return x;
}
__device__ static inline float to_float(bf16 x)
{
    return __bfloat162float(x);
}
__device__ static inline float to_float(f16 x)
{
    return __half2float(x);
}
/* Rounds to nearest even. */
template <typename T> __device__ static inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x)
{
    return x;
}
template <> __device__ inline bf16 from_float<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}
template <> __device__ inline f16 from_float<f16>(float x)
{
    return __float2half_rn(x);
}

/* As many elements as 16 bytes hold, read and written at once. */
template <typename T> struct __align__(16) Pack
{
    static constexpr int count = 16 / sizeof(T);
    T at[count];
};

/* Runs the statements with T the C type of a floating dtype. What is no floating type has been refused by the
 * operation. */
#define WITH_FLOAT(dtype, T, ...)                                                                            \
    do {                                                                                                     \
        switch (dtype) {                                                                                     \
        case DTYPE_BF16: {                                                                                   \
            typedef bf16 T;                                                                                  \
            __VA_ARGS__;                                                                                     \
        } break;                                                                                             \
        case DTYPE_F16: {                                                                                    \
            typedef f16 T;                                                                                   \
            __VA_ARGS__;                                                                                     \
        } break;                                                                                             \
        default: {                                                                                           \
            typedef float T;                                                                                 \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
        }                                                                                                    \
    } while (0)

/* Sums ------------------------------------------------------------------------------------------------- */

/* Of all lanes, the same in each: pairs 16 apart, then 8, …, 1. */
template <typename T> __device__ static inline T warp_sum(T x)
{
    for (int apart = WARP / 2; apart > 0; apart /= 2)
        x += __shfl_xor_sync(EVERY_LANE, x, apart);
    return x;
}
__device__ static inline float warp_max(float x)
{
    for (int apart = WARP / 2; apart > 0; apart /= 2)
        x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, apart));
    return x;
}

/* Of all threads of a block of whole warps, the same in each. room: a T for each warp in shared memory, used
 * by nothing else until the barrier after. */
template <typename T> __device__ static inline T block_sum(T x, T *room)
{
    const int warps = blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads(); /* the room may still be read from the sum before */
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < warps; i++)
        x += room[i];
    return x;
}

#endif
