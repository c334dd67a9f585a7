/* What kernels' accesses cost in banks and sectors (banks.c), from what watch.c sees. */
#ifndef TESTS_CUDA_BANKS_H
#define TESTS_CUDA_BANKS_H

#include "block.h"

void banks_launch(const StandInKernel *k, dim3 grid, dim3 block, size_t shared);
/* The running thread's, in shared memory or the device's. */
void banks_access(const char *p, size_t bytes, bool shared, bool write, unsigned site);
/* The warp's lanes have met, or are done. */
void banks_meet(int warp);

#endif
