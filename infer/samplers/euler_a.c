/* Euler ancestral (k-diffusion's sample_euler_ancestral): a step of Euler's to below the next level, and
 * fresh noise up to it,
 *
 *     σ_up = √(σ'² (σ² - σ'²)/σ²),   σ_down = √(σ'² - σ_up²),   x' = x + (σ_down - σ) (x - x0)/σ + σ_up ε' */
#include "family.h"

#include <string.h>

/* ε' (n) */
static size_t state_bytes(size_t n)
{
    return n * sizeof(float);
}

static void step(const SamplerStep *s, void *state)
{
    float *fresh = state;
    const float sigma = s->from.noise;
    const Ancestral a = sampler_ancestral(sigma, s->to.noise);
    const float change = a.down - sigma;
    memset(fresh, 0, s->n * sizeof *fresh);
    if (a.up > 0)
        sampler_fresh(s, sigma, s->to.noise, fresh);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = s->x[k] + (s->x[k] - s->x0[k]) / sigma * change + fresh[k] * a.up;
}

const SamplerFamily sampler_euler_a = {
    .kind = {"euler_a", "Euler a",
             "Euler with fresh noise in each step: goes on changing as steps are added"},
    .scheduler = "EulerAncestralDiscreteScheduler",
    .spacing = SPACING_LINSPACE,
    .state_bytes = state_bytes,
    .levels = sampler_levels_of_sigma,
    .step = step,
};
