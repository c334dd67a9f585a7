/* The noise that pictures are drawn from: the generators of PyTorch, so that a picture made elsewhere with
 * the same seed can be made again here. */
#ifndef ATL_NOISE_H
#define ATL_NOISE_H

#include "kernels/base/random.h"
#include "kernels/base/status.h"
#include "cuda_random.h"

#include <stdbool.h>

/* A generator, by the word that users choose one by: cpu, cuda, or cuda:GPU with one of the names of
 * those in noise.c, or cuda:SMSxTHREADS (its multiprocessors and the most threads on one). */
typedef struct NoiseKind {
    bool cuda;
    uint32_t sms, threads; /* of the GPU; 0: as many as there are numbers */
} NoiseKind;
#define NOISE_CPU ((NoiseKind){0})
#define NOISE_DEFAULT "cpu"
Status noise_kind_parse(const char *word, NoiseKind *out); /* refuses what is no generator */

/* Where the noise comes from that a picture needs: one source a picture, for its first x and for what a
 * sampler adds on its way. */
typedef struct NoiseSource {
    void (*draw)(void *arg, float *out, size_t n);
    void *arg;
} NoiseSource;

/* torch.Generator(device).manual_seed(seed) */
typedef struct Noise {
    NoiseKind kind;
    TorchRandom cpu;
    CudaRandom cuda;
} Noise;
void noise_seed(Noise *g, NoiseKind kind, uint64_t seed);
void noise_draw(Noise *g, float *out, size_t n); /* torch.randn(n, generator=g), f32 */
NoiseSource noise_source(Noise *g);
NoiseSource noise_from_torch(TorchRandom *g);

#endif
