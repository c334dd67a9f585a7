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

static Status levels_as_diffusers(Sampler *s, const NoiseSchedule *schedule)
{
    const int taught = s->settings.original_steps, stride = schedule->train_steps / taught;
    if (s->steps > taught)
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

/* As A1111: evenly over those that it was taught at, σ between two on a line of log σ; the model is told the
 * nearest. Place i of 50 is the timestep 20 i + 19. */
static float taught_sigma(const NoiseSchedule *schedule, int stride, int place)
{
    return schedule_sigma(schedule, (float)((place + 1) * stride - 1));
}

static int nearest_place(const NoiseSchedule *schedule, int taught, int stride, float sigma)
{
    int best = 0;
    for (int i = 1; i < taught; i++)
        if (fabsf(logf(sigma / taught_sigma(schedule, stride, i))) <
            fabsf(logf(sigma / taught_sigma(schedule, stride, best))))
            best = i;
    return best;
}

static NoiseLevel level_at(const NoiseSchedule *schedule, int taught, int stride, double place)
{
    const int before = (int)floor(place), after = before + 1 < taught ? before + 1 : before;
    const double a = log((double)taught_sigma(schedule, stride, before)),
                 b = log((double)taught_sigma(schedule, stride, after));
    const float sigma = (float)exp(a + (place - before) * (b - a));
    const int told = nearest_place(schedule, taught, stride, sigma);
    return level_of_sigma((float)((told + 1) * stride - 1), sigma);
}

static Status levels_as_a1111(Sampler *s, const NoiseSchedule *schedule)
{
    const int taught = s->settings.original_steps, stride = schedule->train_steps / taught;
    s->calls = s->steps;
    for (int i = 0; i < s->calls; i++) {
        const double way = s->calls > 1 ? (double)i / (s->calls - 1) : 0;
        s->base[i] = s->from[i] = level_at(schedule, taught, stride, (1 - way) * (taught - 1));
        s->to[i] = level_of_sigma(0, 0);
        if (i > 0)
            s->to[i - 1] = s->from[i];
    }
    s->initial_scale = s->from[0].noise;
    return STATUS_OK;
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    if (s->settings.original_steps > schedule->train_steps)
        return status_refuse(
            "the model's scheduler_config.json has original_inference_steps %d, more than its "
            "%d timesteps",
            s->settings.original_steps, schedule->train_steps);
    return s->convention == SAMPLER_A1111   ? levels_as_a1111(s, schedule)
           : s->convention == SAMPLER_COMFY ? sampler_levels_of_sigma(s, schedule)
                                            : levels_as_diffusers(s, schedule);
}

/* ComfyUI takes what the model sees as it is. */
static void step(const SamplerStep *s, void *state)
{
    float *fresh = state;
    const bool plain = s->sampler->convention == SAMPLER_COMFY;
    const double t = (double)s->from.t * s->sampler->settings.timestep_scaling,
                 data = SIGMA_DATA * SIGMA_DATA;
    const float skip = plain ? 0 : (float)(data / (t * t + data)),
                out = plain ? 1 : (float)(t / sqrt(t * t + data));
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
