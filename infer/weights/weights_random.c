/* Random weights, in blocks of a fixed size: block b of a tensor takes the key's stream with sample = b, so
 * that threads may take blocks in any order and the result is the same. */
#include "weights_random.h"

#define BLOCK 4096

void random_fill_constant(Tensor *t, float value)
{
    for (int64_t i = 0, n = tensor_count(t); i < n; i++)
        convert_floats((char *)t->data + (size_t)i * dtype_size(t->dtype), t->dtype, &value, DTYPE_F32, 1);
}

/* Four numbers a call of the generator: index i of the stream is word i % 4 of counter i / 4. */
static void uniform_block(RandomKey key, float bound, float *out, int64_t n)
{
    const uint32_t k[2] = {(uint32_t)key.seed, (uint32_t)(key.seed >> 32)};
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t words[4];
        philox4x32((uint32_t[]){key.step, key.sample, (uint32_t)key.purpose, (uint32_t)(i / 4)}, k, words);
        for (int64_t j = 0; j < 4 && i + j < n; j++) /* 24 bits, as f32 has them: [0,1) -> [-bound,bound) */
            out[i + j] = ((float)(words[j] >> 8) * 0x1p-23f - 1.0f) * bound;
    }
}

static void fill(Tensor *t, RandomKey key, float size, bool normal)
{
    const int64_t n = tensor_count(t), blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        float values[BLOCK];
        const int64_t first = b * BLOCK, count = n - first < BLOCK ? n - first : BLOCK;
        RandomKey k = key;
        k.sample = (uint32_t)b;
        if (normal) {
            random_normal(k, values, (size_t)count);
            for (int64_t i = 0; i < count; i++)
                values[i] *= size;
        } else
            uniform_block(k, size, values, count);
        convert_floats((char *)t->data + (size_t)first * dtype_size(t->dtype), t->dtype, values, DTYPE_F32,
                       count);
    }
}

void random_fill_uniform(Tensor *t, RandomKey key, float bound)
{
    fill(t, key, bound, false);
}

void random_fill_normal(Tensor *t, RandomKey key, float std)
{
    fill(t, key, std, true);
}
