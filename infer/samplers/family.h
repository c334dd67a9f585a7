/* What a sampler is, for the files in this folder: an entry of the table (ATL_SAMPLERS, sampler.h) and the
 * numbers of each step. Arithmetic is f32 in diffusers' order, element by element. */
#ifndef ATL_FAMILY_H
#define ATL_FAMILY_H

#include "sampler.h"

/* One step: x stands at level `from` and is to be moved to level `to`. */
typedef struct SamplerStep {
    NoiseLevel from, to;
    bool last;
    const float *x0, *noise; /* (n): what the model's output says is in x */
    float *x;                /* (n) */
    size_t n;
    const NoiseSource *source; /* of the noise that is added, if any is */
} SamplerStep;

/* A setting of scheduler_config.json that diffusers' scheduler of this kind follows, and the values of it
 * that are followed here (a JSON list); the file's silence is one. */
typedef struct SamplerSetting {
    const char *key, *values;
} SamplerSetting;

typedef struct SamplerFamily {
    SamplerKind kind;
    TimestepSpacing spacing;        /* where the model's schedule says nothing */
    bool whole_timesteps;           /* linspace: rounded */
    bool open_end;                  /* leading and linspace: with a last point, at the clean end, left out */
    const SamplerSetting *settings; /* key NULL after the last; NULL: none */
    /* Bytes of what it remembers from step to step, cleared before the first; NULL: nothing. */
    size_t (*state_bytes)(size_t n);
    /* Fills from, to and initial_scale; from[i].t is there. */
    void (*levels)(Sampler *s, const NoiseSchedule *schedule);
    void (*step)(const SamplerStep *step, void *state);
} SamplerFamily;

struct Sampler {
    const SamplerFamily *family;
    PredictionType prediction;
    TimestepSpacing spacing;
    int steps_asked;       /* diffusers' num_inference_steps */
    int steps;             /* what came of it; trailing spacing rounds to one more for a few counts */
    NoiseLevel *from, *to; /* before and after each step: `to` need not be the next one's `from` */
    float initial_scale;
    float clip; /* x0 is clamped to ± clip; 0: it is not */
    size_t n;
    float *x0, *noise; /* (n) */
    void *state;
};

/* levels() of those that go by σ and leave the picture as it is (x0 + σ ε), down to σ = 0. */
void sampler_levels_of_sigma(Sampler *s, const NoiseSchedule *schedule);

#define SAMPLER_DECLARE(word) extern const SamplerFamily sampler_##word;
ATL_SAMPLERS(SAMPLER_DECLARE)

#endif
