/* Running a kernel's blocks (block.c), for launch.c and those that report what went wrong. */
#ifndef TESTS_CUDA_BLOCK_H
#define TESTS_CUDA_BLOCK_H

#include "machine.h"

typedef struct StandInKernel StandInKernel;
struct StandInKernel {
    const char *name;
    const void *function;
    StandInCall call;
    int count;
    const size_t *sizes;
    size_t shared_most; /* bytes that a launch may ask for; 0: nobody said, 48 KB */
};

/* All blocks of a launch, one after the other. */
void block_run(const StandInKernel *k, dim3 grid, dim3 block, void **arguments, size_t shared);
/* p lies in the copy that a launch has of its arguments (launch.c). */
bool launch_argument(void **arguments, const StandInKernel *k, const void *p);
/* p lies in the arguments of the kernel that runs. */
bool block_argument(const void *p);
/* The running thread's stack, where accesses are looked at; 0 bytes: none runs. */
extern const char *block_stack __attribute__((visibility("hidden")));
extern size_t block_stack_bytes __attribute__((visibility("hidden")));
/* p lies there, as most of what kernels touch does: what a GPU has in registers. */
static inline bool block_own(const void *p)
{
    return (uintptr_t)p - (uintptr_t)block_stack < block_stack_bytes;
}
/* Where the machine is: "kernel NAME, block (x,y,z), thread (x,y,z)", or "the host". */
void block_where(char *text, size_t bytes);
/* The index of a thread of the running block. */
uint3 block_thread(int number);
/* The running block's shared memory; 0 bytes: none runs. It lies in a room of SHARED_MOST. */
#define SHARED_MOST ((size_t)256 << 10)
extern char *block_shared, *block_shared_room;
extern size_t block_shared_bytes;
/* Something between 0 and 2^32 − 1, the same in each run (ATELIER_STAND_IN_SEED is where it begins). */
unsigned block_random(void);

#endif
