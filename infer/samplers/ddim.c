/* DDIM with eta 0 (Song et al. 2021, formula 12): the next x is made of the picture as the model sees it now
 * and of the noise, at the next level,
 *
 *     x' = √ᾱ' x0 + √(1-ᾱ') ε */
#include "family.h"

/* As diffusers: from t to t - ⌊T/n⌋, wherever the next step begins. */
static Status levels_by_stride(Sampler *s, const NoiseSchedule *schedule)
{
    const int stride = schedule->train_steps / s->steps;
    s->calls = s->point_count;
    for (int i = 0; i < s->calls; i++) {
        const int t = (int)s->points[i].t;
        s->base[i] = s->from[i] = sampler_level_by_alpha(s, schedule, t);
        s->to[i] = sampler_level_by_alpha(s, schedule, t - stride);
    }
    s->initial_scale = 1;
    return STATUS_OK;
}

/* As A1111: t = 1, 1 + ⌊T/n⌋, … is gone back along, down to 1, where it ends. */
static Status levels_to_one(Sampler *s, const NoiseSchedule *schedule)
{
    const int total = schedule->train_steps, stride = total / s->steps;
    const int count = (total + stride - 1) / stride;
    s->calls = count > 1 ? count - 1 : 1;
    for (int i = 0; i < s->calls; i++) {
        const int t = (s->calls - i) * stride + 1;
        s->base[i] = s->from[i] = sampler_level_by_alpha(s, schedule, t < total ? t : total - 1);
        s->to[i] = sampler_level_by_alpha(s, schedule, t - stride);
    }
    s->initial_scale = 1;
    return STATUS_OK;
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    if (s->convention == SAMPLER_COMFY) /* Euler's, which is the same walk */
        return sampler_levels_shrunk(s, schedule);
    return s->convention == SAMPLER_A1111 ? levels_to_one(s, schedule) : levels_by_stride(s, schedule);
}

static void step(const SamplerStep *s, void *state)
{
    (void)state;
    level_mix(s->to, s->x0, s->noise, s->x, s->n);
}

static const SettingsDefaults ABSENT = {
    .thresholds = true, .clips = true, .clip_sample = true, .set_alpha_to_one = true};

const SamplerFamily sampler_ddim = {
    .kind = {"ddim", "DDIM", "deterministic, and good from 20 steps on"},
    .scheduler = "DDIMScheduler",
    .spacing = SPACING_LEADING,
    .timesteps = TIMESTEP_WHOLE,
    .grid = GRID_OF_TIMESTEPS,
    .absent = &ABSENT,
    .levels = levels,
    .step = step,
};
