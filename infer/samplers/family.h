/* What a sampler is, for the files in this folder: an entry of the table (ATL_SAMPLERS, sampler.h) and the
 * numbers of each call. Arithmetic is f32 in diffusers' order, element by element. */
#ifndef ATL_FAMILY_H
#define ATL_FAMILY_H

#include "infer/noise/brownian.h"
#include "sampler.h"
#include "settings.h"

/* One evaluation of the model, and what is made of it: the model was asked at `from`, and the walk goes from
 * `base` to `to`. A sampler with one evaluation a step has base = from; one with two goes from base to an
 * inner level, asks there, and goes from the same base to the step's end. */
typedef struct SamplerStep {
    NoiseLevel base, from, to;
    int index, count;        /* of calls, from 0 */
    const float *output;     /* (n): the model's */
    const float *x0, *noise; /* (n): what that says is in x */
    float *x;                /* (n) */
    size_t n;
    const Sampler *sampler;
    const NoiseSource *source; /* of the noise that is added, if any is */
} SamplerStep;

/* A setting of scheduler_config.json that diffusers' scheduler of this kind follows, and the values of it
 * that are followed here (a JSON list); the file's silence is one. */
typedef struct SamplerSetting {
    const char *key, *values;
} SamplerSetting;

/* Whether the noise that is added is that of a Brownian motion over σ (k-diffusion's SDE samplers). */
typedef enum NoiseOverSigma { MOTION_NEVER = 0, MOTION_AS_K_DIFFUSION, MOTION_ALWAYS } NoiseOverSigma;

/* What it goes by, and so which schedules it takes. */
typedef enum GridOf {
    GRID_OF_SIGMA = 0, /* all of them */
    GRID_OF_TIMESTEPS, /* no curves of σ */
    GRID_OWN           /* none */
} GridOf;

typedef struct SamplerFamily {
    SamplerKind kind;
    const char *scheduler;   /* diffusers' class */
    const char *algorithm;   /* its algorithm_type, where a class is several samplers; NULL: any */
    TimestepSpacing spacing; /* where the model's schedule says nothing */
    TimestepKind timesteps;  /* as diffusers' scheduler rounds them */
    GridOf grid;
    bool open_end;                  /* leading and linspace: with a last point, at the clean end, left out */
    bool takes_eta;                 /* SamplerChoice.eta */
    bool whole_range;               /* its curves run over all of the schedule */
    const SettingsDefaults *absent; /* what the file follows of settings.h; NULL: nothing */
    const SamplerSetting *settings; /* key NULL after the last; NULL: none */
    /* Words of schedules other programs take where nothing is said; NULL: linspace. */
    const char *k_schedule;
    bool k_without_penultimate; /* and whether they leave out the last point but one */
    bool a1111_by_timesteps;    /* A1111 has it among those that go by timesteps (a1111.c) */
    NoiseOverSigma motion;
    /* Bytes of what it remembers from call to call, cleared before the first; NULL: nothing. */
    size_t (*state_bytes)(size_t n);
    /* Fills base, from, to, calls and initial_scale; points, spacing and final_sigma are there. */
    Status (*levels)(Sampler *s, const NoiseSchedule *schedule);
    void (*step)(const SamplerStep *step, void *state);
} SamplerFamily;

struct Sampler {
    const SamplerFamily *family;
    SamplerSettings settings;
    PredictionType prediction;
    SamplerConvention convention;
    TimestepSpacing spacing;
    TimestepKind timesteps;
    int steps;         /* diffusers' num_inference_steps */
    GridPoint *points; /* where the steps begin */
    int point_count;
    float final_sigma;            /* where the last one ends */
    NoiseLevel *base, *from, *to; /* of each call */
    int calls;
    int skipped; /* of the user's steps */
    bool from_picture, begins_apart;
    NoiseLevel
        begun; /* where begins_apart: what a picture is noised to, which is not its first step's level */
    float initial_scale;
    float eta;
    size_t n;
    float *x0, *noise, *scratch; /* (n) */
    Brownian *motion;            /* over σ; NULL: fresh noise is the source's */
    void *state;
};

/* levels() of those that go by σ: one call a step. With sampler_levels_of_sigma the picture is left as it is
 * (x0 + σ ε), with sampler_levels_shrunk x is that over √(σ²+1). */
Status sampler_levels_of_sigma(Sampler *s, const NoiseSchedule *schedule);
Status sampler_levels_shrunk(Sampler *s, const NoiseSchedule *schedule);
/* Two calls a step, the second at the σ that inner() says, the last step one. The first of a pair goes to
 * that level, the second from the pair's base to the step's end. */
Status sampler_levels_in_pairs(Sampler *s, const NoiseSchedule *schedule,
                               double (*inner)(float from, float to));
/* The level of a timestep by ᾱ; below 0: no noise, or the first timestep's (set_alpha_to_one false). */
NoiseLevel sampler_level_by_alpha(const Sampler *s, const NoiseSchedule *schedule, int t);
/* A1111's grid of those that go by timesteps, upwards from 1: the timestep at place i of a1111_places(). */
int a1111_timestep(const Sampler *s, const NoiseSchedule *schedule, int i);
int a1111_places(const Sampler *s, const NoiseSchedule *schedule);
/* From a picture: sets begun, and skipped as those calls that are left out of a walk from the last place;
 * returns how many places are gone through. */
int a1111_begin(Sampler *s, const NoiseSchedule *schedule);
/* Room for so many calls beyond two for each step. */
#define SAMPLER_SPARE_CALLS 16

/* Fresh noise (n) for going from σ to σ': of the motion, or of the source. */
void sampler_fresh(const SamplerStep *s, float from, float to, float *out);
/* An ancestral step to σ': as far as `down` by the flow, and noise of `up` on it. */
typedef struct Ancestral {
    float down, up;
} Ancestral;
Ancestral sampler_ancestral(float from, float to);

#define SAMPLER_DECLARE(word) extern const SamplerFamily sampler_##word;
ATL_SAMPLERS(SAMPLER_DECLARE)

#endif
