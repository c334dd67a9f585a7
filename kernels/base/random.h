/* Random numbers, two systems (design, section 2).
 *
 * Training draws from a keyed generator, Philox4x32-10 (Salmon et al. 2011): key = seed, counter = (optimizer
 * step, sample's place in that step, purpose, index). Nothing depends on what was drawn before. Pictures are
 * drawn from PyTorch's CPU generator, bit for bit: mt19937 and its two randn paths. */
#ifndef ATL_RANDOM_H
#define ATL_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef enum RandomPurpose {
    RANDOM_ORDER = 1,
    RANDOM_CROP,
    RANDOM_FLIP,
    RANDOM_TIMESTEP,
    RANDOM_NOISE,
    RANDOM_DROPOUT,
    RANDOM_ADAPTER,
    RANDOM_AUGMENT,
    RANDOM_POSTERIOR,
    RANDOM_CAPTION,
    RANDOM_INIT,
    RANDOM_PICK,     /* one of several captions */
    RANDOM_WILDCARD, /* one of a wildcard's words */
    RANDOM_TAG       /* parts of captions that are dropped */
} RandomPurpose;

typedef struct RandomKey {
    uint64_t seed;
    uint32_t step;   /* optimizer step (or epoch, or number of the parameter, as the purpose says) */
    uint32_t sample; /* place of the sample in that step, over all micro-batches and processes */
    RandomPurpose purpose;
} RandomKey;

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* The index-th number of the key's stream. */
uint32_t random_u32(RandomKey k, uint32_t index);
double random_uniform(RandomKey k, uint32_t index);             /* [0,1), 32 bits */
uint32_t random_below(RandomKey k, uint32_t index, uint32_t n); /* 0 … n-1, without bias above 2^-32 n */
void random_normal(RandomKey k, float *out, size_t n);          /* Box–Muller, indices 0 … ⌈n/4⌉-1 */
/* Fisher–Yates of 0 … n-1 by the key's stream. */
void random_permutation(RandomKey k, uint32_t *out, uint32_t n);

/* PyTorch's CPU generator: torch.Generator().manual_seed(seed). */
typedef struct TorchRandom {
    uint32_t state[624];
    int next;       /* position in state; 624: twist first */
    int has_cached; /* the n < 16 path keeps the second number of a pair */
    double cached;
} TorchRandom;
void torch_seed(TorchRandom *g, uint64_t seed);
uint32_t torch_u32(TorchRandom *g);
/* torch.randn(n, generator=g), f32, the same bits on every machine. */
void torch_randn(TorchRandom *g, float *out, size_t n);

#endif
