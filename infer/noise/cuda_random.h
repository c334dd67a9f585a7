/* PyTorch's generator on a GPU: torch.Generator("cuda").manual_seed(seed). Philox4x32-10 (Salmon et al.
 * 2011), a stream of it for each of the T threads that PyTorch starts. */
#ifndef ATL_CUDA_RANDOM_H
#define ATL_CUDA_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct CudaRandom {
    uint64_t seed, offset; /* how far every stream has come */
    uint64_t most; /* threads at once on the GPU, a multiple of 256; 0: as many as there are numbers */
} CudaRandom;
/* A GPU of so many multiprocessors with so many threads on each at most; 0: one large enough. */
void cuda_seed(CudaRandom *g, uint64_t seed, uint32_t sms, uint32_t threads);
/* torch.randn(n, generator=g), f32: equal to a GPU's but for the last bits of its logarithm, sine and cosine.
 */
void cuda_randn(CudaRandom *g, float *out, size_t n);

#endif
