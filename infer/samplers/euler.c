/* Euler's method on the probability flow (Karras et al. 2022, algorithm 1 without churn). Here x is not
 * shrunk as noise comes in: x = x0 + σ ε with σ = √((1-ᾱ)/ᾱ), so the model gets x/√(σ²+1), and
 *
 *     dx/dσ = (x - x0)/σ,   x' = x + (σ' - σ) dx/dσ,   σ = 0 after the last step
 *
 * ε-prediction: x0 = x - σ ε. v-prediction: x0 = x/(σ²+1) - v σ/√(σ²+1). Levels are σ, interpolated between
 * whole timesteps. */
#include "sampler.h"

#include <math.h>

static double sigma_of(const NoiseSchedule *schedule, int t)
{
    const float a = (float)schedule->alphas_cumprod[t];
    return (double)sqrtf((1 - a) / a);
}

/* numpy.interp of the σ of whole timesteps. */
static float interpolate(const NoiseSchedule *schedule, float t)
{
    const int low = (int)floorf(t);
    if (low >= schedule->train_steps - 1)
        return (float)sigma_of(schedule, schedule->train_steps - 1);
    const double a = sigma_of(schedule, low), b = sigma_of(schedule, low + 1);
    return (float)((b - a) * ((double)t - low) + a);
}

static Status init(Sampler *s, const NoiseSchedule *schedule)
{
    if (schedule->euler_refuses[0])
        return status_refuse(
            "the model's scheduler_config.json sets \"%s\", which sampler euler does not know here; "
            "take --sampler ddim",
            schedule->euler_refuses);
    for (int i = 0; i < s->steps; i++)
        s->from[i] = interpolate(schedule, s->timesteps[i]);
    for (int i = 0; i < s->steps; i++)
        s->to[i] = i + 1 < s->steps ? s->from[i + 1] : 0;
    const float largest = s->from[0];
    s->initial_scale = s->spacing == SPACING_LEADING ? sqrtf(largest * largest + 1) : largest;
    return STATUS_OK;
}

static void scale_input(const Sampler *s, int i, const float *x, float *out, size_t n)
{
    const float divisor = sqrtf(s->from[i] * s->from[i] + 1);
    for (size_t k = 0; k < n; k++)
        out[k] = x[k] / divisor;
}

static void step(Sampler *s, int i, const float *output, float *x, size_t n)
{
    const float sigma = s->from[i], change = s->to[i] - sigma;
    const float square = sigma * sigma + 1, out_scale = -sigma / sqrtf(square);
    for (size_t k = 0; k < n; k++) {
        float x0;
        switch (s->prediction) {
        case PREDICT_EPSILON:
            x0 = x[k] - sigma * output[k];
            break;
        case PREDICT_V:
            x0 = output[k] * out_scale + x[k] / square;
            break;
        default: /* PREDICT_SAMPLE */
            x0 = output[k];
            break;
        }
        x[k] += (x[k] - x0) / sigma * change;
    }
}

static void add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out, size_t n)
{
    for (size_t k = 0; k < n; k++)
        out[k] = x0[k] + noise[k] * s->from[start];
}

const SamplerFamily sampler_euler = {
    .kind = {"euler", "Euler", "first order on the noise levels, much like ddim"},
    .spacing = SPACING_LINSPACE,
    .init = init,
    .scale_input = scale_input,
    .step = step,
    .add_noise = add_noise,
};
