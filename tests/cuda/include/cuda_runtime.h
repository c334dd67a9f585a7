/* What a .cu file gets of CUDA C++: the host's interface, and what kernels use, for the host's compiler. */
#ifndef STAND_IN_CUDA_RUNTIME_H
#define STAND_IN_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
#include <kernel_side.h>
#endif

#endif
