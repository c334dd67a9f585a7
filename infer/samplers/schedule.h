/* Noise schedules: how much of the picture is left at each timestep, and what a model's scheduler_config.json
 * says. */
#ifndef ATL_SCHEDULE_H
#define ATL_SCHEDULE_H

#include "kernels/base/status.h"
#include "level.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum TimestepSpacing { SPACING_LEADING = 0, SPACING_LINSPACE, SPACING_TRAILING } TimestepSpacing;

typedef struct NoiseSchedule {
    int train_steps;        /* 1000 */
    double *alphas_cumprod; /* train_steps values, as f32 arithmetic of PyTorch gives them */
    PredictionType prediction;
    bool has_spacing; /* the file says so; absent: the sampler's own default */
    TimestepSpacing spacing;
    int steps_offset;
    bool set_alpha_to_one, clip_sample; /* DDIM's; absent in the file: true, as diffusers has it */
    double clip_sample_range;           /* 1 */
    char *json;                         /* the file, for what only some samplers follow */
} NoiseSchedule;

Status schedule_parse(const char *json, const char *origin, NoiseSchedule *out); /* scheduler_config.json */
Status schedule_default(NoiseSchedule *out);                                     /* SD1.5's */
void schedule_free(NoiseSchedule *s);
/* σ = √((1-ᾱ)/ᾱ) at t, along a line between whole timesteps (numpy.interp). */
float schedule_sigma(const NoiseSchedule *s, float t);

#endif
