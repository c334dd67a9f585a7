#include "objective.h"

#include "../kernels/random.h"

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

float objective_weight(const NoiseSchedule *s, int t, float gamma)
{
    if (gamma <= 0)
        return 1;
    const double a = s->alphas_cumprod[t];
    const double snr = a < 1 ? a / (1 - a) : INFINITY;
    const double clipped = fmin(snr, gamma);
    switch (s->prediction) {
    case PREDICT_V:
        return (float)(clipped / (snr + 1));
    case PREDICT_SAMPLE:
        return (float)clipped;
    default:
        return snr > gamma ? (float)(gamma / snr) : 1; /* also right where the SNR is 0 */
    }
}
