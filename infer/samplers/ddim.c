/* DDIM with eta 0 (Song et al. 2021, formula 12): from the model's output come x0, the picture as the model
 * sees it now, and ε, the noise; the next x is made of both at the next noise level,
 *
 *     x' = √ᾱ' x0 + √(1-ᾱ') ε
 *
 * ε-prediction: x0 = (x - √(1-ᾱ) ε)/√ᾱ. v-prediction: x0 = √ᾱ x - √(1-ᾱ) v, ε = √ᾱ v + √(1-ᾱ) x. Levels are
 * ᾱ. */
#include "sampler.h"

#include <math.h>

static Status init(Sampler *s, const NoiseSchedule *schedule)
{
    const int stride = schedule->train_steps / s->steps_asked;
    const float last = schedule->set_alpha_to_one ? 1.0f : (float)schedule->alphas_cumprod[0];
    for (int i = 0; i < s->steps; i++) {
        s->timesteps[i] = rintf(s->timesteps[i]);
        const int t = (int)s->timesteps[i], next = t - stride;
        s->from[i] = (float)schedule->alphas_cumprod[t];
        s->to[i] = next >= 0 ? (float)schedule->alphas_cumprod[next] : last;
    }
    s->initial_scale = 1;
    s->clip = schedule->clip_sample ? (float)schedule->clip_sample_range : 0;
    return STATUS_OK;
}

static void step(Sampler *s, int i, const float *output, float *x, size_t n)
{
    const float a = sqrtf(s->from[i]), b = sqrtf(1 - s->from[i]);
    const float a_next = sqrtf(s->to[i]), b_next = sqrtf(1 - s->to[i]);
    for (size_t k = 0; k < n; k++) {
        float x0, noise;
        switch (s->prediction) {
        case PREDICT_EPSILON:
            noise = output[k];
            x0 = (x[k] - b * noise) / a;
            break;
        case PREDICT_V:
            x0 = a * x[k] - b * output[k];
            noise = a * output[k] + b * x[k];
            break;
        default: /* PREDICT_SAMPLE */
            x0 = output[k];
            noise = (x[k] - a * x0) / b;
            break;
        }
        if (s->clip > 0) /* of x0 alone: diffusers does not derive the noise again */
            x0 = x0 < -s->clip ? -s->clip : x0 > s->clip ? s->clip : x0;
        x[k] = a_next * x0 + b_next * noise;
    }
}

static void add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out, size_t n)
{
    const float a = sqrtf(s->from[start]), b = sqrtf(1 - s->from[start]);
    for (size_t k = 0; k < n; k++)
        out[k] = a * x0[k] + b * noise[k];
}

const SamplerFamily sampler_ddim = {
    .kind = {"ddim", "DDIM", "deterministic, and good from 20 steps on"},
    .spacing = SPACING_LEADING,
    .init = init,
    .step = step,
    .add_noise = add_noise,
};
