/* DPM-Solver++(S) of the SDE (k-diffusion's sample_dpmpp_sde): an ancestral step to the middle of log σ is a
 * trial, and x0 there leads the ancestral step from where it began,
 *
 *     x' = σ_down/σ x - (σ_down/σ - 1) x0ₘ + σ_up ε
 *
 * ε is the increment of one Brownian motion over σ, so that the trial's noise is part of the step's. The last
 * step, to no noise, is Euler's. */
#include "family.h"

#include <math.h>
#include <string.h>

/* x at the step's beginning and ε, (n) each */
static size_t state_bytes(size_t n)
{
    return 2 * n * sizeof(float);
}

/* σ as it comes back from its logarithm: ε depends on its last bits. */
static float through_log(float sigma)
{
    return expf(logf(sigma));
}

static double middle(float from, float to)
{
    const float t = -logf(from), change = -logf(to) - t;
    return (double)expf(-(t + change * 0.5f));
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    return sampler_levels_in_pairs(s, schedule, middle);
}

static void step(const SamplerStep *s, void *state)
{
    float *x = state, *fresh = x + s->n;
    const float from = through_log(s->base.noise);
    if (s->to.noise == 0) {
        for (size_t k = 0; k < s->n; k++)
            s->x[k] += (s->x[k] - s->x0[k]) / s->from.noise * (s->to.noise - s->from.noise);
        return;
    }
    if (s->index % 2 == 0)
        memcpy(x, s->x, s->n * sizeof *x);
    const float to = s->index % 2 == 0 ? s->to.noise : through_log(s->to.noise);
    const Ancestral a = sampler_ancestral(from, to);
    const float keep = through_log(a.down) / from, take = expm1f(logf(a.down) - logf(s->base.noise));
    sampler_fresh(s, from, to, fresh);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = keep * x[k] - take * s->x0[k] + fresh[k] * a.up;
}

static const SettingsDefaults ABSENT = {.curves = true};

const SamplerFamily sampler_dpmpp_sde = {
    .kind = {"dpmpp_sde", "DPM++ SDE",
             "second order with fresh noise, two evaluations a step: good at few steps", .twice = true},
    .scheduler = "DPMSolverSDEScheduler",
    .spacing = SPACING_LINSPACE,
    .absent = &ABSENT,
    .k_schedule = "karras",
    .motion = MOTION_ALWAYS,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
