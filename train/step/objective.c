#include "objective.h"

#include "kernels/base/random.h"

#include <math.h>

static RandomKey key_for(SampleKey k, RandomPurpose purpose)
{
    return (RandomKey){.seed = k.seed, .step = k.step, .sample = k.sample, .purpose = purpose};
}

int objective_timestep(SampleKey k, const NoiseSchedule *s)
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

void objective_noisy(const NoiseSchedule *s, int t, const float *latent, const float *noise, int64_t n,
                     float *noisy, float *target)
{
    const float signal = sqrtf((float)s->alphas_cumprod[t]);
    const float share = sqrtf(1.0f - (float)s->alphas_cumprod[t]);
    for (int64_t i = 0; i < n; i++) {
        const float x = latent[i], e = noise[i];
        noisy[i] = signal * x + share * e;
        switch (s->prediction) {
        case PREDICT_EPSILON:
            target[i] = e;
            break;
        case PREDICT_V:
            target[i] = signal * e - share * x;
            break;
        case PREDICT_SAMPLE:
            target[i] = x;
            break;
        }
    }
}

static double min_snr_weight(PredictionType kind, double snr, double gamma)
{
    switch (kind) {
    case PREDICT_V:
        return fmin(snr, gamma) / (snr + 1);
    case PREDICT_SAMPLE:
        return fmin(snr, gamma);
    default:
        return snr > gamma ? gamma / snr : 1; /* also right where the SNR is 0 */
    }
}

#define DEBIASED_MAX_SNR 1000.0
#define DEBIASED_MIN_SNR 1e-4 /* a schedule that ends in pure noise has 0 there */

static double debiased_weight(PredictionType kind, double snr)
{
    snr = fmax(fmin(snr, DEBIASED_MAX_SNR), DEBIASED_MIN_SNR);
    switch (kind) {
    case PREDICT_V:
        return 1 / (snr + 1);
    case PREDICT_SAMPLE:
        return sqrt(snr); /* what 1/√SNR on ε comes to */
    default:
        return 1 / sqrt(snr);
    }
}

float objective_weight(const NoiseSchedule *s, int t, float gamma, bool debiased)
{
    const double a = s->alphas_cumprod[t];
    const double snr = a < 1 ? a / (1 - a) : INFINITY;
    double weight = 1;
    if (gamma > 0)
        weight = min_snr_weight(s->prediction, snr, gamma);
    if (debiased)
        weight *= debiased_weight(s->prediction, snr);
    return (float)weight;
}
