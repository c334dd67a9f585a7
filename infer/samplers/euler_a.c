/* Euler ancestral (k-diffusion's sample_euler_ancestral): a step of Euler's to below the next level, and
 * fresh noise up to it,
 *
 *     σ_up = √(σ'² (σ² - σ'²)/σ²),   σ_down = √(σ'² - σ_up²),   x' = x + (σ_down - σ) (x - x0)/σ + σ_up ε' */
#include "family.h"

#include <math.h>

/* ε' (n) */
static size_t state_bytes(size_t n)
{
    return n * sizeof(float);
}

static void step(const SamplerStep *s, void *state)
{
    float *fresh = state;
    const float sigma = s->from.noise, from = sigma * sigma, to = s->to.noise * s->to.noise;
    const float up = sqrtf(to * (from - to) / from), down = sqrtf(to - up * up), change = down - sigma;
    s->source->draw(s->source->arg, fresh, s->n);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = s->x[k] + (s->x[k] - s->x0[k]) / sigma * change + fresh[k] * up;
}

const SamplerFamily sampler_euler_a = {
    .kind = {"euler_a", "Euler a",
             "Euler with fresh noise in each step: goes on changing as steps are added"},
    .spacing = SPACING_LINSPACE,
    .state_bytes = state_bytes,
    .levels = sampler_levels_of_sigma,
    .step = step,
};
