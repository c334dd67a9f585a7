/* Heun's method on the probability flow (Karras et al. 2022, algorithm 1): Euler's step to the next level is
 * a trial, and the step is made anew from where it began with the mean of both ends' slopes,
 *
 *     d = (x - x0)/σ,   x' = x + (σ' - σ) d,   d' = (x' - x0')/σ',   x' = x + (σ' - σ) (d + d')/2
 *
 * The last step, to no noise, is Euler's. */
#include "family.h"

#include <string.h>

/* x at the step's beginning and the slope there, (n) each */
static size_t state_bytes(size_t n)
{
    return 2 * n * sizeof(float);
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    return sampler_levels_in_pairs(s, schedule, NULL);
}

static void step(const SamplerStep *s, void *state)
{
    float *x = state, *slope = x + s->n;
    const float change = s->to.noise - s->base.noise;
    const bool trial = s->index % 2 == 0;
    if (trial)
        memcpy(x, s->x, s->n * sizeof *x);
    for (size_t k = 0; k < s->n; k++) {
        const float d = (s->x[k] - s->x0[k]) / s->from.noise;
        s->x[k] = x[k] + (trial ? d : (slope[k] + d) / 2) * change;
        slope[k] = d;
    }
}

static const SettingsDefaults ABSENT = {.curves = true, .clips = true};

const SamplerFamily sampler_heun = {
    .kind = {"heun", "Heun", "second order, two evaluations a step: exact, and slow", .twice = true},
    .scheduler = "HeunDiscreteScheduler",
    .spacing = SPACING_LINSPACE,
    .absent = &ABSENT,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
