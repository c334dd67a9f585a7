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

static const SamplerSetting SETTINGS[] = {{"use_karras_sigmas", "[false]"},
                                          {"use_exponential_sigmas", "[false]"},
                                          {"use_beta_sigmas", "[false]"},
                                          {"interpolation_type", "[\"linear\"]"},
                                          {"timestep_type", "[\"discrete\"]"},
                                          {"final_sigmas_type", "[\"zero\"]"},
                                          {NULL, NULL}};

const SamplerFamily sampler_euler = {
    .kind = {"euler", "Euler", "first order on the noise levels, much like ddim"},
    .spacing = SPACING_LINSPACE,
    .settings = SETTINGS,
    .levels = sampler_levels_of_sigma,
    .step = step,
};
