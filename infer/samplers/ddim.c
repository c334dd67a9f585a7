/* DDIM with eta 0 (Song et al. 2021, formula 12): the next x is made of the picture as the model sees it now
 * and of the noise, at the next level,
 *
 *     x' = √ᾱ' x0 + √(1-ᾱ') ε */
#include "family.h"

#include <math.h>

static void levels(Sampler *s, const NoiseSchedule *schedule)
{
    const int stride = schedule->train_steps / s->steps_asked;
    const float last = schedule->set_alpha_to_one ? 1.0f : (float)schedule->alphas_cumprod[0];
    for (int i = 0; i < s->steps; i++) {
        const int t = (int)s->from[i].t, next = t - stride;
        s->from[i] = level_of_alpha((float)t, (float)schedule->alphas_cumprod[t]);
        s->to[i] = level_of_alpha((float)next, next >= 0 ? (float)schedule->alphas_cumprod[next] : last);
    }
    s->initial_scale = 1;
}

static void step(const SamplerStep *s, void *state)
{
    (void)state;
    level_mix(s->to, s->x0, s->noise, s->x, s->n);
}

const SamplerFamily sampler_ddim = {
    .kind = {"ddim", "DDIM", "deterministic, and good from 20 steps on", .clips = true},
    .spacing = SPACING_LEADING,
    .whole_timesteps = true,
    .levels = levels,
    .step = step,
};
