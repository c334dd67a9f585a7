/* Noise schedules: how much of the picture is left at each timestep, and what a model's scheduler_config.json
 * says. */
#ifndef ATL_SCHEDULE_H
#define ATL_SCHEDULE_H

#include "kernels/base/status.h"
#include "level.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum TimestepSpacing {
    SPACING_LEADING = 0,
    SPACING_LINSPACE,
    SPACING_TRAILING,
    SPACING_SGM_UNIFORM
} TimestepSpacing;

typedef struct NoiseSchedule {
    int train_steps;        /* 1000 */
    double *alphas_cumprod; /* train_steps values, as f32 arithmetic of PyTorch gives them; the last is 0
                             * under rescale_betas_zero_snr */
    PredictionType prediction;
    bool has_spacing; /* the file says so; absent: the sampler's own default */
    TimestepSpacing spacing;
    int steps_offset;
    char *json; /* the file, for what samplers follow of it */
} NoiseSchedule;

Status schedule_parse(const char *json, const char *origin, NoiseSchedule *out); /* scheduler_config.json */
Status schedule_default(NoiseSchedule *out);                                     /* SD1.5's */
void schedule_free(NoiseSchedule *s);
/* σ = √((1-ᾱ)/ᾱ) at t, along a line between whole timesteps (numpy.interp); where ᾱ is 0, as if it were
 * 2^-24, as diffusers has it. */
float schedule_sigma(const NoiseSchedule *s, float t);
/* The same along a line of log σ, as k-diffusion has it. */
float schedule_sigma_log(const NoiseSchedule *s, float t);
/* The timestep of a σ, along a line of log σ; beyond the schedule's ends, the end. */
double schedule_timestep(const NoiseSchedule *s, double sigma);
/* The whole timestep whose log σ is nearest. */
int schedule_nearest(const NoiseSchedule *s, float sigma);

#endif
