/* Samplers: the ways from noise to a picture, as diffusers' defaults have them. What one is, for the files in
 * this folder, says family.h.
 *
 *     TRY(sampler_new(&choice, &model->schedule, 20, n, &s));
 *     x = noise * sampler_initial_scale(s)
 *     for (int i = 0; i < sampler_steps(s); i++) {
 *         sampler_input(s, i, x, input);
 *         output = model(input, sampler_timestep(s, i))
 *         sampler_step(s, i, output, &noise, x);
 *     }
 *
 * Each of these steps asks the model once. Of what users call steps, some samplers take two for one. */
#ifndef ATL_SAMPLER_H
#define ATL_SAMPLER_H

#include "infer/noise/noise.h"
#include "infer/schedules/grid.h"
#include "kernels/base/status.h"

/* All of them, by the word that users choose one by: infer/samplers/WORD.c has sampler_WORD. */
#define ATL_SAMPLERS(X)                                                                                      \
    X(ddim)                                                                                                  \
    X(pndm)                                                                                                  \
    X(euler)                                                                                                 \
    X(euler_a)                                                                                               \
    X(heun)                                                                                                  \
    X(dpm2)                                                                                                  \
    X(dpm2_a)                                                                                                \
    X(dpmpp_2m)                                                                                              \
    X(dpmpp_2m_sde)                                                                                          \
    X(dpmpp_sde)                                                                                             \
    X(unipc)                                                                                                 \
    X(lcm)
#define SAMPLER_AUTO "auto" /* what the model's scheduler_config.json names */

/* "auto|ddim|pndm|…", as options and the configuration's schema have choices. */
#define SAMPLER_OR(word) "|" #word
#define SAMPLER_WORDS SAMPLER_AUTO ATL_SAMPLERS(SAMPLER_OR)

typedef struct SamplerKind {
    const char *name, *label; /* "euler_a"; "Euler a", as A1111 writes it into pictures */
    const char *description;  /* what it is good for, in few words */
    bool twice;               /* asks the model twice a step */
} SamplerKind;
const SamplerKind *sampler_kinds(int *count);      /* in the table's order */
const SamplerKind *sampler_kind(const char *name); /* NULL: there is none of this name */

/* Whose way of reading the same settings. */
typedef enum SamplerConvention {
    SAMPLER_DIFFUSERS = 0,
    SAMPLER_A1111, /* k-diffusion's: σ between timesteps in log, timesteps that are no whole numbers */
    SAMPLER_COMFY  /* the same with the nearest whole timestep */
} SamplerConvention;

typedef struct SamplerChoice {
    const char *name;     /* NULL or auto: what the model's file names, else the first of the table */
    const char *schedule; /* one of SCHEDULE_WORDS; NULL: auto */
    SamplerConvention convention;
    NoiseKind noise; /* of a Brownian motion, and its seed: the picture's */
    uint64_t seed;
    int skipped;       /* of the user's steps, the first so many are left out */
    bool from_picture; /* the walk begins at one */
    float eta; /* share of a step's noise that is fresh, from 0 (none) to 1 (as in DDPM); ddim's alone */
} SamplerChoice;

/* What auto comes to for a model with this schedule: the sampler's name. */
const char *sampler_of_model(const NoiseSchedule *s);
/* ± what x0 is clamped to by this sampler (auto: the model's); 0: it is not. */
double sampler_clip(const char *name, const NoiseSchedule *s);

typedef struct Sampler Sampler;
/* One walk of one picture of n numbers, from the first step to the last. Refuses an unknown name, settings of
 * the model's file that are not followed here, and a number of steps that the schedule does not allow. */
Status sampler_new(const SamplerChoice *choice, const NoiseSchedule *s, int steps, size_t n, Sampler **out);
void sampler_free(Sampler *s);
const char *sampler_name(const Sampler *s);
int sampler_steps(const Sampler *s); /* evaluations of the model */
int sampler_order(
    const Sampler *s); /* the user's k-th step, from 0, begins at k times this, as in diffusers */
int sampler_first(const Sampler *s); /* the step that is done first: the first that is not skipped */
float sampler_timestep(const Sampler *s, int i);                         /* what the model is told */
float sampler_sigma(const Sampler *s, int i);                            /* noise over signal at step i */
float sampler_initial_scale(const Sampler *s);                           /* the first x = noise * this */
void sampler_input(const Sampler *s, int i, const float *x, float *out); /* what the model is given for x */
/* What the model's output at step i takes the picture to be without its noise (x0 may be x), and back: what
 * it would have put out for x0. (n) each */
void sampler_picture(Sampler *s, int i, const float *x, const float *output, float *x0);
void sampler_output(const Sampler *s, int i, const float *x, const float *x0, float *output);
/* It is a sampler of timesteps, not of noise levels, where both are known: DDIM, PNDM, and A1111's UniPC. */
bool sampler_goes_by_timesteps(const Sampler *s);
/* x of step i and the model's (guided) output -> x of step i+1, in place. */
void sampler_step(Sampler *s, int i, const float *output, const NoiseSource *noise, float *x);
/* What the last step took the picture to be without its noise. */
const float *sampler_x0(const Sampler *s);
/* Noises clean latents to the level of step i, or to that which a walk from a picture begins at. */
void sampler_begin(const Sampler *s, const float *x0, const float *noise, float *out);
void sampler_add_noise(const Sampler *s, int i, const float *x0, const float *noise, float *out);

#endif
