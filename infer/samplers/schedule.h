/* Noise schedules and samplers (DDIM, Song et al. 2021; Euler, Karras et al. 2022), as diffusers' defaults
 * have them. */
#ifndef ATL_SCHEDULE_H
#define ATL_SCHEDULE_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum PredictionType { PREDICT_EPSILON = 0, PREDICT_V, PREDICT_SAMPLE } PredictionType;
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
    char euler_refuses[64]; /* a setting in the file that would change what Euler does and is not here, or ""
                             */
} NoiseSchedule;

Status schedule_parse(const char *json, const char *origin, NoiseSchedule *out); /* scheduler_config.json */
Status schedule_default(NoiseSchedule *out);                                     /* SD1.5's */
void schedule_free(NoiseSchedule *s);

/* A sampler walks from noise to a picture; names in a table: "ddim", "euler". */
typedef struct Sampler Sampler;
typedef struct SamplerKind {
    const char *name, *label, *description; /* "ddim", "DDIM", … */
} SamplerKind;
const SamplerKind *sampler_kinds(int *count);
Status sampler_new(const char *name, const NoiseSchedule *s, int steps, Sampler **out);
void sampler_free(Sampler *s);
int sampler_steps(const Sampler *s);
float sampler_timestep(const Sampler *s, int i); /* what the UNet is told */
float sampler_initial_scale(const Sampler *s);   /* initial latents = noise * this */
void sampler_scale_input(const Sampler *s, int i, const float *x, float *out, size_t n);
/* x (n floats) of step i and the model's (guided) output -> x of step i+1, in place. */
void sampler_step(Sampler *s, int i, const float *output, float *x, size_t n);
/* Noises clean latents to the level of step `start` (picture to picture). */
void sampler_add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out,
                       size_t n);

#endif
