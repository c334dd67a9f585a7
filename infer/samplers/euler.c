/* Euler's method on the probability flow (Karras et al. 2022, algorithm 1 without churn):
 *
 *     dx/dσ = (x - x0)/σ,   x' = x + (σ' - σ) dx/dσ,   σ = 0 after the last step */
#include "family.h"

static void step(const SamplerStep *s, void *state)
{
    (void)state;
    const float sigma = s->from.noise, change = s->to.noise - sigma;
    for (size_t k = 0; k < s->n; k++)
        s->x[k] += (s->x[k] - s->x0[k]) / sigma * change;
}

static const SettingsDefaults ABSENT = {.curves = true, .final_sigma = true};
static const SamplerSetting SETTINGS[] = {
    {"interpolation_type", "[\"linear\"]"}, {"timestep_type", "[\"discrete\"]"}, {NULL, NULL}};

const SamplerFamily sampler_euler = {
    .kind = {"euler", "Euler", "first order on the noise levels, much like ddim"},
    .scheduler = "EulerDiscreteScheduler",
    .spacing = SPACING_LINSPACE,
    .absent = &ABSENT,
    .settings = SETTINGS,
    .levels = sampler_levels_of_sigma,
    .step = step,
};
