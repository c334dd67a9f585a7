/* PyTorch's normal numbers as a GPU draws them.
 *
 * T threads are started, a multiple of 256: as many as there are numbers, at most as many as the GPU holds at
 * once. Thread i takes numbers i, i + T, i + 2T, …, four from each block of its stream: the block is Philox
 * of the counter (offset / 4 + how many the thread has taken, 0, i, 0) under the seed, and its four words
 * make two pairs (√(-2 ln u) sin v, √(-2 ln u) cos v). A call moves the offset on by 4 for each block. With n
 * ≤ T every number is the first of its own stream, so GPUs of different sizes agree on small pictures only.
 */
#include "cuda_random.h"

#include "kernels/base/random.h"

#include <math.h>

#define BLOCK 256 /* threads of a block */
#define TWO_PI 6.2831855f

void cuda_seed(CudaRandom *g, uint64_t seed, uint32_t sms, uint32_t threads)
{
    *g = (CudaRandom){.seed = seed, .most = (uint64_t)sms * (threads / BLOCK) * BLOCK};
}

/* Two words -> two normal numbers. The products with 2^-32 are exact. */
static void box_muller(uint32_t x, uint32_t y, float out[2])
{
    const float u = (float)x * 0x1p-32f + 0x1p-33f;
    const float v = (float)y * (0x1p-32f * TWO_PI) + 0x1p-33f * TWO_PI;
    const float radius = sqrtf(-2.0f * logf(u));
    out[0] = radius * sinf(v);
    out[1] = radius * cosf(v);
}

static void four(const CudaRandom *g, uint64_t thread, uint64_t taken, float out[4])
{
    const uint64_t place = g->offset / 4 + taken;
    const uint32_t counter[4] = {(uint32_t)place, (uint32_t)(place >> 32), (uint32_t)thread,
                                 (uint32_t)(thread >> 32)};
    const uint32_t key[2] = {(uint32_t)g->seed, (uint32_t)(g->seed >> 32)};
    uint32_t words[4];
    philox4x32(counter, key, words);
    box_muller(words[0], words[1], out);
    box_muller(words[2], words[3], out + 2);
}

void cuda_randn(CudaRandom *g, float *out, size_t n)
{
    if (n == 0)
        return;
    const uint64_t wanted = (n + BLOCK - 1) / BLOCK * BLOCK;
    const uint64_t threads = g->most && g->most < wanted ? g->most : wanted;
    const uint64_t rounds = (n - 1) / (4 * threads) + 1;
    for (uint64_t taken = 0; taken < rounds; taken++)
        for (uint64_t i = 0; i < threads && 4 * taken * threads + i < n; i++) {
            float numbers[4];
            four(g, i, taken, numbers);
            for (uint64_t k = 0; k < 4; k++) {
                const uint64_t place = (4 * taken + k) * threads + i;
                if (place < n)
                    out[place] = numbers[k];
            }
        }
    g->offset += 4 * rounds;
}
