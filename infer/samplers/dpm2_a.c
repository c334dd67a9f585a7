/* DPM2 ancestral (k-diffusion's sample_dpm_2_ancestral): DPM2's step to below the next level, and fresh noise
 * up to it, as euler_a.c has it. The middle is that of log σ and log σ_down. */
#include "family.h"

#include <math.h>
#include <string.h>

/* x at the step's beginning and fresh noise, (n) each */
static size_t state_bytes(size_t n)
{
    return 2 * n * sizeof(float);
}

static double middle(float from, float to)
{
    const float a = logf(from), b = logf(sampler_ancestral(from, to).down);
    return (double)expf(a + 0.5f * (b - a));
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    return sampler_levels_in_pairs(s, schedule, middle);
}

static void go(const SamplerStep *s, const float *x, float change)
{
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = x[k] + (s->x[k] - s->x0[k]) / s->from.noise * change;
}

static void step(const SamplerStep *s, void *state)
{
    float *x = state, *fresh = x + s->n;
    if (s->index % 2 == 0) {
        memcpy(x, s->x, s->n * sizeof *x);
        go(s, x, s->to.noise - s->base.noise);
        return;
    }
    const Ancestral a = sampler_ancestral(s->base.noise, s->to.noise);
    go(s, x, a.down - s->base.noise);
    sampler_fresh(s, s->base.noise, s->to.noise, fresh);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] += fresh[k] * a.up;
}

static const SettingsDefaults ABSENT = {.curves = true};

const SamplerFamily sampler_dpm2_a = {
    .kind = {"dpm2_a", "DPM2 a", "dpm2 with fresh noise in each step, two evaluations a step", .twice = true},
    .scheduler = "KDPM2AncestralDiscreteScheduler",
    .spacing = SPACING_LINSPACE,
    .timesteps = TIMESTEP_KARRAS_WHOLE,
    .absent = &ABSENT,
    .k_schedule = "karras",
    .k_without_penultimate = true,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
