/* SDE-DPM-Solver++(2M) (Lu et al. 2022, formula 19): as dpmpp_2m.c along the SDE, which forgets x twice as
 * fast and adds noise for it,
 *
 *     x' = noise'/noise e⁻ʰ x + signal' (1 - e⁻²ʰ) D0 + … + noise' √(1 - e⁻²ʰ) ε
 *
 * with 2h for h in the weights of D1 and D2. */
#include "multistep.h"

#include <math.h>

static MultistepWeights rule(const SamplerStep *s, float h, int order)
{
    const float to = s->to.signal, rise = 1 - expf(-2 * h);
    MultistepWeights w = {.keep = s->to.noise / s->from.noise * expf(-h),
                          .a = to * rise,
                          .noise = s->to.noise * sqrtf(1 - expf(-2 * h))};
    if (order == 2 && !s->sampler->settings.heun)
        w.b = 0.5f * (to * rise);
    else if (order > 1)
        w.b = to * (rise / (-2 * h) + 1);
    if (order > 2)
        w.c = to * ((rise - 2 * h) / (4 * h * h) - 0.5f);
    return w;
}

static void step(const SamplerStep *s, void *state)
{
    multistep_step(s, state, rule);
}

const SamplerFamily sampler_dpmpp_2m_sde = {
    .kind = {"dpmpp_2m_sde", "DPM++ 2M SDE", "dpmpp_2m with fresh noise in each step, for 20 steps and more"},
    .scheduler = "DPMSolverMultistepScheduler",
    .algorithm = "sde-dpmsolver++",
    .spacing = SPACING_LINSPACE,
    .timesteps = TIMESTEP_WHOLE,
    .open_end = true,
    .whole_range = true,
    .absent = &MULTISTEP_ABSENT,
    .settings = MULTISTEP_SETTINGS,
    .k_schedule = "exponential",
    .motion = MOTION_AS_K_DIFFUSION,
    .state_bytes = multistep_state_bytes,
    .levels = sampler_levels_shrunk,
    .step = step,
};
