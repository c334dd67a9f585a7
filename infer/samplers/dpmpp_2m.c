/* DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): of second order, or of first or third where the model's
 * file says so. Its weights are the integrals of the solution's exponential over the step,
 *
 *     x' = noise'/noise x - signal' (e⁻ʰ - 1) D0 + signal' ((e⁻ʰ - 1)/h + 1) D1 - signal' ((e⁻ʰ - 1 + h)/h² -
 * ½) D2
 *
 * midpoint, which is usual at second order, takes -½ (e⁻ʰ - 1) for the weight of D1. The last step, to no
 * noise at all (h infinite), is x' = x0. */
#include "multistep.h"

#include <math.h>

static MultistepWeights rule(const SamplerStep *s, float h, int order)
{
    const float to = s->to.signal, fall = expf(-h) - 1;
    MultistepWeights w = {.keep = s->to.noise / s->from.noise, .a = -(to * fall)};
    if (order == 2 && !s->sampler->settings.heun)
        w.b = -0.5f * (to * fall);
    else if (order > 1)
        w.b = to * (fall / h + 1);
    if (order > 2)
        w.c = -(to * ((fall + h) / (h * h) - 0.5f));
    return w;
}

static void step(const SamplerStep *s, void *state)
{
    multistep_step(s, state, rule);
}

const SamplerFamily sampler_dpmpp_2m = {
    .kind = {"dpmpp_2m", "DPM++ 2M", "second order and deterministic: good from 10 steps on"},
    .scheduler = "DPMSolverMultistepScheduler",
    .algorithm = "dpmsolver++",
    .spacing = SPACING_LINSPACE,
    .timesteps = TIMESTEP_WHOLE,
    .open_end = true,
    .whole_range = true,
    .absent = &MULTISTEP_ABSENT,
    .settings = MULTISTEP_SETTINGS,
    .k_schedule = "karras",
    .state_bytes = multistep_state_bytes,
    .levels = sampler_levels_shrunk,
    .step = step,
};
