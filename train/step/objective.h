/* What the UNet is asked: a latent, a timestep, noise, and the answer it should give.
 *
 * Ho et al. 2020: x_t = √ᾱ x₀ + √(1−ᾱ) ε, and the UNet tells ε (or v = √ᾱ ε − √(1−ᾱ) x₀, Salimans & Ho 2022).
 * All of it is small host work in f32, so that the numbers are the same whatever the model is computed in,
 * and tests can give PyTorch's. Everything drawn comes from the keyed generator: optimizer step and place of
 * the sample in that step tell the numbers, so batch 4 and batch 1 × accumulate 4 see the same ones.
 *
 * Latents, noise and targets are (C,H,W), one sample at a time. */
#ifndef ATL_OBJECTIVE_H
#define ATL_OBJECTIVE_H

#include "infer/samplers/schedule.h"

#include <stdbool.h>
#include <stdint.h>

/* Which sample: the seed, the optimizer step (from 1), the place in the step over all micro-batches. */
typedef struct SampleKey {
    uint64_t seed;
    uint32_t step, sample;
} SampleKey;

/* Uniform in [0, schedule's steps). */
int objective_timestep(SampleKey k, const NoiseSchedule *s);
/* n = channels × area standard normal numbers; offset > 0 adds offset × one normal number a channel (offset
 * noise). */
void objective_noise(SampleKey k, float offset, int channels, int64_t area, float *out);
/* A latent drawn from the VAE's posterior: (mean + deviation × normal) × scaling. */
void objective_latent(SampleKey k, const float *mean, const float *deviation, float scaling, int64_t n,
                      float *out);
/* The noisy latent at timestep t and what the UNet should answer. noisy may be latent. */
void objective_noisy(const NoiseSchedule *s, int t, const float *latent, const float *noise, int64_t n,
                     float *noisy, float *target);
/* Prior preservation puts as many class pictures beside the subject's: the loss is mean(weight · error) of
 * the subject's samples + prior.weight · mean(weight · error) of the class's: diffusers' train_dreambooth.py
 * where all weights are 1, and where they are not the weights of sd-scripts, which look at no kind. The step
 * divides by the number of both, so each sample's weight counts twice. */
#define OBJECTIVE_PRIOR_SHARE 2.0f
/* Weight of the sample's loss: min-SNR-γ (Hang et al. 2023), 1 where gamma is 0, times the debiased
 * estimation loss's 1/√SNR (Yu et al. 2023) where that is asked for. As sd-scripts has it: SNR at most 1000,
 * and for a model that tells v 1/(SNR+1). */
float objective_weight(const NoiseSchedule *s, int t, float gamma, bool debiased);

#endif
