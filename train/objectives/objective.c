#include "objective.h"

#include "kernels/base/random.h"
#include "kernels/ops.h"

#include <math.h>

static RandomKey key_for(SampleKey k, RandomPurpose purpose)
{
    return (RandomKey){.seed = k.seed, .step = k.step, .sample = k.sample, .purpose = purpose};
}

#define IN_TABLE(name, what) &objective_##name,
static const Objective *const TABLE[] = {OBJECTIVES(IN_TABLE)};
#define COUNT ((int)(sizeof TABLE / sizeof *TABLE))

const Objective *objective_at(int i)
{
    return i >= 0 && i < COUNT ? TABLE[i] : NULL;
}

const Objective *objective_for(PredictionType prediction)
{
    for (int i = 0; i < COUNT; i++)
        if (TABLE[i]->prediction == prediction)
            return TABLE[i];
    return NULL;
}

/* Drawing ---------------------------------------------------------------------------------------------- */

int objective_uniform_timestep(SampleKey k, const NoiseSchedule *s)
{
    return (int)random_below(key_for(k, RANDOM_TIMESTEP), 0, (uint32_t)s->train_steps);
}

/* One normal number of the key's stream, from its numbers index and index + 1 (Box–Muller). */
static float normal_at(RandomKey k, uint32_t index)
{
    const double radius = sqrt(-2.0 * log(1.0 - random_uniform(k, index)));
    return (float)(radius * cos(6.283185307179586 * random_uniform(k, index + 1)));
}

/* The channels' offsets come after the noise itself in the sample's stream, so that switching offset noise on
 * leaves the rest of the noise as it was. */
void objective_noise(SampleKey k, float offset, int channels, int64_t area, float *out)
{
    const RandomKey key = key_for(k, RANDOM_NOISE);
    const int64_t n = channels * area;
    random_normal(key, out, (size_t)n);
    if (offset <= 0)
        return;
    for (int c = 0; c < channels; c++) {
        const float shift = offset * normal_at(key, (uint32_t)(n + 4 + 2 * c));
        for (int64_t i = 0; i < area; i++)
            out[c * area + i] += shift;
    }
}

void objective_latent(SampleKey k, const float *mean, const float *deviation, float scaling, int64_t n,
                      float *out)
{
    random_normal(key_for(k, RANDOM_POSTERIOR), out, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        out[i] = (mean[i] + deviation[i] * out[i]) * scaling;
}

/* Asking ----------------------------------------------------------------------------------------------- */

NoiseLevel objective_alpha_level(const NoiseSchedule *s, int t)
{
    return level_of_alpha((float)t, (float)s->alphas_cumprod[t]);
}

void objective_prepare(const Objective *o, const NoiseSchedule *s, int t, const float *latent,
                       const float *noise, int64_t n, float *noisy, float *target)
{
    const NoiseLevel l = o->level(s, t);
    o->target(l, latent, noise, n, target);
    level_mix(l, latent, noise, noisy, (size_t)n);
}

#define DEBIASED_MAX_SNR 1000.0
#define DEBIASED_MIN_SNR 1e-4 /* a schedule that ends in pure noise has 0 there */

float objective_weight(const Objective *o, const NoiseSchedule *s, int t, float gamma, bool debiased)
{
    const double a = s->alphas_cumprod[t];
    const double snr = a < 1 ? a / (1 - a) : INFINITY;
    double weight = 1;
    if (gamma > 0)
        weight = o->min_snr(snr, (double)gamma);
    if (debiased)
        weight *= o->debiased(fmax(fmin(snr, DEBIASED_MAX_SNR), DEBIASED_MIN_SNR));
    return (float)weight;
}

Tensor *objective_mean_squares(Ctx *c, const StepParts *parts, Tensor **per_sample)
{
    Tensor *prediction = parts->prediction(c, parts->of);
    Tensor *target = parts->target(c, parts->of);
    Tensor *weights = parts->weights(c, parts->of);
    return mse_loss(c, prediction, target, weights, per_sample);
}
