/* DPM2 (k-diffusion's sample_dpm_2, diffusers' KDPM2): the slope in the middle of a step, which is the middle
 * of log σ, leads all the way,
 *
 *     σₘ = √(σ σ'),   xₘ = x + (σₘ - σ) (x - x0)/σ,   x' = x + (σ' - σ) (xₘ - x0ₘ)/σₘ
 *
 * The last step, to no noise, is Euler's. */
#include "family.h"

#include <math.h>
#include <string.h>

/* x at the step's beginning (n) */
static size_t state_bytes(size_t n)
{
    return n * sizeof(float);
}

static double middle(float from, float to)
{
    const float a = logf(from), b = logf(to);
    return (double)expf(a + 0.5f * (b - a));
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    return sampler_levels_in_pairs(s, schedule, middle);
}

static void step(const SamplerStep *s, void *state)
{
    float *x = state;
    const float change = s->to.noise - s->base.noise;
    if (s->index % 2 == 0)
        memcpy(x, s->x, s->n * sizeof *x);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = x[k] + (s->x[k] - s->x0[k]) / s->from.noise * change;
}

static const SettingsDefaults ABSENT = {.curves = true};

const SamplerFamily sampler_dpm2 = {
    .kind = {"dpm2", "DPM2", "second order by the slope in the middle, two evaluations a step",
             .twice = true},
    .scheduler = "KDPM2DiscreteScheduler",
    .spacing = SPACING_LINSPACE,
    .timesteps = TIMESTEP_KARRAS_WHOLE,
    .absent = &ABSENT,
    .k_schedule = "karras",
    .k_without_penultimate = true,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
