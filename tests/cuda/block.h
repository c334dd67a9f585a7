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
/* Where the machine is: "kernel NAME, block (x,y,z), thread (x,y,z)", or "the host". */
void block_where(char *text, size_t bytes);
/* The running block's shared memory; 0 bytes: none runs. */
extern char *block_shared;
extern size_t block_shared_bytes;
/* Something between 0 and 2^32 − 1, the same in each run (ATELIER_STAND_IN_SEED is where it begins). */
unsigned block_random(void);

#endif
