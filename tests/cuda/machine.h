/* The machine that runs kernels on the host: what kernels, compiled by the host's compiler, call of it.
 *
 * Each thread of a block is a fibre; blocks run one after the other on the calling thread (block.c). Lanes of
 * a warp meet in collectives: each posts its operands, and the last to come computes for all. Whatever a GPU
 * would answer with wrong numbers or a lost device ends the process with a message that names kernel, block,
 * thread and what to look for. */
#ifndef TESTS_CUDA_MACHINE_H
#define TESTS_CUDA_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STAND_IN_WARP 32
#define STAND_IN_POISON 0xff /* every byte of what nobody has written: NaN in every floating type */

/* What runs: the thread, and its block. */
typedef struct StandInThread StandInThread;
struct StandInThread {
    uint3 index;
    int number, lane, warp; /* of the block */
};
extern StandInThread *stand_in_self;
extern uint3 stand_in_block_index;
extern dim3 stand_in_block_dim, stand_in_grid_dim;

/* The running block's dynamic shared memory. */
void *stand_in_shared(void);

/* Where in the source something was called: default arguments of the functions that kernels call. */
typedef struct StandInPlace {
    const char *file;
    int line;
} StandInPlace;

/* __syncthreads() */
void stand_in_barrier(const char *file, int line);
/* The lanes of `mask` meet. Each brings operands; the last to come calls compute(operands of each lane, mask,
 * detail), NULL: nothing to compute. `name` and `detail` are the same in all lanes, or it is a mistake. */
typedef void (*StandInCompute)(void **operands, unsigned mask, int detail);
void stand_in_collective(const char *name, unsigned mask, int detail, void *operands, StandInCompute compute,
                         const char *file, int line);

/* 16 bytes to shared memory, there once a wait covers its group (twins.c). */
void stand_in_copy_async(void *shared, const void *global, bool valid, const char *file, int line);
void stand_in_copy_commit(void);
void stand_in_copy_wait(int groups);
void stand_in_thread_ends(int number); /* block.c: thread `number` has returned */

/* Fails unless the bytes at p are aligned as told, and lie in the block's shared memory where `shared`. */
void stand_in_access(const void *p, size_t bytes, bool shared, const char *what, const char *file, int line);

/* Ends the process: kernel, block and thread, where there are any, then this. */
void stand_in_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Makes a kernel known: how it is called, and its arguments' sizes. */
typedef void (*StandInCall)(const void *function, void **arguments);
void stand_in_register(const char *name, const void *function, StandInCall call, int count,
                       const size_t *sizes);

/* Which card it claims to be: 86 for compute capability 8.6 (ATELIER_STAND_IN_ARCH). */
int stand_in_arch(void);

/* The bits of x rounded to TF32, to nearest and from the middle away from 0 (cvt.rna). */
static inline uint32_t stand_in_tf32(float x)
{
    union {
        float f;
        uint32_t u;
    } bits = {x};
    return (bits.u & 0x7fffffff) > 0x7f800000 ? 0x7fffe000 : (bits.u + 0x1000) & ~(uint32_t)0x1fff;
}

/* Products of the tensor cores (twins.c). Operands: what a lane holds; d, of bytes, are ints. */
typedef struct StandInProduct {
    void *d;
    const unsigned *a, *b;
} StandInProduct;
/* Loading their operands: r[count] from a row each. */
typedef struct StandInLoad {
    unsigned *r;
    const void *row;
} StandInLoad;
void stand_in_mma(const char *name, int depth, bool bf16, StandInProduct p, const char *file, int line);
void stand_in_mma_tf32(const char *name, StandInProduct p, const char *file, int line);
void stand_in_mma_bytes(const char *name, StandInProduct p, const char *file, int line);
void stand_in_ldmatrix(const char *name, int count, bool transposed, StandInLoad load, const char *file,
                       int line);

#ifdef __cplusplus
}
#endif
#endif
