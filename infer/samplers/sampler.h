/* What a family of samplers is, for the files in this folder: a table entry and the numbers of each step.
 *
 * To add one: write a file with its family, and name it in FAMILIES (sampler.c). Arithmetic is f32 in
 * diffusers' order, element by element. */
#ifndef ATL_SAMPLER_H
#define ATL_SAMPLER_H

#include "schedule.h"

typedef struct SamplerFamily {
    SamplerKind kind;
    TimestepSpacing spacing; /* where the model's schedule says nothing */
    /* Fills from, to (room for steps floats each) and initial_scale. s->timesteps, s->steps and s->spacing
     * are set. */
    Status (*init)(Sampler *s, const NoiseSchedule *schedule);
    void (*scale_input)(const Sampler *s, int i, const float *x, float *out, size_t n); /* NULL: as it is */
    void (*step)(Sampler *s, int i, const float *output, float *x, size_t n);
    void (*add_noise)(const Sampler *s, int start, const float *x0, const float *noise, float *out, size_t n);
} SamplerFamily;

struct Sampler {
    const SamplerFamily *family;
    PredictionType prediction;
    TimestepSpacing spacing;
    int steps_asked; /* diffusers' num_inference_steps */
    int steps;       /* what came of it; trailing spacing rounds to one more for a few counts */
    float *timesteps;
    float *from, *to; /* the noise level before and after each step: ᾱ (DDIM) or σ (Euler) */
    float initial_scale;
    float clip; /* x0 is clamped to ± clip; 0: it is not */
};

extern const SamplerFamily sampler_ddim, sampler_euler;

#endif
