/* Latent consistency models (Luo et al. 2023): the model sees the picture at once, from any level; each step
 * takes it there and noises it again to the next level,
 *
 *     d = c_out x0 + c_skip x,   x' = √ᾱ' d + √(1-ᾱ') ε,   c_skip = ¼/((10 t)² + ¼), c_out = 10 t/√((10 t)² +
 * ¼)
 *
 * Steps are some of the 50 that it was taught at. The last one ends in d. */
#include "family.h"

#include <math.h>

#define SIGMA_DATA 0.5

/* ε (n) */
static size_t state_bytes(size_t n)
{
    return n * sizeof(float);
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    const int taught = s->settings.original_steps, stride = schedule->train_steps / taught;
    if (taught > schedule->train_steps || s->steps > taught)
        return status_refuse("%d sampling steps; lcm has at most the %d that the model was taught at",
                             s->steps, taught);
    s->calls = s->steps;
    for (int i = 0; i < s->calls; i++) {
        const int place = (int)floor(i * ((double)taught / s->steps));
        s->base[i] = s->from[i] = sampler_level_by_alpha(s, schedule, (taught - place) * stride - 1);
    }
    for (int i = 0; i < s->calls; i++)
        s->to[i] = i + 1 < s->calls ? s->from[i + 1] : s->from[i];
    s->initial_scale = 1;
    return STATUS_OK;
}

static void step(const SamplerStep *s, void *state)
{
    float *fresh = state;
    const double t = (double)s->from.t * s->sampler->settings.timestep_scaling,
                 data = SIGMA_DATA * SIGMA_DATA;
    const float skip = (float)(data / (t * t + data)), out = (float)(t / sqrt(t * t + data));
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = out * s->x0[k] + skip * s->x[k];
    if (s->index + 1 == s->count)
        return;
    sampler_fresh(s, s->from.noise, s->to.noise, fresh);
    level_mix(s->to, s->x, fresh, s->x, s->n);
}

static const SettingsDefaults ABSENT = {.thresholds = true, .clips = true, .set_alpha_to_one = true};

const SamplerFamily sampler_lcm = {
    .kind = {"lcm", "LCM", "for latent consistency models and LoRAs only: 2 to 8 steps, guidance of 1 to 2"},
    .scheduler = "LCMScheduler",
    .spacing = SPACING_LEADING,
    .timesteps = TIMESTEP_WHOLE,
    .grid = GRID_OWN,
    .absent = &ABSENT,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
