/* DDIM (Song et al. 2021, formulas 12 and 16): the next x is made of the picture as the model sees it now and
 * of the noise, at the next level; with eta some of that noise is fresh,
 *
 *     s = η √((1-ᾱ')/(1-ᾱ) (1-ᾱ/ᾱ')),   x' = √ᾱ' x0 + √(1-ᾱ'-s²) ε + s ε' */
#include "family.h"

#include <math.h>

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

/* As A1111: down to timestep 1, where it ends. */
static Status levels_to_one(Sampler *s, const NoiseSchedule *schedule)
{
    a1111_begin(s, schedule);
    s->calls = a1111_places(s, schedule) - 1;
    for (int i = 0; i < s->calls; i++) {
        const int place = s->calls - i;
        s->base[i] = s->from[i] = sampler_level_by_alpha(s, schedule, a1111_timestep(s, schedule, place));
        s->to[i] = sampler_level_by_alpha(s, schedule, a1111_timestep(s, schedule, place - 1));
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

/* ε' (n) */
static size_t state_bytes(size_t n)
{
    return n * sizeof(float);
}

static void step(const SamplerStep *s, void *state)
{
    const float eta = s->sampler->eta, *fresh = state;
    if (eta <= 0) {
        level_mix(s->to, s->x0, s->noise, s->x, s->n);
        return;
    }
    const float before = s->from.signal / s->to.signal, share = s->to.noise / s->from.noise;
    const float added = eta * share * sqrtf(fmaxf(0, 1 - before * before));
    const float kept = sqrtf(fmaxf(0, s->to.noise * s->to.noise - added * added));
    sampler_fresh(s, s->from.noise, s->to.noise, state);
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = s->to.signal * s->x0[k] + kept * s->noise[k] + added * fresh[k];
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
    .takes_eta = true,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
